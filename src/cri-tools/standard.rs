//! The process's standard streams as asynchronous files.

use std::io;
use std::os::fd::AsFd;

use tokio::fs::File;

fn file(stream: impl AsFd) -> io::Result<File> {
    Ok(File::from_std(std::fs::File::from(stream.as_fd().try_clone_to_owned()?)))
}

/// Standard input.
pub fn input() -> io::Result<File> {
    file(io::stdin())
}

/// Standard output.
pub fn output() -> io::Result<File> {
    file(io::stdout())
}

/// Standard error.
pub fn errors() -> io::Result<File> {
    file(io::stderr())
}
