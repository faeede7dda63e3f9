//! A container's log in the CRI format: `<time> stdout|stderr F|P <line>`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::clock;

/// Longest line that is written whole; longer ones are cut into parts tagged `P`, as containerd does.
const LONGEST_LINE: usize = 16 * 1024;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// An open log file.
pub(crate) struct Log {
    path: PathBuf,
    file: File,
    /// Bytes of a line without its end yet, for each stream.
    partial: [Vec<u8>; 2],
}

impl Log {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), file: append_to(path)?, partial: [Vec::new(), Vec::new()] })
    }

    /// Goes on in a new file at the same path, after the old one was moved away.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        self.file = append_to(&self.path)?;
        Ok(())
    }

    /// Writes the lines that `bytes` completes. All of them carry the time of this call.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let partial = &mut self.partial[stream as usize];
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let time = clock::now();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            partial.extend_from_slice(text);
            while partial.len() > LONGEST_LINE {
                let rest = partial.split_off(LONGEST_LINE);
                append_line(&mut out, time, stream, false, partial);
                *partial = rest;
            }
            if ended {
                append_line(&mut out, time, stream, true, partial);
                partial.clear();
            }
        }
        if partial.is_empty() {
            // An idle container holds no buffer.
            partial.shrink_to_fit();
        }
        self.file.write_all(&out)
    }

    /// Writes what is left without a line's end. The stream is over.
    pub(crate) fn finish(&mut self, stream: Stream) -> io::Result<()> {
        let partial = std::mem::take(&mut self.partial[stream as usize]);
        if partial.is_empty() {
            return Ok(());
        }
        let mut out = Vec::with_capacity(partial.len() + 64);
        append_line(&mut out, clock::now(), stream, true, &partial);
        self.file.write_all(&out)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

fn append_line(out: &mut Vec<u8>, time: i64, stream: Stream, full: bool, line: &[u8]) {
    clock::append_rfc3339(out, time);
    out.extend_from_slice(match stream {
        Stream::Stdout => b" stdout ",
        Stream::Stderr => b" stderr ",
    });
    out.extend_from_slice(if full { b"F " } else { b"P " });
    out.extend_from_slice(line);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(writes: &[(Stream, &[u8])], finish: bool) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut log = Log::open(&path).unwrap();
        for (stream, bytes) in writes {
            log.write(*stream, bytes).unwrap();
        }
        if finish {
            log.finish(Stream::Stdout).unwrap();
            log.finish(Stream::Stderr).unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    #[test]
    fn a_line_is_written_once_it_ends_and_streams_do_not_mix() {
        let writes: [(Stream, &[u8]); 3] =
            [(Stream::Stdout, b"hel"), (Stream::Stderr, b"oops\n"), (Stream::Stdout, b"lo\nrest")];
        assert_eq!(lines(&writes, false), ["stderr F oops", "stdout F hello"]);
        assert_eq!(lines(&writes, true), ["stderr F oops", "stdout F hello", "stdout F rest"]);
    }

    #[test]
    fn a_long_line_is_cut_into_parts() {
        let long = vec![b'x'; LONGEST_LINE + 5];
        let got = lines(&[(Stream::Stdout, &long), (Stream::Stdout, b"\n")], true);
        assert_eq!(got.len(), 2);
        assert!(got[0].starts_with("stdout P xxx") && got[0].len() == LONGEST_LINE + 9);
        assert_eq!(got[1], "stdout F xxxxx");
    }

    #[test]
    fn an_empty_line_is_a_line() {
        assert_eq!(lines(&[(Stream::Stdout, b"\n\n")], true), ["stdout F ", "stdout F "]);
    }
}
