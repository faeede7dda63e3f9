//! postStart and preStop hooks.

use std::time::Duration;

use k3s_cri::Error;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use tokio::net::TcpStream;

use crate::context::Context;
use crate::probe::{self, Outcome};

/// How long a single request of a hook may take; a hook as a whole is bounded by the pod's grace period.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a hook to its end, at most for `limit`. The error says what went wrong.
pub(super) async fn run(
    ctx: &Context,
    handler: &LifecycleHandler,
    container: &Container,
    container_id: &str,
    pod_host: &str,
    limit: Duration,
) -> Result<(), String> {
    if let Some(action) = &handler.exec {
        let command = action.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        return match ctx.runtime.exec_sync(container_id, command, limit).await {
            Ok(output) if output.exit_code == 0 => Ok(()),
            Ok(output) => Err(format!(
                "Exec lifecycle hook ([{shown}]) failed - error: command '{shown}' exited with {}: {}, message: {:?}",
                output.exit_code,
                String::from_utf8_lossy(&output.stderr),
                String::from_utf8_lossy(&output.stdout)
            )),
            Err(Error::Timeout { .. }) => Err(format!("Exec lifecycle hook ([{shown}]) timed out")),
            Err(error) => Err(format!("Exec lifecycle hook ([{shown}]) failed - error: {error}")),
        };
    }
    if let Some(action) = &handler.http_get {
        return match probe::http::get(action, container, pod_host, limit.min(REQUEST_TIMEOUT)).await {
            Outcome::Success => Ok(()),
            Outcome::Failure(message) | Outcome::Refused(message) => {
                Err(format!("HTTP lifecycle hook failed: {message}"))
            }
        };
    }
    if let Some(action) = &handler.sleep {
        let seconds = u64::try_from(action.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds).min(limit)).await;
        return Ok(());
    }
    if let Some(action) = &handler.tcp_socket {
        let host = action.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(pod_host);
        let port = probe::resolve_port(&action.port, container).ok_or("TCP lifecycle hook: no such port")?;
        let connect = TcpStream::connect((host, port));
        return match tokio::time::timeout(limit.min(REQUEST_TIMEOUT), connect).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("TCP lifecycle hook failed: {error}")),
            Err(_) => Err("TCP lifecycle hook timed out".into()),
        };
    }
    Err("invalid handler: nothing to do".into())
}
