//! The terminal of the user: raw mode, its size, and standard input as a stream.

use std::io::{IsTerminal, Read};

use bytes::Bytes;
use kube::api::TerminalSize;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

use crate::error::Error;

/// The terminal in raw mode; it is as before when this is dropped.
pub struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Makes standard input raw. The user's terminal must be there (see [`is_terminal`]).
    pub fn enter() -> Result<Self, Error> {
        let failed =
            |cause: rustix::io::Errno| Error::Stream { action: "setting the terminal", cause: cause.to_string() };
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing better can be done for a terminal that refuses its old settings.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Whether standard input is a terminal.
pub fn is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// The size of the terminal, if there is one.
pub fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(std::io::stdout()).or_else(|_| tcgetwinsize(std::io::stdin())).ok()?;
    Some(TerminalSize { width: size.ws_col, height: size.ws_row })
}

/// Standard input, read by a thread of its own.
///
/// tokio's standard input would keep the runtime from shutting down until the user types one more key.
pub fn stdin() -> mpsc::Receiver<Bytes> {
    let (sender, receiver) = mpsc::channel(8);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 8192];
        loop {
            match std::io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
                Ok(count) => {
                    if sender.blocking_send(Bytes::copy_from_slice(&buffer[..count])).is_err() {
                        return;
                    }
                }
            }
        }
    });
    receiver
}
