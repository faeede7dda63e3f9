//! The two ends of the streams of a command: one for the runtime, one for the connection.

use k3s_cri::{Streams, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

const BUFFER: usize = 32 * 1024;

/// Which streams the client asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    pub stdin: bool,
    pub stdout: bool,
    /// With a terminal there is only one output, so this is passed over.
    pub stderr: bool,
    pub tty: bool,
}

impl Wanted {
    /// Is there anything to carry?
    pub fn any(&self) -> bool {
        self.stdin || self.stdout || self.stderr
    }
}

/// The connection's ends.
pub(crate) struct Ends {
    /// Dropping it is the end of the command's input.
    pub stdin: Option<DuplexStream>,
    pub stdout: Option<DuplexStream>,
    pub stderr: Option<DuplexStream>,
    pub resize: Option<mpsc::Sender<TerminalSize>>,
}

/// Makes both ends.
pub(crate) fn pair(wanted: Wanted) -> (Streams, Ends) {
    let make = |wanted: bool| wanted.then(|| tokio::io::duplex(BUFFER));
    let (stdin, stdin_end) = make(wanted.stdin).unzip();
    let (stdout, stdout_end) = make(wanted.stdout).unzip();
    // A terminal has one output.
    let (stderr, stderr_end) = make(wanted.stderr && !wanted.tty).unzip();
    let (resize_end, resize) = wanted.tty.then(|| mpsc::channel(4)).unzip();
    let streams = Streams {
        stdin: stdin.map(|stream| Box::new(stream) as _),
        stdout: stdout.map(|stream| Box::new(stream) as Box<dyn AsyncWrite + Send + Unpin>),
        stderr: stderr.map(|stream| Box::new(stream) as Box<dyn AsyncWrite + Send + Unpin>),
        resize,
    };
    (streams, Ends { stdin: stdin_end, stdout: stdout_end, stderr: stderr_end, resize: resize_end })
}

/// Hands what comes out of a stream to `send`, piece by piece, until its end or until `send` says no.
pub(crate) async fn pump<F, R>(stream: Option<DuplexStream>, mut send: F)
where
    F: FnMut(Vec<u8>) -> R,
    R: Future<Output = bool>,
{
    let Some(mut stream) = stream else { return };
    let mut piece = Vec::with_capacity(BUFFER);
    while stream.read_buf(&mut piece).await.is_ok_and(|length| length > 0) {
        if !send(std::mem::replace(&mut piece, Vec::with_capacity(BUFFER))).await {
            return;
        }
    }
}

/// Writes to the command's input; a command that no longer reads loses it, and its end of the stream is dropped.
pub(crate) async fn feed(stdin: &mut Option<DuplexStream>, data: &[u8]) {
    if let Some(stream) = stdin
        && stream.write_all(data).await.is_err()
    {
        *stdin = None;
    }
}

/// The size of a terminal as clients send it: `{"Width":80,"Height":24}`.
pub(crate) fn terminal_size(data: &[u8]) -> Option<TerminalSize> {
    let size: serde_json::Value = serde_json::from_slice(data).ok()?;
    let side = |name: &str| size.get(name)?.as_u64().and_then(|value| u16::try_from(value).ok());
    Some(TerminalSize { width: side("Width")?, height: side("Height")? })
}
