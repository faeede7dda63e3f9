//! SIGHUP: what the server has read from files is read anew, as far as it can change while all runs. A file that is no
//! good leaves what was read before in force.

use std::fs;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::readiness::Readiness;

/// Something that can be read anew.
pub struct Source {
    /// What it is called in the log.
    what: &'static str,
    read: Box<dyn Fn() -> anyhow::Result<()> + Send + Sync>,
}

impl Source {
    /// `read` takes what is in the files now, or fails and changes nothing.
    pub fn new(what: &'static str, read: impl Fn() -> anyhow::Result<()> + Send + Sync + 'static) -> Self {
        Self { what, read: Box::new(read) }
    }
}

/// Takes SIGHUP from now on; one that comes before [`run`] is not lost. To a process of a terminal it says that the
/// terminal is gone: it ends, by `cancel`, or goes on unmoved if it was started with `nohup`; `None` then.
///
/// # Errors
/// If signals can't be taken.
pub fn listen(cancel: CancellationToken) -> anyhow::Result<Option<Signal>> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    if !has_terminal(&read("/proc/self/stat")?) {
        return Ok(Some(signal(SignalKind::hangup())?));
    }
    if !ignores_hang_up(&read("/proc/self/status")?) {
        let mut hang_up = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            if let Some(Some(())) = cancel.run_until_cancelled(hang_up.recv()).await {
                cancel.cancel();
            }
        });
    }
    Ok(None)
}

/// Reads all of it anew at each SIGHUP, and tells the service manager, whose `status` it is that the server serves.
pub async fn run(hang_ups: Option<Signal>, sources: &[Source], readiness: &Readiness, status: &str) {
    let Some(mut hang_ups) = hang_ups else { return std::future::pending().await };
    while hang_ups.recv().await.is_some() {
        readiness.reloading();
        let kept = read_all(sources);
        let kept = if kept.is_empty() { String::new() } else { format!("; not reloaded: {}", kept.join(", ")) };
        readiness.ready(format!("{status}{kept}"));
    }
}

/// What was no good, and stays as it was.
fn read_all(sources: &[Source]) -> Vec<&'static str> {
    let mut kept = Vec::new();
    for Source { what, read } in sources {
        match read() {
            Ok(()) => tracing::info!("reloaded {what}"),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::error!(%error, "cannot reload {what}; what was read before stays in force");
                kept.push(*what);
            }
        }
    }
    kept
}

/// By the text of proc_pid_stat(5): the fourth field after the command's state is its terminal, 0 if it has none. The
/// command's name is in parentheses, and may have any character.
fn has_terminal(stat: &str) -> bool {
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    fields.split_ascii_whitespace().nth(4).is_some_and(|terminal| terminal != "0")
}

/// By the text of proc_pid_status(5): a mask of signals, of which SIGHUP is the first.
fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
