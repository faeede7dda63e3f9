//! Where a request goes.

use bytes::Bytes;
use http::{Request, Response};
use k3s_api::status::Status;

use crate::request::{Query, RequestInfo};
use crate::{ApiServer, Body, BoxError, response};

/// Answers a request. Never fails: an error is a response too.
pub(crate) async fn handle<B>(server: ApiServer, request: Request<B>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let info = RequestInfo::new(request.method(), request.uri().path(), &query);
    tracing::trace!(verb = info.verb, path = info.path, revision = server.registry().revision());
    response::status(&Status::no_such_resource())
}
