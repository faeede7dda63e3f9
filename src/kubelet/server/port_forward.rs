//! `/portForward`.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use k3s_streaming::{Body, Refusal};

use super::containers;
use super::query::Query;
use crate::Kubelet;

pub(super) async fn port_forward<B>(
    kubelet: &Arc<Kubelet>,
    request: Request<B>,
    namespace: &str,
    pod: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let mut ports: Vec<u16> = Vec::new();
    for text in ["port", "ports"].iter().flat_map(|name| query.all(name)).flat_map(|list| list.split(',')) {
        let port = text.parse().ok().filter(|port| *port != 0);
        ports.push(port.ok_or_else(|| Refusal(StatusCode::BAD_REQUEST, format!("invalid port {text:?}")))?);
    }
    let object = containers::pod(&kubelet.ctx, namespace, pod)?;
    let observed = containers::observed(&kubelet.ctx, &object).await?;
    let Some(sandbox) = observed.sandbox() else {
        let message = format!("unable to do port forwarding: pod \"{pod}\" is not running");
        return Err(Refusal(StatusCode::BAD_REQUEST, message));
    };
    let uid = object.metadata.uid.clone().unwrap_or_default();
    let (ctx, id) = (kubelet.ctx.clone(), sandbox.id.clone());
    k3s_streaming::port_forward(&kubelet.connections, request, ports, move |port| {
        let (ctx, id, uid) = (ctx.clone(), id.clone(), uid.clone());
        async move {
            let connection = ctx.runtime.port_forward(&id, port).await;
            connection.map_err(|error| format!("error forwarding port {port} to pod {uid}, uid : {error}"))
        }
    })
}
