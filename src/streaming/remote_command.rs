//! Streams of a command, the server's side.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k3s_cri::{Error, Streams};
use serde_json::json;
use tokio::sync::mpsc;

use crate::duplex::{self, Ends, Wanted, feed, pump, terminal_size};
use crate::response::{Body, Refusal};
use crate::spdy::{self, Stream};
use crate::upgrade::{Connections, Upgrade, upgrade};
use crate::websocket;

/// How long a SPDY client may take to open its streams.
const OPEN_STREAMS: Duration = Duration::from_secs(30);

/// Carries the streams of a command: `work` runs it (or attaches to it) with the streams that are `wanted`, and returns
/// its exit code. Dropped when the client goes away.
///
/// # Errors
/// What to answer to a request that wants no stream, is no upgrade, or is one to nothing that is spoken here.
pub fn remote_command<B, F, R>(
    connections: &Connections,
    request: Request<B>,
    wanted: Wanted,
    work: F,
) -> Result<Response<Body>, Refusal>
where
    F: FnOnce(Streams) -> R + Send + 'static,
    R: Future<Output = Result<i32, Error>> + Send + 'static,
{
    if !wanted.any() {
        let message = "you must specify at least 1 of stdin, stdout, stderr";
        return Err(Refusal(StatusCode::BAD_REQUEST, message.into()));
    }
    let websocket = [websocket::V5, websocket::V4];
    upgrade(connections, request, &websocket, &[websocket::V4], move |upgraded| async move {
        let (streams, ends) = duplex::pair(wanted);
        let command = async { status(work(streams).await) };
        match upgraded {
            Upgrade::WebSocket(socket, _) => websocket::remote_command(*socket, ends, command).await,
            Upgrade::Spdy(connection) => over_spdy(connection, wanted, ends, command).await,
        }
    })
}

/// What the error stream says of a command that ended: a `Status`.
fn status(result: Result<i32, Error>) -> Vec<u8> {
    let status = match result {
        Ok(0) => json!({ "metadata": {}, "status": "Success" }),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
        }),
        Err(error) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: {error}"),
            "reason": "InternalError",
            "details": { "causes": [{ "message": error.to_string() }] },
            "code": 500,
        }),
    };
    status.to_string().into_bytes()
}

async fn over_spdy(connection: TokioIo<Upgraded>, wanted: Wanted, ends: Ends, command: impl Future<Output = Vec<u8>>) {
    let (opened, mut streams) = mpsc::channel(8);
    let work = async move {
        let expected = usize::from(wanted.stdin)
            + usize::from(wanted.stdout)
            + usize::from(wanted.stderr && !wanted.tty)
            + usize::from(wanted.tty)
            + 1;
        let opening = async {
            let mut all: Vec<Stream> = Vec::new();
            while all.len() < expected {
                match streams.recv().await {
                    Some(stream) => all.push(stream),
                    None => break,
                }
            }
            all
        };
        match tokio::time::timeout(OPEN_STREAMS, opening).await {
            Ok(all) => carry(all, ends, command).await,
            Err(_) => tracing::debug!("the client did not open its streams in time"),
        }
    };
    let serving = spdy::serve(connection, opened);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        // What is still to be sent is sent.
        () = work => serving.await,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "SPDY connection of a command ended");
    }
}

async fn carry(mut all: Vec<Stream>, ends: Ends, command: impl Future<Output = Vec<u8>>) {
    let mut take = |kind: &str| {
        let at = all.iter().position(|stream| stream.header("streamtype") == Some(kind))?;
        Some(all.swap_remove(at))
    };
    let Ends { mut stdin, stdout, stderr, resize } = ends;
    let (input, output, errors) = (take("stdin"), take("stdout"), take("stderr"));
    let (sizes, error) = (take("resize"), take("error"));
    let incoming = async {
        if let Some(mut stream) = input {
            while let Some(data) = stream.data.recv().await {
                feed(&mut stdin, &data).await;
            }
        }
        // The end of its input.
        drop(stdin);
    };
    let resizing = async {
        let (Some(mut stream), Some(resize)) = (sizes, resize) else { return };
        while let Some(data) = stream.data.recv().await {
            for size in data.split(|byte| *byte == b'\n').filter_map(terminal_size) {
                if resize.send(size).await.is_err() {
                    return;
                }
            }
        }
    };
    let outgoing = async |end, stream: Option<Stream>| {
        let Some(stream) = stream else { return };
        pump(end, |piece| stream.writer.write(Bytes::from(piece))).await;
        stream.writer.close().await;
    };
    let running = async {
        let (status, (), ()) = tokio::join!(command, outgoing(stdout, output), outgoing(stderr, errors));
        if let Some(error) = error {
            error.writer.write(Bytes::from(status)).await;
            error.writer.close().await;
        }
    };
    tokio::select! {
        () = running => {}
        ((), ()) = async { tokio::join!(incoming, resizing); std::future::pending().await } => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_told_as_clients_expect_it() {
        let parse = |result| -> serde_json::Value { serde_json::from_slice(&status(result)).unwrap() };
        assert_eq!(parse(Ok(0))["status"], "Success");
        let failed = parse(Ok(3));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(failed["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!(parse(Err(Error::NotFound { what: "x".into() }))["reason"], "InternalError");
    }
}
