//! What [`LOCAL_SOCKET`](k3s_cri::LOCAL_SOCKET) does with images that CRI has no calls for.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use k3s_cri::{Error, ImageService as _};
use k3s_streaming::{Body, Refusal, text};
use percent_encoding::percent_decode_str;
use tokio::sync::mpsc;

use crate::Runtime;

/// How many pieces of an archive may wait, each of at most [`PIECE`] bytes.
const WAITING: usize = 8;
const PIECE: usize = 64 * 1024;

fn refuse(error: &Error) -> Refusal {
    let status = match error {
        Error::NotFound { .. } | Error::ImageNotFound { .. } => StatusCode::NOT_FOUND,
        Error::InvalidArgument { .. } => StatusCode::BAD_REQUEST,
        Error::NoSpace { .. } => StatusCode::INSUFFICIENT_STORAGE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refusal(status, error.to_string())
}

/// The values of a parameter.
fn values<B>(request: &Request<B>, name: &str) -> Vec<String> {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(known, _)| *known == name)
        .map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into_owned())
        .collect()
}

fn value<B>(request: &Request<B>, name: &str) -> Result<String, Refusal> {
    let missing = || Refusal(StatusCode::BAD_REQUEST, format!("the parameter {name} is missing"));
    values(request, name).into_iter().next().ok_or_else(missing)
}

/// Answers a request below `/images`.
pub(super) async fn answer(runtime: &Arc<Runtime>, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/images") => {
            let images = runtime.named_images().await.map_err(|error| refuse(&error))?;
            let json = serde_json::to_string(&images);
            let json = json.map_err(|error| Refusal(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
            Ok(text(StatusCode::OK, json))
        }
        (&Method::POST, "/images/import") => import(runtime, request.into_body()).await,
        (&Method::GET, "/images/export") => export(runtime, values(&request, "name")).await,
        (&Method::POST, "/images/tag") => {
            let (image, name) = (value(&request, "image")?, value(&request, "name")?);
            runtime.tag_image(&image, &name).await.map_err(|error| refuse(&error))?;
            Ok(text(StatusCode::OK, ""))
        }
        (&Method::DELETE, "/images") => {
            runtime.untag_image(&value(&request, "name")?).await.map_err(|error| refuse(&error))?;
            Ok(text(StatusCode::OK, ""))
        }
        _ => Err(Refusal(StatusCode::NOT_FOUND, "404 page not found".to_owned())),
    }
}

async fn import(runtime: &Runtime, mut archive: Incoming) -> Result<Response<Body>, Refusal> {
    let (pieces, received) = mpsc::channel(WAITING);
    let receiving = async move {
        while let Some(frame) = archive.frame().await {
            let piece = frame.map_err(io::Error::other).map(|frame| frame.into_data().unwrap_or_default());
            // Gone when the archive is not read to its end.
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    };
    let reader = Received { pieces: received, rest: Bytes::new() };
    let (imported, ()) = tokio::join!(runtime.import_archive(reader), receiving);
    let names = imported.map_err(|error| refuse(&error))?;
    Ok(text(StatusCode::OK, serde_json::Value::from(names).to_string()))
}

async fn export(runtime: &Arc<Runtime>, names: Vec<String>) -> Result<Response<Body>, Refusal> {
    if names.is_empty() {
        return Err(Refusal(StatusCode::BAD_REQUEST, "the parameter name is missing".to_owned()));
    }
    for name in &names {
        if runtime.image_status(name).await.map_err(|error| refuse(&error))?.is_none() {
            return Err(Refusal(StatusCode::NOT_FOUND, format!("image {name:?} not found")));
        }
    }
    let (pieces, received) = mpsc::channel::<io::Result<Bytes>>(WAITING);
    let (runtime, failed) = (runtime.clone(), pieces.clone());
    // Ends with the archive, or when nobody reads it any more.
    tokio::spawn(async move {
        let archive = io::BufWriter::with_capacity(PIECE, Sent(pieces));
        if let Err(error) = runtime.export_archive(&names, archive).await {
            // Breaks the answer off, so that what has come is not taken for an archive.
            let _ = failed.send(Err(io::Error::other(error.to_string()))).await;
        }
    });
    let frames = stream::unfold(received, |mut received| async move {
        let piece = received.recv().await?;
        Some((piece.map(Frame::data), received))
    });
    let mut response = text(StatusCode::OK, "");
    *response.body_mut() = StreamBody::new(frames).boxed_unsync();
    Ok(response)
}

/// What comes over the connection, for a thread that reads.
struct Received {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len());
        buffer[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

/// What goes over the connection, for a thread that writes.
struct Sent(mpsc::Sender<io::Result<Bytes>>);

impl Write for Sent {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(piece)));
        sent.map(|()| piece.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
