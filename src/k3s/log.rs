//! Logs: one line per event on standard error or in a file, text or JSON.

use std::fs::OpenOptions;
use std::sync::Arc;

use anyhow::Context as _;
use k3s_env::{LogFormat, Logging};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// klog's level from which on debugging is logged.
const VERBOSE: u32 = 4;

/// Our crates begin with this, and so do their targets.
const OURS: &str = "k3s";

/// Starts logging for the process; panics are logged with their place.
///
/// # Errors
/// A log file that can't be opened.
pub fn start(settings: &Logging) -> anyhow::Result<()> {
    let level = if settings.debug || settings.verbosity >= VERBOSE { Level::DEBUG } else { Level::INFO };
    // Libraries speak up only when something is wrong.
    let targets = Targets::new().with_default(Level::WARN).with_target(OURS, level);
    let writer = match &settings.file {
        None => BoxMakeWriter::new(std::io::stderr),
        Some(path) => {
            let open = OpenOptions::new().create(true).append(true).open(path);
            let file = Arc::new(open.with_context(|| format!("--log: cannot open {}", path.display()))?);
            if settings.also_stderr { BoxMakeWriter::new(file.and(std::io::stderr)) } else { BoxMakeWriter::new(file) }
        }
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let registry = tracing_subscriber::registry().with(targets);
    match settings.format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
        LogFormat::Text => registry.with(layer).try_init()?,
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, thread, reason = message, "panic");
    }));
    Ok(())
}
