//! From path to answer.

use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use k3s_streaming::{Body, Refusal, text};

use super::query::Query;
use super::{containers, logs, port_forward, remote_command, stats};
use crate::Kubelet;

pub(super) fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = text(StatusCode::OK, bytes);
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

impl Kubelet {
    /// Answers a request of the kubelet's port. Who asks has been checked before. An upgraded connection is served
    /// until it ends or the kubelet stops.
    pub async fn handle<B: Send>(self: &Arc<Self>, request: Request<B>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let query = Query::parse(request.uri().query());
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let answer = match parts.as_slice() {
            ["healthz", ..] => Ok(text(StatusCode::OK, "ok")),
            ["pods"] => Ok(json(&containers::pods(&self.ctx, false))),
            ["runningpods"] => Ok(json(&containers::pods(&self.ctx, true))),
            ["stats", "summary"] => stats::summary(&self.ctx).await,
            ["containerLogs", namespace, pod, container] => {
                logs::logs(&self.ctx, namespace, pod, container, &query).await
            }
            ["exec", namespace, pod, container] | ["exec", namespace, pod, _, container] => {
                remote_command::exec(self, request, (namespace, pod, container), &query).await
            }
            ["attach", namespace, pod, container] | ["attach", namespace, pod, _, container] => {
                remote_command::attach(self, request, (namespace, pod, container), &query).await
            }
            ["run", namespace, pod, container] | ["run", namespace, pod, _, container] => {
                remote_command::run(&self.ctx, (namespace, pod, container), &query).await
            }
            ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
                port_forward::port_forward(self, request, namespace, pod, &query).await
            }
            _ => Err(Refusal(StatusCode::NOT_FOUND, "404 page not found".into())),
        };
        answer.unwrap_or_else(Response::from)
    }
}
