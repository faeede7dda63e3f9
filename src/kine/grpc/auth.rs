//! etcd's Auth service, refused: there are no users here.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use tonic::{Status, body::Body, codegen::http, server::NamedService};

/// Answers every method with what to do instead. (A service by itself rather than tonic's trait, since the messages of
/// one of its methods are not public in `etcd-client`.)
#[derive(Clone)]
pub(super) struct Refused;

impl NamedService for Refused {
    const NAME: &'static str = "etcdserverpb.Auth";
}

impl tower::Service<http::Request<Body>> for Refused {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        let refused = "kine: there are no users and roles; let clients prove who they are by certificates";
        ready(Ok(Status::unimplemented(refused).into_http()))
    }
}
