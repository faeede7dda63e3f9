//! The file that events are written to, a line each, by a thread of its own. It is rotated by size; a disk that is full
//! costs events, never the server.

mod rotation;

use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Mode;
use super::event::Event;
use super::lost::Lost;
use super::mode::UnknownWord;
use super::truncate::{self, Truncate};
use rotation::Rotated;

/// Lines that are written at a time.
const BATCH: usize = 400;

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Legacy,
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
    pub truncate: Option<Truncate>,
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
            truncate: None,
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
    format: Format,
    truncate: Option<Truncate>,
    lost: Arc<Lost>,
}

impl Log {
    /// Opens the file.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(options: &Options) -> io::Result<Self> {
        let (lines, incoming) = mpsc::channel(options.buffer.max(1));
        let lost = Arc::new(Lost::default());
        let writer = Writer { to: Rotated::open(options)?, lost: Arc::clone(&lost) };
        std::thread::Builder::new().name("audit-log".to_owned()).spawn(move || writer.run(incoming))?;
        Ok(Self { lines, mode: options.mode, format: options.format, truncate: options.truncate, lost })
    }

    /// An event's line, without its end; `None`: it is too long, and lost.
    pub fn encode(&self, event: &Event) -> Option<Vec<u8>> {
        let encode = match self.format {
            Format::Json => Event::json,
            Format::Legacy => Event::legacy,
        };
        let line = truncate::fitted(self.truncate, event, encode);
        if line.is_none() {
            self.lost.add(1, "an event is too long");
        }
        line
    }

    /// Writes a line, and waits for it if the mode says so. Whether the request may be served.
    pub async fn write(&self, text: Vec<u8>) -> bool {
        if self.mode == Mode::Batch {
            self.post(text);
            return true;
        }
        self.written(text).await || self.mode != Mode::BlockingStrict
    }

    /// Waits until all that was written before is in the file.
    pub async fn close(&self) {
        self.written(Vec::new()).await;
    }

    async fn written(&self, text: Vec<u8>) -> bool {
        let (written, done) = oneshot::channel();
        if self.lines.send(Line { text, written: Some(written) }).await.is_err() {
            self.lost.add(1, "the audit log's thread has ended");
            return false;
        }
        done.await.unwrap_or(false)
    }

    /// Writes a line without waiting for it.
    pub fn post(&self, text: Vec<u8>) {
        if self.lines.try_send(Line { text, written: None }).is_err() {
            self.lost.add(1, "too many events wait for the audit log");
        }
    }

    /// Events that were not written.
    pub fn lost(&self) -> u64 {
        self.lost.count()
    }
}

struct Writer {
    to: Rotated,
    lost: Arc<Lost>,
}

impl Writer {
    fn run(mut self, mut incoming: mpsc::Receiver<Line>) {
        let mut lines = Vec::with_capacity(BATCH);
        while incoming.blocking_recv_many(&mut lines, BATCH) > 0 {
            // An empty one only waits for those before it.
            for line in lines.iter_mut().filter(|line| !line.text.is_empty()) {
                line.text.push(b'\n');
            }
            let texts: Vec<&[u8]> = lines.iter().map(|line| line.text.as_slice()).filter(|t| !t.is_empty()).collect();
            let written = if texts.is_empty() { Ok(()) } else { self.to.write(&texts) };
            if let Err(error) = &written {
                self.lost.add(texts.len(), &error.to_string());
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
