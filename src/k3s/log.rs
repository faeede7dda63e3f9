//! Logs: one line per event on standard error or in a file, text or JSON.

use std::fs::OpenOptions;
use std::path::PathBuf;

use anyhow::Context as _;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Where logs go and how much of them.
pub struct Settings {
    pub debug: bool,
    /// klog's: from 4 on debug.
    pub verbosity: u8,
    pub file: Option<PathBuf>,
    pub also_stderr: bool,
}

/// Starts logging for the process; panics are logged with their place.
///
/// # Errors
/// A log file that can't be opened.
pub fn start(settings: &Settings) -> anyhow::Result<()> {
    let level = match settings.verbosity {
        4.. => Level::DEBUG,
        _ if settings.debug => Level::DEBUG,
        _ => Level::INFO,
    };
    // Libraries speak up only when something is wrong.
    let mut targets = Targets::new().with_default(Level::WARN);
    for component in [
        "k3s",
        "k3s_addons",
        "k3s_apiserver",
        "k3s_client",
        "k3s_controllers",
        "k3s_kine",
        "k3s_kubectl",
        "k3s_kubelet",
        "k3s_network",
        "k3s_rootless",
        "k3s_runtime",
        "k3s_scheduler",
        "k3s_supervisor",
    ] {
        targets = targets.with_target(component, level);
    }
    let writer = match &settings.file {
        None => BoxMakeWriter::new(std::io::stderr),
        Some(path) => {
            let open = OpenOptions::new().create(true).append(true).open(path);
            let file = open.with_context(|| format!("cannot open log file {}", path.display()))?;
            let file = std::sync::Arc::new(file);
            if settings.also_stderr { BoxMakeWriter::new(file.and(std::io::stderr)) } else { BoxMakeWriter::new(file) }
        }
    };
    let json = std::env::var("K3S_LOG_FORMAT").is_ok_and(|format| format == "json");
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let registry = tracing_subscriber::registry().with(targets);
    if json {
        registry.with(layer.json().flatten_event(true)).try_init()?;
    } else {
        registry.with(layer).try_init()?;
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, message, "panic");
    }));
    Ok(())
}
