//! Reading a container's log, from where it is asked for to its end, or on and on.

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::entry::Entry;

/// Which part of a log, and how. Kubernetes' `PodLogOptions`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// Go on with what is written later, also after the log was rotated.
    pub follow: bool,
    /// Begin each line with its time.
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
    pub since: Option<Timestamp>,
    /// `Some(true)`: stderr only; `Some(false)`: stdout only.
    pub stderr: Option<bool>,
}

/// A part of a log: whole or partial lines of one stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    pub stderr: bool,
    pub data: BytesMut,
}

const CHUNK: usize = 64 * 1024;
/// How often a followed log is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Sends the log at `path` in pieces. Followed, it ends when `running` says no and everything is read, or when nobody
/// listens any more.
pub async fn read<F, R>(path: PathBuf, options: Options, running: F, out: mpsc::Sender<Piece>) -> std::io::Result<()>
where
    F: Fn() -> R,
    R: Future<Output = bool>,
{
    let mut file = File::open(&path).await?;
    if let Some(lines) = options.tail_lines {
        let start = tail_start(&mut file, lines).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let mut reader = Reader { left: options.limit_bytes, options, rest: BytesMut::new(), out };
    loop {
        if !reader.drain(&mut file).await? || !reader.options.follow {
            return Ok(());
        }
        // Asked before looking for the last time, so that nothing written meanwhile is missed.
        let was_running = running().await;
        if let Some(next) = rotated(&file, &path).await? {
            if !reader.drain(&mut file).await? {
                return Ok(());
            }
            file = next;
            continue;
        }
        if !was_running {
            reader.drain(&mut file).await?;
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = reader.out.closed() => return Ok(()),
        }
    }
}

/// The new file at `path`, if `file` has been moved away or truncated.
async fn rotated(file: &File, path: &Path) -> std::io::Result<Option<File>> {
    let open = file.metadata().await?;
    match tokio::fs::metadata(path).await {
        Ok(there) if there.ino() == open.ino() && there.dev() == open.dev() => Ok(None),
        Ok(_) => File::open(path).await.map(Some),
        // Between being moved and made anew.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

struct Reader {
    options: Options,
    left: Option<u64>,
    /// The beginning of a line whose end is not there yet.
    rest: BytesMut,
    out: mpsc::Sender<Piece>,
}

impl Reader {
    /// Reads to the end of the file. False when no more is wanted.
    async fn drain(&mut self, file: &mut File) -> std::io::Result<bool> {
        loop {
            self.rest.reserve(CHUNK);
            if file.read_buf(&mut self.rest).await? == 0 {
                return Ok(true);
            }
            let mut pieces = Vec::new();
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1);
                self.write(&line[..end], &mut pieces);
            }
            for mut piece in pieces {
                if let Some(left) = &mut self.left {
                    let length = piece.data.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    piece.data.truncate(length);
                    *left -= length as u64;
                }
                if !piece.data.is_empty() && self.out.send(piece).await.is_err() {
                    return Ok(false);
                }
            }
            if self.left == Some(0) {
                return Ok(false);
            }
        }
    }

    fn write(&self, line: &[u8], pieces: &mut Vec<Piece>) {
        // A line in another format is none of the container's.
        let Some(entry) = Entry::parse(line) else { return };
        if self.options.stderr.is_some_and(|stderr| stderr != entry.stderr) {
            return;
        }
        if let Some(since) = self.options.since
            && entry.timestamp().is_some_and(|time| time < since)
        {
            return;
        }
        if pieces.last().is_none_or(|piece| piece.stderr != entry.stderr) {
            pieces.push(Piece { stderr: entry.stderr, data: BytesMut::new() });
        }
        let Some(Piece { data: piece, .. }) = pieces.last_mut() else { return };
        if self.options.timestamps {
            piece.extend_from_slice(entry.time.as_bytes());
            piece.extend_from_slice(b" ");
        }
        piece.extend_from_slice(entry.content);
        if !entry.partial {
            piece.extend_from_slice(b"\n");
        }
    }
}

/// Where the last `lines` lines begin. Reads backwards: logs are long and tails are short.
async fn tail_start(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let end = file.metadata().await?.len();
    if lines == 0 {
        return Ok(end);
    }
    let mut position = end;
    let mut found = 0;
    let mut block = vec![0; 4096];
    while position > 0 {
        let length = position.min(block.len() as u64);
        position -= length;
        file.seek(SeekFrom::Start(position)).await?;
        let block = &mut block[..length as usize];
        file.read_exact(block).await?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let at = position + index as u64;
            // The newline that ends the last line begins none.
            if at + 1 == end {
                continue;
            }
            found += 1;
            if found == lines {
                return Ok(at + 1);
            }
        }
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const LOG: &str = "2024-01-01T00:00:00.1Z stdout F one\n2024-01-01T00:00:01.5Z stderr F two\n\
         2024-01-01T00:00:02.5Z stdout P thr\n2024-01-01T00:00:02.6Z stdout F ee\n";

    async fn all(options: Options) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let (sender, mut receiver) = mpsc::channel(8);
        let reading = tokio::spawn(read(path, options, || async { false }, sender));
        let mut text = Vec::new();
        while let Some(piece) = receiver.recv().await {
            text.extend_from_slice(&piece.data);
        }
        reading.await.unwrap().unwrap();
        String::from_utf8(text).unwrap()
    }

    #[tokio::test]
    async fn options_choose_and_mark_lines() {
        let options = Options::default;
        assert_eq!(all(options()).await, "one\ntwo\nthree\n");
        assert_eq!(all(Options { tail_lines: Some(0), ..options() }).await, "");
        assert_eq!(all(Options { tail_lines: Some(3), ..options() }).await, "two\nthree\n");
        assert_eq!(all(Options { tail_lines: Some(99), ..options() }).await, "one\ntwo\nthree\n");
        assert_eq!(all(Options { limit_bytes: Some(5), ..options() }).await, "one\nt");
        assert_eq!(all(Options { stderr: Some(true), ..options() }).await, "two\n");
        let since = Some("2024-01-01T00:00:01Z".parse().unwrap());
        assert_eq!(all(Options { since, ..options() }).await, "two\nthree\n");
        let timed = all(Options { timestamps: true, tail_lines: Some(4), ..options() }).await;
        assert!(timed.starts_with("2024-01-01T00:00:00.1Z one\n"), "{timed}");
    }

    #[tokio::test]
    async fn following_survives_rotation_and_ends_with_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, "2024-01-01T00:00:00Z stdout F one\n").unwrap();
        let running = Arc::new(AtomicBool::new(true));
        let (sender, mut receiver) = mpsc::channel(8);
        let options = Options { follow: true, ..Options::default() };
        let alive = running.clone();
        let reading = tokio::spawn(read(
            path.clone(),
            options,
            move || {
                let alive = alive.clone();
                async move { alive.load(Ordering::SeqCst) }
            },
            sender,
        ));
        assert_eq!(receiver.recv().await.unwrap().data, "one\n");
        std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"2024-01-01T00:00:00Z stdout F two\n")
            .unwrap();
        assert_eq!(receiver.recv().await.unwrap().data, "two\n");
        std::fs::rename(&path, dir.path().join("0.log.old")).unwrap();
        std::fs::write(&path, "2024-01-01T00:00:00Z stdout F three\n").unwrap();
        assert_eq!(receiver.recv().await.unwrap().data, "three\n");
        running.store(false, Ordering::SeqCst);
        assert_eq!(receiver.recv().await, None);
        reading.await.unwrap().unwrap();
    }
}
