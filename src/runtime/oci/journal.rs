//! `--log`: where a caller that does not read standard error finds what went wrong.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use serde_json::json;

use super::error::{Doing, Error};
use crate::shim::clock;

/// The log of one command.
pub(super) struct Journal {
    file: Option<File>,
    json: bool,
}

impl Journal {
    pub(super) fn open(path: Option<PathBuf>, json: bool) -> Result<Self, Error> {
        let open = |path: PathBuf| {
            File::options().create(true).append(true).open(&path).doing(format!("open {}", path.display()))
        };
        Ok(Self { file: path.map(open).transpose()?, json })
    }

    /// What the command goes on in spite of.
    pub(super) fn warn(&self, message: &str) {
        self.write("warning", message);
    }

    /// What it ends with; also on standard error, as callers without a log read it there.
    pub(super) fn error(&self, message: &str) {
        self.write("error", message);
        eprintln!("k3s oci: {message}");
    }

    fn write(&self, level: &str, message: &str) {
        let Some(mut file) = self.file.as_ref() else {
            if level == "warning" {
                eprintln!("k3s oci: {message}");
            }
            return;
        };
        let mut time = Vec::new();
        clock::append_rfc3339(&mut time, clock::now());
        let time = String::from_utf8_lossy(&time);
        let line = if self.json {
            json!({"level": level, "msg": message, "time": time}).to_string()
        } else {
            format!("time={:?} level={level} msg={message:?}", time)
        };
        // A log that can't be written to has no place to say so.
        let _ = writeln!(file, "{line}");
    }
}
