//! Responses that are not objects: statuses and plain documents.

use http::header::{CONTENT_TYPE, RETRY_AFTER, WARNING};
use http::{HeaderValue, Response, StatusCode};
use k3s_api::status::Status;

use crate::Body;

/// Warnings are not longer than this together, so that clients can read the headers.
const MAX_WARNINGS: usize = 4096;

/// A JSON document.
pub fn json(code: StatusCode, document: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A `Status`, as JSON.
pub fn status(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.http_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    // A status holds nothing that JSON can't.
    let mut response = json(code, serde_json::to_vec(status).unwrap_or_default());
    if let Some(seconds) = status.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Plain text, as Go's server says errors.
pub fn text(code: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(text.to_owned()));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// 404 for a path that is none of the API's: plain text, as Go's server says it.
pub fn page_not_found() -> Response<Body> {
    text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// `Warning: 299 - "text"`, as RFC 7234 has them.
pub(crate) fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    let mut length = 0;
    for warning in warnings {
        let text: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        length += text.len();
        if length > MAX_WARNINGS {
            break;
        }
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            response.headers_mut().append(WARNING, value);
        }
    }
}
