//! `crictl exec`, `attach` and `port-forward`

use std::io::Write as _;
use std::net::Ipv4Addr;

use clap::Args;
use http::Uri;
use k3s_cri::{Streams, TerminalSize};
use k3s_kubectl::terminal::{self, RawMode};
use k3s_streaming::client;
use k8s_cri::v1::*;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::connection::Connection;
use crate::error::Error;
use crate::local;
use crate::output::line;
use crate::standard;

/// Both directions of a connection.
trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connects to the streaming server of a URL: by our runtime's socket if it is ours, since a rootless node's loopback
/// address is another.
async fn dial(cri: &Connection, url: &Uri) -> Result<Box<dyn Duplex>, Error> {
    if let Some(socket) = local::beside(&cri.socket)
        && let Ok(stream) = UnixStream::connect(&socket).await
    {
        return Ok(Box::new(stream));
    }
    Ok(Box::new(client::dial(url).await?))
}

fn url(text: &str) -> Result<Uri, Error> {
    text.parse().map_err(|_| Error::NotFound(format!("the runtime's URL {text:?} is none")))
}

/// Standard input as a stream.
fn input() -> Box<dyn AsyncRead + Send + Unpin> {
    let (mut to, from) = tokio::io::duplex(8192);
    let mut pieces = terminal::stdin();
    tokio::spawn(async move {
        while let Some(piece) = pieces.recv().await {
            // The other end goes with the command.
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
    Box::new(from)
}

/// The terminal's size, now and whenever it changes.
fn sizes() -> Result<mpsc::Receiver<TerminalSize>, Error> {
    let (sender, receiver) = mpsc::channel(4);
    let mut changed = signal(SignalKind::window_change()).map_err(Error::Output)?;
    tokio::spawn(async move {
        loop {
            if let Some(size) = terminal::size() {
                let size = TerminalSize { width: size.width, height: size.height };
                if sender.send(size).await.is_err() {
                    return;
                }
            }
            changed.recv().await;
        }
    });
    Ok(receiver)
}

/// Carries the streams between this process and a URL.
async fn carry(cri: &Connection, url: &Uri, stdin: bool, tty: bool) -> Result<u8, Error> {
    let connection = dial(cri, url).await?;
    let raw = (tty && stdin && terminal::is_terminal()).then(RawMode::enter).transpose();
    let _raw = raw.map_err(|error| Error::NotFound(error.to_string()))?;
    let streams = Streams {
        stdin: stdin.then(input),
        stdout: Some(Box::new(standard::output()?)),
        stderr: if tty { None } else { Some(Box::new(standard::errors()?)) },
        resize: tty.then(sizes).transpose()?,
    };
    let code = client::remote_command(connection, url, streams).await?;
    Ok(u8::try_from(code).unwrap_or(1))
}

/// Run a command in a running container
#[derive(Debug, Args)]
pub struct Exec {
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// Wait for the end and show the output then
    #[arg(short, long)]
    sync: bool,
    /// Seconds after which a command that was run with --sync is killed; 0: never
    #[arg(long, default_value_t = 0)]
    timeout: i64,
}

impl Exec {
    pub async fn run(self, cri: &mut Connection) -> Result<u8, Error> {
        if self.sync {
            let request = ExecSyncRequest { container_id: self.id, cmd: self.command, timeout: self.timeout };
            let output = cri.runtime.exec_sync(request).await.map_err(Error::call("execing command in container"))?;
            let output = output.into_inner();
            std::io::stdout().write_all(&output.stdout)?;
            std::io::stdout().flush()?;
            std::io::stderr().write_all(&output.stderr)?;
            return Ok(u8::try_from(output.exit_code).unwrap_or(1));
        }
        let request = ExecRequest {
            container_id: self.id,
            cmd: self.command,
            tty: self.tty,
            stdin: self.interactive,
            stdout: true,
            stderr: !self.tty,
        };
        let answer = cri.runtime.exec(request).await.map_err(Error::call("execing command in container"))?;
        carry(cri, &url(&answer.into_inner().url)?, self.interactive, self.tty).await
    }
}

/// Attach to a running container
#[derive(Debug, Args)]
pub struct Attach {
    #[arg(value_name = "CONTAINER-ID")]
    id: String,
    /// Keep standard input open
    #[arg(short, long)]
    stdin: bool,
    /// The container has a terminal
    #[arg(short, long)]
    tty: bool,
    /// The same as --stdin
    #[arg(short, long)]
    interactive: bool,
}

impl Attach {
    pub async fn run(self, cri: &mut Connection) -> Result<u8, Error> {
        let stdin = self.stdin || self.interactive;
        let request = AttachRequest { container_id: self.id, stdin, tty: self.tty, stdout: true, stderr: !self.tty };
        let answer = cri.runtime.attach(request).await.map_err(Error::call("attaching to container"))?;
        carry(cri, &url(&answer.into_inner().url)?, stdin, self.tty).await
    }
}

/// Forward local ports to a pod
#[derive(Debug, Args)]
pub struct PortForward {
    #[arg(value_name = "POD-ID")]
    id: String,
    #[arg(value_name = "[LOCAL_PORT:]REMOTE_PORT", required = true, value_parser = ports)]
    ports: Vec<(u16, u16)>,
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let wrong = || format!("{text:?} is no [LOCAL_PORT:]REMOTE_PORT");
    let (local, remote) = text.split_once(':').unwrap_or((text, text));
    let remote = remote.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let local = if local.is_empty() { 0 } else { local.parse().map_err(|_| wrong())? };
    Ok((local, remote))
}

impl PortForward {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let mut serving = Vec::new();
        for (local, remote) in self.ports {
            let failed = |error: std::io::Error| Error::Usage(format!("unable to listen on port {local}: {error}"));
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, local)).await.map_err(failed)?;
            line(format_args!("Forwarding from {} -> {remote}", listener.local_addr().map_err(failed)?))?;
            serving.push(serve(cri, &self.id, listener, remote));
        }
        futures::future::try_join_all(serving).await.map(drop)
    }
}

/// Serves a port until the process ends. Each connection is one of its own to the pod.
async fn serve(cri: &Connection, id: &str, listener: TcpListener, port: u16) -> Result<(), Error> {
    let mut forwards = futures::stream::FuturesUnordered::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted.map_err(Error::Output)?.0,
            Some(()) = futures::StreamExt::next(&mut forwards), if !forwards.is_empty() => continue,
        };
        line(format_args!("Handling connection for {port}"))?;
        forwards.push(async move {
            if let Err(error) = forward(cri, id, accepted, port).await {
                eprintln!("ERRO[0000] {error}");
            }
        });
    }
}

async fn forward(cri: &Connection, id: &str, accepted: tokio::net::TcpStream, port: u16) -> Result<(), Error> {
    let request = PortForwardRequest { pod_sandbox_id: id.to_owned(), port: vec![port.into()] };
    let answer = cri.runtime.clone().port_forward(request).await.map_err(Error::call("forwarding ports"))?;
    let url = url(&answer.into_inner().url)?;
    Ok(client::port_forward(dial(cri, &url).await?, &url, port, accepted).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_ports_may_be_left_out_or_chosen() {
        assert_eq!(ports("80"), Ok((80, 80)));
        assert_eq!(ports("8080:80"), Ok((8080, 80)));
        assert_eq!(ports(":80"), Ok((0, 80)));
        assert!(ports("80:0").is_err() && ports("x").is_err() && ports("65536").is_err());
    }
}
