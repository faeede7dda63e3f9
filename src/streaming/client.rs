//! The other side: the streams of a command, or of a port, from a streaming server.
//!
//! SPDY/3.1, which every server speaks, those older than `v5.channel.k8s.io` included: over a WebSocket they could not
//! be told that standard input has ended. The caller makes the connection ([`dial`], or any other) and has it used once:
//! so are the URLs that CRI returns.

use std::io;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k3s_cri::{Streams, TerminalSize};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::spdy::{self, Stream};
use crate::websocket::V4;

/// Why streams could not be carried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL is not one of a streaming server that can be reached.
    #[error("cannot connect to the streaming server at {url}: {detail}")]
    Unreachable { url: Uri, detail: String },
    /// The server answered, but not with streams.
    #[error("the streaming server refused: {status}: {message}")]
    Refused { status: StatusCode, message: String },
    /// The connection broke before the end was told.
    #[error("the connection to the streaming server ended early: {0}")]
    Broken(String),
    /// The command could not be run, or the port not be reached: the server's words.
    #[error("{0}")]
    Failed(String),
}

/// Connects to the server of a URL such as `http://127.0.0.1:45871/exec/TOKEN`.
///
/// # Errors
/// [`Error::Unreachable`].
pub async fn dial(url: &Uri) -> Result<TcpStream, Error> {
    let unreachable = |detail: String| Error::Unreachable { url: url.clone(), detail };
    if url.scheme_str() != Some("http") {
        return Err(unreachable("only http is spoken with streaming servers".to_owned()));
    }
    let host = url.host().ok_or_else(|| unreachable("the URL has no host".to_owned()))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    TcpStream::connect((host, url.port_u16().unwrap_or(80))).await.map_err(|error| unreachable(error.to_string()))
}

/// Carries the streams of a command over `connection` and returns its exit code. The streams that are there must be
/// those that the URL was asked for; with a terminal, `streams.resize` is there and no `stderr`.
///
/// # Errors
/// Any but [`Error::Unreachable`].
pub async fn remote_command<S>(connection: S, url: &Uri, streams: Streams) -> Result<i32, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let upgraded = upgrade(connection, url, V4).await?;
    let (mut opener, carry) = spdy::connect(upgraded);
    let work = async move {
        let Streams { stdin, stdout, stderr, resize } = streams;
        let mut open = async |wanted: bool, kind: &str| match wanted {
            true => Some(opener.open(vec![("streamtype".to_owned(), kind.to_owned())]).await),
            false => None,
        };
        // In this order, as other clients do it.
        let error = open(true, "error").await;
        let (input, output) = (open(stdin.is_some(), "stdin").await, open(stdout.is_some(), "stdout").await);
        let (errors, sizes) = (open(stderr.is_some(), "stderr").await, open(resize.is_some(), "resize").await);
        let told = async {
            let Some(mut error) = error else { return Vec::new() };
            // Nothing is written to it.
            error.writer.close().await;
            collect(&mut error.data).await
        };
        let over = async { tokio::join!(told, write(output, stdout), write(errors, stderr)).0 };
        let given = async {
            tokio::join!(send(stdin, input), resized(resize, sizes));
            std::future::pending::<()>().await;
        };
        let status = tokio::select! {
            status = over => status,
            () = given => Vec::new(),
        };
        exit_code(&status)
    };
    // When the connection ends, so do its streams, and with them the work.
    let carried = async {
        let ended = carry.await;
        if let Err(error) = ended {
            tracing::debug!(%error, "the connection to the streaming server broke");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        code = work => code,
        () = carried => Err(Error::Broken("no status came".to_owned())),
    }
}

/// Carries bytes between `local` and a port of a pod over `connection`, until the port closes.
///
/// # Errors
/// Any but [`Error::Unreachable`]; [`Error::Failed`] when the port could not be reached.
pub async fn port_forward<S, L>(connection: S, url: &Uri, port: u16, local: L) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    L: AsyncRead + AsyncWrite,
{
    let upgraded = upgrade(connection, url, "portforward.k8s.io").await?;
    let (mut opener, carry) = spdy::connect(upgraded);
    let work = async move {
        let mut open = async |kind: &str| {
            let header = |name: &str, value: String| (name.to_owned(), value);
            let headers = vec![
                header("port", port.to_string()),
                header("requestid", "0".to_owned()),
                header("streamtype", kind.to_owned()),
            ];
            opener.open(headers).await
        };
        let (mut errors, data) = (open("error").await, open("data").await);
        errors.writer.close().await;
        let (from, mut to) = tokio::io::split(local);
        let Stream { mut data, writer, .. } = data;
        let outgoing = async {
            send_all(from, &writer).await;
            std::future::pending::<()>().await;
        };
        let incoming = async {
            while let Some(piece) = data.recv().await {
                if to.write_all(&piece).await.is_err() {
                    return;
                }
            }
            // The local side may have closed already.
            let _ = to.shutdown().await;
        };
        tokio::select! {
            () = outgoing => {}
            () = incoming => {}
        }
        collect(&mut errors.data).await
    };
    let carried = async {
        let ended = carry.await;
        if let Err(error) = ended {
            tracing::debug!(%error, "the connection to the streaming server broke");
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        error = work => match error.as_slice() {
            [] => Ok(()),
            words => Err(Error::Failed(String::from_utf8_lossy(words).into_owned())),
        },
        () = carried => Ok(()),
    }
}

/// Asks for SPDY with a stream protocol.
async fn upgrade<S>(connection: S, url: &Uri, protocol: &'static str) -> Result<TokioIo<Upgraded>, Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let broken = |error: &dyn std::fmt::Display| Error::Broken(error.to_string());
    let request = Request::builder()
        .method(Method::POST)
        .uri(url.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, url.authority().map_or("localhost", |authority| authority.as_str()))
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "SPDY/3.1")
        .header("x-stream-protocol-version", protocol)
        .body(Empty::<Bytes>::new())
        .map_err(|error| broken(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(connection)).await.map_err(|error| broken(&error))?;
    let asked = async move {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let body = response.into_body().collect().await.map_err(|error| broken(&error))?.to_bytes();
            return Err(Error::Refused { status, message: String::from_utf8_lossy(&body).trim().to_owned() });
        }
        hyper::upgrade::on(response).await.map_err(|error| broken(&error))
    };
    // The connection ends with the upgrade, or when nobody asks any more.
    let (upgraded, ended) = tokio::join!(asked, connection.with_upgrades());
    if let (Ok(_), Err(error)) = (&upgraded, ended) {
        return Err(broken(&error));
    }
    upgraded.map(TokioIo::new)
}

/// The exit code of a status as the error stream tells it.
fn exit_code(status: &[u8]) -> Result<i32, Error> {
    let status: Value =
        serde_json::from_slice(status).map_err(|_| Error::Broken("no status of the command came".to_owned()))?;
    if status["status"] == "Success" {
        return Ok(0);
    }
    let causes = status["details"]["causes"].as_array().into_iter().flatten();
    let code = causes
        .filter(|cause| cause["reason"] == "ExitCode")
        .find_map(|cause| cause["message"].as_str()?.parse().ok())
        .filter(|_| status["reason"] == "NonZeroExitCode");
    code.ok_or_else(|| Error::Failed(status["message"].as_str().unwrap_or("the command failed").to_owned()))
}

async fn collect(data: &mut mpsc::Receiver<Bytes>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = data.recv().await {
        all.extend_from_slice(&piece);
    }
    all
}

/// Hands a stream's data out. What can't be written any more is read and lost: the command goes on.
async fn write(stream: Option<Stream>, to: Option<Box<dyn AsyncWrite + Send + Unpin>>) {
    let (Some(mut stream), Some(mut to)) = (stream, to) else { return };
    let mut gone = false;
    while let Some(piece) = stream.data.recv().await {
        gone = gone || write_all(&mut to, &piece).await.is_err();
    }
    if !gone {
        // It may be gone by now; there is nothing more for it.
        let _ = to.shutdown().await;
    }
}

async fn write_all(to: &mut (dyn AsyncWrite + Send + Unpin), piece: &[u8]) -> io::Result<()> {
    to.write_all(piece).await?;
    to.flush().await
}

async fn send(from: Option<Box<dyn AsyncRead + Send + Unpin>>, stream: Option<Stream>) {
    if let (Some(from), Some(stream)) = (from, stream) {
        send_all(from, &stream.writer).await;
    }
}

/// Sends what can be read, and then the stream's end.
async fn send_all(mut from: impl AsyncRead + Unpin, writer: &spdy::Writer) {
    let mut piece = Vec::with_capacity(32 * 1024);
    while from.read_buf(&mut piece).await.is_ok_and(|length| length > 0) {
        if !writer.write(Bytes::from(std::mem::replace(&mut piece, Vec::with_capacity(32 * 1024)))).await {
            return;
        }
    }
    writer.close().await;
}

async fn resized(sizes: Option<mpsc::Receiver<TerminalSize>>, stream: Option<Stream>) {
    let (Some(mut sizes), Some(stream)) = (sizes, stream) else { return };
    while let Some(size) = sizes.recv().await {
        let text = serde_json::json!({ "Width": size.width, "Height": size.height });
        if !stream.writer.write(Bytes::from(format!("{text}\n"))).await {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_tells_the_exit_code() {
        assert_eq!(exit_code(br#"{"metadata":{},"status":"Success"}"#).unwrap(), 0);
        let failed = br#"{"status":"Failure","reason":"NonZeroExitCode","message":"m",
            "details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#;
        assert_eq!(exit_code(failed).unwrap(), 7);
        let error = exit_code(br#"{"status":"Failure","reason":"InternalError","message":"no such file"}"#);
        assert_eq!(error.unwrap_err().to_string(), "no such file");
        assert!(matches!(exit_code(b""), Err(Error::Broken(_))));
    }

    #[tokio::test]
    async fn a_server_that_refuses_is_heard() {
        let (near, mut far) = tokio::io::duplex(4096);
        let answering = async move {
            let mut asked = vec![0; 1024];
            let length = far.read(&mut asked).await.unwrap();
            let head = String::from_utf8_lossy(&asked[..length]).to_lowercase();
            assert!(head.starts_with("post /exec/t http/1.1\r\n") && head.contains("upgrade: spdy/3.1\r\n"), "{head}");
            far.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 8\r\n\r\nno token").await.unwrap();
        };
        let url = Uri::from_static("http://127.0.0.1:1/exec/t");
        let streams = Streams { stdout: Some(Box::new(tokio::io::sink())), ..Streams::default() };
        let (asked, ()) = tokio::join!(remote_command(near, &url, streams), answering);
        assert!(
            matches!(asked, Err(Error::Refused { status: StatusCode::NOT_FOUND, message }) if message == "no token")
        );
    }
}
