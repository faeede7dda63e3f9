//! Logs: one line per event on standard error or in a file, text or JSON.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::Arc;

use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriterExt};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::{LogFormat, Logging};

/// klog's level from which on debugging is logged.
const VERBOSE: u32 = 4;

/// Our crates begin with this, and so do their targets.
const OURS: &str = "k3s";

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("--log: cannot open {path}: {source}; choose a file that this user may write", path = path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// Logs are for the whole process.
    #[error("logs were started before: {0}")]
    Twice(#[from] TryInitError),
}

impl Logging {
    /// Starts logging for the process. From then on panics are logged, with the place in the source and the thread.
    ///
    /// # Errors
    /// A log file that can't be opened, or a second call.
    pub fn start(&self) -> Result<(), LogError> {
        let level = if self.debug || self.verbosity >= VERBOSE { Level::DEBUG } else { Level::INFO };
        // Libraries speak up only when something is wrong.
        let targets = Targets::new().with_default(Level::WARN).with_target(OURS, level);
        let layer = tracing_subscriber::fmt::layer().with_writer(self.writer()?).with_ansi(false);
        let registry = tracing_subscriber::registry().with(targets);
        match self.format {
            LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init()?,
            LogFormat::Text => registry.with(layer).try_init()?,
        }
        std::panic::set_hook(Box::new(|panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
            let reason = panic.payload_as_str().unwrap_or("no message");
            tracing::error!(target: OURS, place, thread, reason, "panic");
        }));
        Ok(())
    }

    fn writer(&self) -> Result<BoxMakeWriter, LogError> {
        let Some(path) = &self.file else { return Ok(BoxMakeWriter::new(std::io::stderr)) };
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = Arc::new(file.map_err(|source| LogError::File { path: path.clone(), source })?);
        Ok(match self.also_stderr {
            true => BoxMakeWriter::new(file.and(std::io::stderr)),
            false => BoxMakeWriter::new(file),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The only test that starts logs, and sets the process's panic hook with them.
    #[test]
    fn a_panic_is_logged_with_its_place_and_levels_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("k3s.log");
        let logging = Logging { file: Some(file.clone()), format: LogFormat::Json, ..Logging::default() };
        logging.start().unwrap();
        assert!(matches!(logging.start(), Err(LogError::Twice(_))));
        tracing::debug!(target: "k3s_kubelet", "too much");
        tracing::info!(target: "k3s_kubelet", pod = "web", "pod is up");
        tracing::info!(target: "hyper", "somebody else's");
        tracing::warn!(target: "hyper", "something is wrong");
        let thread = std::thread::Builder::new().name("worker".to_owned());
        let line = line!() + 1;
        let panicked = thread.spawn(|| panic!("the {} is lost", "lease")).unwrap().join();
        assert!(panicked.is_err());

        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let [up, wrong, panic] = lines[..] else { panic!("{text}") };
        assert!(up.contains(r#""message":"pod is up","pod":"web""#) && up.contains(r#""level":"INFO""#), "{up}");
        assert!(wrong.contains("something is wrong"), "{wrong}");
        for words in [
            r#""level":"ERROR""#,
            r#""message":"panic""#,
            r#""reason":"the lease is lost""#,
            r#""thread":"worker""#,
            &format!("env/log.rs:{line}:"),
        ] {
            assert!(panic.contains(words), "{words} is not in {panic}");
        }
    }

    #[test]
    fn a_file_that_cant_be_written_is_named() {
        let logging = Logging { file: Some("/nonexistent/k3s.log".into()), ..Logging::default() };
        let error = logging.writer().map(drop).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/k3s.log"), "{error}");
    }
}
