//! `k3s server`.

mod api_arguments;
mod certificate;
mod control_plane;
mod host;
mod host_ports;
mod identity;
mod kubeconfig;
mod node;
mod readiness;
mod reload;
mod role;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k3s_env::Server;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::kubectl;

/// How long components have to end after a signal; then the process ends anyway. Nothing is lost: what was acknowledged
/// is on disk.
const STOP: Duration = Duration::from_secs(15);

pub fn run(args: Vec<OsString>) -> ExitCode {
    let variable = |name: &str| std::env::var(name).ok();
    let config = match Server::resolve(args, variable, &default_config()) {
        Ok(config) => config,
        Err(k3s_env::Error::CommandLine(error)) => error.exit(),
        Err(error) => {
            eprintln!("k3s server: {error}");
            return ExitCode::FAILURE;
        }
    };
    match start(config) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("k3s server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// `/etc/rancher/k3s/config.yaml` of the host. Inside the launcher's namespaces `/etc/rancher` is the cluster's own, and
/// the host's /etc is kept beside.
pub fn default_config() -> PathBuf {
    let inside = k3s_rootless::is_child();
    if inside { "/etc/.host/rancher/k3s/config.yaml" } else { "/etc/rancher/k3s/config.yaml" }.into()
}

fn start(config: Server) -> anyhow::Result<ExitCode> {
    if config.rootless && !k3s_rootless::is_child() {
        if nix::unistd::geteuid().is_root() {
            bail!("--rootless is for ordinary users; as root, run k3s server without it");
        }
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let launcher = k3s_rootless::Config::from_env(variables, config.data_dir.root(), false)?;
        let exit = k3s_rootless::launch(&launcher, std::env::args_os())?;
        return Ok(ExitCode::from(u8::try_from(exit.code()).unwrap_or(1)));
    }
    if !config.rootless && !config.disable_agent && !nix::unistd::geteuid().is_root() {
        bail!("a node needs root; as an ordinary user, run k3s server --rootless");
    }
    if config.node.protect_kernel_defaults && !config.disable_agent {
        let differing = k3s_env::host::differing_kernel_defaults(&k3s_env::host::Host::this());
        if !differing.is_empty() {
            bail!("--protect-kernel-defaults: set what the kubelet wants: sudo sysctl -w {}", differing.join(" "));
        }
    }
    config.logging.start()?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    kubectl::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 8)))
        // Threads that wait for the disk; each has a stack.
        .max_blocking_threads(32)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_stack_size(1 << 20)
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(config));
    runtime.shutdown_timeout(Duration::from_secs(2));
    result.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: Server) -> anyhow::Result<()> {
    tracing::info!(version = crate::version::KUBERNETES, rootless = config.rootless, "starting k3s");
    let cancel = CancellationToken::new();
    cancel_on_signal(cancel.clone())?;
    let hang_ups = reload::listen(cancel.clone())?;
    let readiness = readiness::Readiness::announce(cancel.clone());
    let host = host::Host::find(&config)?;
    let rootless_api = host.published.clone().map(k3s_rootless::serve_api).transpose()?;
    let rootless_api = rootless_api.map(|api| tokio::spawn(cancel.clone().run_until_cancelled_owned(api)));
    let control_plane = control_plane::ControlPlane::start(&config, &host, cancel.clone()).await?;
    let node = if config.disable_agent {
        None
    } else {
        Some(node::Node::start(&config, &host, &control_plane, cancel.clone()).await?)
    };
    let status = format!("Kubernetes {} on port {}", crate::version::KUBERNETES, config.listener.port);
    readiness.ready(status.clone());
    let mut sources = control_plane.sources(&config);
    sources.extend(node.as_ref().and_then(|node| node.registries_source(&config.node)));
    cancel.run_until_cancelled(reload::run(hang_ups, &sources, &readiness, &status)).await;
    drop(sources);
    readiness.stopping();
    tracing::info!("stopping; pods keep running");
    let stop = async {
        if let Some(node) = node {
            node.stop().await;
        }
        if let Some(api) = rootless_api {
            api.await.context("the rootless API has ended early")?;
        }
        control_plane.stop().await
    };
    match tokio::time::timeout(STOP, stop).await {
        Ok(result) => result,
        Err(_) => {
            tracing::warn!(seconds = STOP.as_secs(), "components did not end in time");
            Ok(())
        }
    }
}

/// Cancels on SIGTERM or SIGINT.
///
/// # Errors
/// If signals can't be taken.
pub fn cancel_on_signal(cancel: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = cancel.cancelled() => {}
        }
        cancel.cancel();
    });
    Ok(())
}
