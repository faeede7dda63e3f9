//! Copying between a caller's streams and a command's.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;

/// After a command has ended, its output is over when nothing came for so long: something it left behind may hold its
/// streams open for ever.
const SILENCE: Duration = Duration::from_millis(300);

/// A pipe that a command reads from: its end, and ours.
pub(crate) fn to_command() -> io::Result<(OwnedFd, pipe::Sender)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((read, pipe::Sender::from_owned_fd(write)?))
}

/// A pipe that a command writes to: its end, and ours.
pub(crate) fn from_command() -> io::Result<(OwnedFd, pipe::Receiver)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((write, pipe::Receiver::from_owned_fd(read)?))
}

/// Counts what has been copied, to tell silence from progress.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<AtomicU64>);

/// Copies until the source ends or the target is gone.
pub(crate) async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    progress: Progress,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        progress.0.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// Waits for `outputs` to end, or for silence.
pub(crate) async fn drain(outputs: impl Future<Output = ()>, progress: Progress) {
    tokio::pin!(outputs);
    let mut seen = progress.0.load(Ordering::Relaxed);
    while tokio::time::timeout(SILENCE, &mut outputs).await.is_err() {
        let now = progress.0.load(Ordering::Relaxed);
        if now == seen {
            return;
        }
        seen = now;
    }
}
