//! The in-process transport.

use http::{Request, Response};
use k3s_api::authentication::UserInfo;
use kube::client::Body;
use tower::{Service, ServiceExt};

/// A client that calls `service` directly as `user`: no socket, no TLS, no copy of the bodies.
pub fn in_process<S, B>(service: S, user: UserInfo) -> kube::Client
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<tower::BoxError> + Send + Sync + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    let service = service.map_request(move |mut request: Request<Body>| {
        request.extensions_mut().insert(user.clone());
        request
    });
    kube::Client::new(service, "default")
}
