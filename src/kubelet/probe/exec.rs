//! Probing by a command in the container.

use std::time::Duration;

use k3s_cri::{Error, RuntimeService};

use super::Outcome;

/// How much of a failed command's output is told.
const MAX_OUTPUT: usize = 10 * 1024;

pub(super) async fn probe(
    runtime: &dyn RuntimeService,
    container_id: &str,
    command: Vec<String>,
    timeout: Duration,
) -> Outcome {
    match runtime.exec_sync(container_id, command.clone(), timeout).await {
        Ok(output) if output.exit_code == 0 => Outcome::Success,
        Ok(output) => {
            let mut bytes = output.stdout;
            bytes.extend(output.stderr);
            bytes.truncate(MAX_OUTPUT);
            Outcome::Failure(String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(Error::Timeout { .. }) => {
            let seconds = timeout.as_secs();
            Outcome::Failure(format!("command timed out: \"{}\" timed out after {seconds}s", command.join(" ")))
        }
        Err(error) => Outcome::Failure(error.to_string()),
    }
}
