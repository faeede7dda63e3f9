//! The file that events are written to, a line each, by a thread of its own. It is rotated by size; a disk that is full
//! costs events, never the server.

mod rotation;

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot};

use rotation::Rotated;

/// Lines that are written at a time.
const BATCH: usize = 400;
/// Of so many failures, one is worth a line in the server's own log.
const SAY_EVERY: u64 = 1000;

/// Whether a request waits until its event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// No; when too many events wait, new ones are lost.
    Batch,
    /// Yes, but not for its success.
    Blocking,
    /// Yes, and a request whose first event can't be written is not served.
    BlockingStrict,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Legacy,
}

/// A word that is none of those that are known.
#[derive(Debug, thiserror::Error)]
#[error("{word:?} is not one of {known}")]
pub struct UnknownWord {
    word: String,
    known: &'static str,
}

impl FromStr for Mode {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "batch" => Ok(Self::Batch),
            "blocking" => Ok(Self::Blocking),
            "blocking-strict" => Ok(Self::BlockingStrict),
            _ => Err(UnknownWord { word: word.to_owned(), known: "batch, blocking, blocking-strict" }),
        }
    }
}

impl FromStr for Format {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "json" => Ok(Self::Json),
            "legacy" => Ok(Self::Legacy),
            _ => Err(UnknownWord { word: word.to_owned(), known: "json, legacy" }),
        }
    }
}

/// `--audit-log-*`.
#[derive(Debug, Clone)]
pub struct Options {
    /// `-`: standard output.
    pub path: PathBuf,
    /// In megabytes; 0: 100.
    pub max_size: u64,
    /// Old files that are kept; 0: all.
    pub max_backups: usize,
    /// Days that old files are kept; 0: for ever.
    pub max_age: u32,
    /// Whether old files are compressed.
    pub compress: bool,
    pub format: Format,
    pub mode: Mode,
    /// Events that may wait.
    pub buffer: usize,
}

impl Options {
    /// Kubernetes' defaults.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            max_size: 0,
            max_backups: 0,
            max_age: 0,
            compress: false,
            format: Format::Json,
            mode: Mode::Blocking,
            buffer: 10_000,
        }
    }
}

struct Line {
    text: Vec<u8>,
    written: Option<oneshot::Sender<bool>>,
}

/// The way to the writing thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Log {
    lines: mpsc::Sender<Line>,
    mode: Mode,
    pub format: Format,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Opens the file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(options: &Options) -> io::Result<Self> {
        let (lines, incoming) = mpsc::channel(options.buffer.max(1));
        let lost = Arc::new(AtomicU64::new(0));
        let writer = Writer { to: Rotated::open(options)?, lost: Arc::clone(&lost) };
        std::thread::Builder::new().name("audit-log".to_owned()).spawn(move || writer.run(incoming))?;
        Ok(Self { lines, mode: options.mode, format: options.format, lost })
    }

    /// Writes a line, and waits for it if the mode says so. Whether it is written, as far as anybody waits for that.
    pub async fn write(&self, text: Vec<u8>) -> bool {
        if self.mode == Mode::Batch {
            self.post(text);
            return true;
        }
        let (written, done) = oneshot::channel();
        if self.lines.send(Line { text, written: Some(written) }).await.is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        done.await.unwrap_or(false)
    }

    /// Writes a line without waiting for it.
    pub fn post(&self, text: Vec<u8>) {
        if self.lines.try_send(Line { text, written: None }).is_err() {
            count_lost(&self.lost, 1, "too many events wait");
        }
    }

    /// Whether a request is not to be served when its first event can't be written.
    pub fn is_strict(&self) -> bool {
        self.mode == Mode::BlockingStrict
    }

    /// Events that were not written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

fn count_lost(lost: &AtomicU64, events: u64, why: &str) {
    let before = lost.fetch_add(events, Ordering::Relaxed);
    if before / SAY_EVERY != (before + events) / SAY_EVERY || before == 0 {
        tracing::error!(lost = before + events, why, "audit events are lost");
    }
}

struct Writer {
    to: Rotated,
    lost: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, mut incoming: mpsc::Receiver<Line>) {
        let mut lines = Vec::with_capacity(BATCH);
        while incoming.blocking_recv_many(&mut lines, BATCH) > 0 {
            for line in &mut lines {
                line.text.push(b'\n');
            }
            let texts: Vec<&[u8]> = lines.iter().map(|line| line.text.as_slice()).collect();
            let written = self.to.write(&texts);
            if let Err(error) = &written {
                count_lost(&self.lost, lines.len() as u64, &error.to_string());
            }
            for line in lines.drain(..) {
                if let Some(waiting) = line.written {
                    // Who waited may have gone.
                    let _ = waiting.send(written.is_ok());
                }
            }
        }
    }
}
