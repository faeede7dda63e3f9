//! `proxy` of nodes, pods and services: any HTTP request passed on.

use bytes::Bytes;
use http::{Request, Response};
use k3s_api::status::Status;

use super::connect::Options;
use super::forward::Outgoing;
use super::target;
use crate::request::RequestInfo;
use crate::{ApiServer, Body, BoxError};

/// Passes the request on, with what stands behind `proxy` as its path, and the answer back.
pub(super) async fn proxy<B>(
    server: &ApiServer,
    request: Request<B>,
    info: &RequestInfo,
    options: &Options,
) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let registry = server.registry();
    let backend = match info.resource.as_str() {
        "pods" => target::pod(registry, &info.namespace, &info.name).await?,
        "services" => target::service(registry, &info.namespace, &info.name).await?,
        _ => {
            // `NODE:10250` and `https:NODE:` are the kubelet too.
            let (_, name, port) = target::split_name(&info.name)
                .ok_or_else(|| Status::bad_request(format!("invalid node request \"{}\"", info.name)))?;
            registry.catch_up().await?;
            let backend = target::kubelet(registry, name, "nodes").await?;
            if !port.is_empty() && port != backend.address.port().to_string() {
                return Err(Status::bad_request(format!("port {port} of a node is not proxied, only its kubelet's")));
            }
            backend
        }
    };
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = match options.other_path() {
        Some(path) => format!("/{}{query}", path.trim_start_matches('/')),
        // As the client has escaped it.
        None => format!("/{}{query}", info.rest),
    };
    let outgoing = Outgoing::new(request, path);
    let answer = server.relay().forward(&backend, outgoing).await;
    answer.map_err(|error| Status::service_unavailable(format!("error trying to reach service: {error}")))
}
