//! Our runtime's socket for tools ([`k3s_cri::LOCAL_SOCKET`]).

use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::net::UnixStream;

use crate::error::Error;

/// The socket beside that of CRI, if the runtime is ours.
pub fn beside(cri_socket: &Path) -> Option<PathBuf> {
    let path = cri_socket.with_file_name(k3s_cri::LOCAL_SOCKET);
    path.exists().then_some(path)
}

/// A path with parameters.
pub fn path(path: &str, parameters: &[(&str, &str)]) -> String {
    let encode = |(name, value): &(&str, &str)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC));
    format!("{path}?{}", parameters.iter().map(encode).collect::<Vec<_>>().join("&"))
}

/// The body of a request.
pub type Body = BoxBody<Bytes, std::io::Error>;

/// Nothing.
pub fn nothing() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed()
}

/// Asks; an answer that is no success is an error with its words.
pub async fn ask(
    socket: &Path,
    doing: &str,
    method: Method,
    path: &str,
    body: Body,
) -> Result<Response<Incoming>, Error> {
    let failed = |detail: String| Error::Local { doing: doing.to_owned(), detail };
    let stream = UnixStream::connect(socket).await.map_err(|error| failed(format!("{}: {error}", socket.display())))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
    // Ends with the request's body and the answer's.
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header(HOST, "localhost").body(body);
    let request = request.map_err(|error| failed(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let words = response.into_body().collect().await.map_err(|error| failed(error.to_string()))?.to_bytes();
    Err(failed(String::from_utf8_lossy(&words).trim().to_owned()))
}
