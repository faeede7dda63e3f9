//! `pods/log`: read from the kubelet, followed as it is written.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use k3s_api::object;
use k3s_api::status::Status;
use k3s_api::validation::{FieldError, Path};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::forward::{Outgoing, streamed};
use super::target;
use crate::request::{Query, RequestInfo};
use crate::{ApiServer, Body};

/// An error of a kubelet is not longer than this.
const LONGEST_ERROR: usize = 50 * 1024;

/// Answers with the log of one of the pod's containers.
pub(super) async fn log(server: &ApiServer, info: &RequestInfo, query: &Query) -> Result<Response<Body>, Status> {
    let options = options(query)?;
    let registry = server.registry();
    let pod = target::object(registry, "pods", &info.namespace, &info.name).await?;
    let container = target::container(&pod, query.get("container").unwrap_or_default())?;
    let Some(node) = object::text(&pod, &["spec", "nodeName"]).filter(|node| !node.is_empty()) else {
        // Nothing can have been written yet.
        let mut nothing = Response::new(Body::Empty);
        *nothing.status_mut() = StatusCode::NO_CONTENT;
        return Ok(nothing);
    };
    let backend = target::kubelet(registry, node, "pods").await?;
    let path = format!("/containerLogs/{}/{}/{container}{options}", info.namespace, info.name);
    let outgoing = Outgoing {
        method: Method::GET,
        path: path.clone(),
        headers: HeaderMap::new(),
        body: Empty::<Bytes>::new(),
        upgrade: None,
    };
    let (response, _) = server
        .relay()
        .send(&backend, outgoing)
        .await
        .map_err(|error| Status::plain(format!("Get \"{backend}{path}\": {error}")))?;
    let code = response.status();
    if code.is_success() {
        let mut response = streamed(response);
        let headers = response.headers_mut();
        *headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
        return Ok(response);
    }
    let text = Limited::new(response.into_body(), LONGEST_ERROR).collect().await.map_err(Status::internal)?;
    let text = String::from_utf8_lossy(&text.to_bytes()).trim_end().to_owned();
    Err(match code {
        StatusCode::INTERNAL_SERVER_ERROR => Status::internal(text),
        StatusCode::BAD_REQUEST => Status::bad_request(text),
        StatusCode::NOT_FOUND => not_found(&info.name),
        code => Status::plain(format!("the kubelet answered {code}: {text}")),
    })
}

/// The kubelet's 404 in the words of the API's clients.
fn not_found(pod: &str) -> Status {
    let mut status = Status::no_such_resource();
    status.message = format!("the server could not find the requested resource ( pods/log {pod})");
    status.with_details(|details| {
        details.kind = "pods/log".to_owned();
        details.name = pod.to_owned();
    })
}

/// The kubelet's query for the client's (`PodLogOptions`).
fn options(query: &Query) -> Result<String, Status> {
    let mut out = String::new();
    let mut add = |name: &str, value: &str| {
        out.push(if out.is_empty() { '?' } else { '&' });
        out.push_str(&format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    };
    for name in ["follow", "previous", "timestamps"] {
        if query.flag(name) {
            add(name, "true");
        }
    }
    let mut errors = Vec::new();
    for (name, least) in [("sinceSeconds", 1), ("tailLines", 0), ("limitBytes", 1)] {
        let Some(text) = query.get(name).filter(|text| !text.is_empty()) else { continue };
        let number: i64 = text.parse().map_err(|_| {
            Status::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", k3s_api::quote::quote(text)))
        })?;
        if number < least {
            let detail = match least {
                0 => "must be greater than or equal to 0",
                _ => "must be greater than 0",
            };
            errors.push(FieldError::invalid(&Path::new(name), number, detail).into());
        }
        add(name, text);
    }
    if let Some(since) = query.get("sinceTime").filter(|since| !since.is_empty()) {
        add("sinceTime", since);
    }
    if let Some(stream) = query.get("stream").filter(|stream| !stream.is_empty()) {
        add("stream", stream);
    }
    if errors.is_empty() { Ok(out) } else { Err(Status::invalid("", "PodLogOptions", "", errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked_and_passed_on() {
        let query = Query::parse("follow=true&tailLines=5&timestamps=false&sinceTime=2026-01-01T00:00:00Z&container=c");
        assert_eq!(options(&query).unwrap(), "?follow=true&tailLines=5&sinceTime=2026%2D01%2D01T00%3A00%3A00Z");
        assert_eq!(options(&Query::default()).unwrap(), "");
        let refused = options(&Query::parse("tailLines=-1")).unwrap_err();
        assert_eq!(refused.code, 422);
        assert_eq!(options(&Query::parse("limitBytes=x")).unwrap_err().code, 400);
    }
}
