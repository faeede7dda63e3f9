//! Where a request goes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::ACCEPT_ENCODING;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use k3s_api::authentication::UserInfo;
use k3s_api::resource::Verbs;
use k3s_api::status::Status;
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::audit::{self, Asked, Record};
use crate::authentication::Impersonator;
use crate::authorization::Attributes;
use crate::call::Call;
use crate::metrics::requests::What;
use crate::negotiate::{self, Accept};
use crate::options::ListOptions;
use crate::registry::Row;
use crate::request::{Query, RequestInfo};
use crate::serve::Peer;
use crate::verbs::{binding, create, delete, eviction, get, list, patch, subresource, update, watch};
use crate::{
    ApiServer, Body, BoxError, aggregator, deadline, discovery, encode, health, metrics, openapi, openid, relay,
    response, tokens,
};

/// Bodies are not longer than this.
const MAX_BODY: usize = 3 << 20;

/// A request's body, from wherever: with one type for all, the pipeline is compiled once, and here.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, std::io::Error>;

/// Answers a request. Never fails: an error is a response too.
pub(crate) fn handle(server: ApiServer, request: Request<RequestBody>) -> BoxFuture<'static, Response<Body>> {
    Box::pin(answer(server, request))
}

async fn answer(server: ApiServer, mut request: Request<RequestBody>) -> Response<Body> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let info = RequestInfo::new(request.method(), request.uri().path(), &query);
    let user = request.extensions_mut().remove::<UserInfo>().unwrap_or_else(anonymous);
    if let Some(peer) = request.extensions().get::<Peer>() {
        peer.set_patient(info.is_long_running() && info.verb != "watch");
    }
    let audit_id = audit::id(request.headers());
    let record = begin_record(&server, &audit_id, &request, &info, &user);
    let mut response = match &record {
        Some(record) => match record.received().await {
            Ok(()) => recorded(server, request, info, query, user, record).await,
            Err(status) => response::status(&status),
        },
        None => in_turn(server, request, info, query, user, None).await,
    };
    audit::label(&mut response, &audit_id);
    response
}

/// What the audit log will say of the request, if it does.
fn begin_record(
    server: &ApiServer,
    id: &str,
    request: &Request<RequestBody>,
    info: &RequestInfo,
    user: &UserInfo,
) -> Option<Arc<Record>> {
    let audit = server.audit()?;
    let extensions = request.extensions();
    let remote = extensions.get::<Peer>().map(|peer| peer.remote().ip());
    let (uri, headers) = (request.uri(), request.headers());
    // The policy speaks of who is there, whomever he acts as.
    let asked = match extensions.get::<Impersonator>() {
        Some(Impersonator { own, constraint }) => {
            let constraint = *constraint;
            Asked { uri, headers, remote, info, user: own, impersonated: Some(user), constraint }
        }
        None => Asked { uri, headers, remote, info, user, impersonated: None, constraint: None },
    };
    audit.begin(id, &asked)
}

async fn recorded(
    server: ApiServer,
    mut request: Request<RequestBody>,
    info: RequestInfo,
    query: Query,
    user: UserInfo,
    record: &Arc<Record>,
) -> Response<Body> {
    if record.wants_response() {
        request.headers_mut().remove(ACCEPT_ENCODING);
    }
    let long_running = info.is_long_running();
    let response = in_turn(server, request, info, query, user, Some(Arc::clone(record))).await;
    Arc::clone(record).answered(response, long_running).await
}

/// Answers a request when it is its turn.
async fn in_turn(
    server: ApiServer,
    request: Request<RequestBody>,
    info: RequestInfo,
    query: Query,
    user: UserInfo,
    audit: Option<Arc<Record>>,
) -> Response<Body> {
    let ticket = match server.flow_control().admit(server.registry(), &user, &info, &query).await {
        Ok(ticket) => ticket,
        Err(refused) => return refused,
    };
    let mut response = admitted(server, request, info, query, user, audit).await;
    ticket.label(&mut response);
    response
}

/// What a request is answered with whose turn it is.
async fn admitted(
    server: ApiServer,
    request: Request<RequestBody>,
    info: RequestInfo,
    query: Query,
    user: UserInfo,
    audit: Option<Arc<Record>>,
) -> Response<Body> {
    let within = match deadline::of(&query, server.config().request_timeout) {
        Ok(within) => within,
        Err(status) => return response::status(&status),
    };
    if let Err(status) = authorize(&server, &user, &info, audit.as_deref()).await {
        return response::status(&status);
    }
    if !info.is_resource {
        let answer = timeout(within, document(server, request, &info, &query, &user)).await;
        return answer.unwrap_or_else(|_| response::status(&deadline::passed()));
    }
    let row = match route(&server, &info, request.method()) {
        Ok(row) => row,
        Err(status) => {
            return match aggregator::find(&server, &info.path).await {
                Ok(Some(api_service)) => aggregator::answer(&server, &api_service, request, &user, &info).await,
                // A group or version that nobody has is no part of the API.
                Ok(None) if status.code == 404 && !is_served(&server, &info) => response::page_not_found(),
                Ok(None) => response::status(&status),
                Err(error) => response::status(&error.into()),
            };
        }
    };
    let what = What::new(&info, &row, &query, request.headers());
    let counting = server.clone();
    let answer = async move {
        if relay::is_relayed(&info) {
            return relay::handle(&server, request, &info, &query, &user, audit.as_deref()).await;
        }
        let collection = info.subresource.is_empty() && matches!(info.verb, "list" | "watch");
        let asked = negotiate::Asked { collection, custom: row.custom().is_some() };
        let accept = match negotiate::negotiate(request.headers(), &query, asked) {
            Ok(accept) => accept,
            Err(status) => return response::status(&status),
        };
        let (parts, body) = request.into_parts();
        let warnings = Mutex::new(
            Some(row.strategy.deprecated).filter(|text| !text.is_empty()).map(str::to_owned).into_iter().collect(),
        );
        let call = Call {
            server,
            info,
            query,
            headers: parts.headers,
            user,
            row,
            accept,
            warnings,
            audit_annotations: Mutex::default(),
            audit,
        };
        resource(call, body, within).await
    };
    let response = answer.await;
    counting.requests().count(what, response.status());
    response
}

/// May he? The audit log is told why.
async fn authorize(
    server: &ApiServer,
    user: &UserInfo,
    info: &RequestInfo,
    audit: Option<&Record>,
) -> Result<(), Status> {
    let asked = Attributes::from(info);
    let decision = server.authorizer().authorize(server.registry(), user, asked).await?;
    if let Some(record) = audit {
        let undecided = !decision.is_allowed() && decision.error.is_some();
        let (word, reason) = match decision.is_allowed() {
            true => ("allow", decision.reason.as_str()),
            false => ("forbid", decision.reason.as_str()),
        };
        if !undecided {
            record.annotate("authorization.k8s.io/decision", word);
        }
        record.annotate("authorization.k8s.io/reason", if undecided { "internal error" } else { reason });
    }
    decision.enforce(user, &asked)
}

fn anonymous() -> UserInfo {
    let groups = vec!["system:unauthenticated".to_owned()];
    UserInfo { name: "system:anonymous".to_owned(), groups, ..UserInfo::default() }
}

/// What is no resource: discovery, OpenAPI, health, version.
async fn document(
    server: ApiServer,
    request: Request<RequestBody>,
    info: &RequestInfo,
    query: &Query,
    user: &UserInfo,
) -> Response<Body> {
    match aggregator::find(&server, &info.path).await {
        Ok(Some(api_service)) => return aggregator::answer(&server, &api_service, request, user, info).await,
        Ok(None) => {}
        Err(error) => return response::status(&error.into()),
    }
    if let Some(response) = health::handle(&server, &info.path, query).await {
        return response;
    }
    if let Some(response) = discovery::handle(&server, &info.path, request.headers()) {
        return response;
    }
    if let Some(response) = openapi::handle(&server, &info.path, query, request.headers()) {
        return response;
    }
    if let Some(response) = openid::handle(&server, &info.path) {
        return response;
    }
    if info.path == "/metrics" {
        return metrics::handle(&server);
    }
    response::page_not_found()
}

/// What a request for a resource is answered with.
async fn resource(call: Call, body: RequestBody, within: Duration) -> Response<Body> {
    let accept = call.accept;
    if call.info.verb == "watch" {
        let answer = match ListOptions::parse(&call.query, true) {
            Ok(options) => {
                timeout(within, watch::watch(call, options)).await.unwrap_or_else(|_| Err(deadline::passed()))
            }
            Err(status) => Err(status),
        };
        return answer.unwrap_or_else(|status| encode::status(accept, &status));
    }
    let answer = timeout(within, async {
        let body = read(body).await?;
        if let Some(record) = &call.audit {
            record.request_body(&call.headers, &body);
        }
        verb(&call, &body).await
    });
    let answer = answer.await.unwrap_or_else(|_| Err(deadline::passed()));
    let mut response = answer.unwrap_or_else(|status| error(&call, accept, &status));
    response::add_warnings(&mut response, &call.warnings.lock());
    if let Some(record) = &call.audit {
        record.annotate_all(&call.audit_annotations.lock());
    }
    response
}

fn error(call: &Call, accept: Accept, status: &Status) -> Response<Body> {
    if status.code >= 500 {
        let (verb, path) = (call.info.verb, call.info.path.as_str());
        tracing::error!(verb, path, code = status.code, message = status.message, "request failed");
    }
    encode::status(accept, status)
}

/// The resource's row, if it is there and takes the method.
fn route(server: &ApiServer, info: &RequestInfo, method: &Method) -> Result<Row, Status> {
    let row =
        server.registry().find(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_resource)?;
    let named = !info.name.is_empty() && !is_collection(info);
    let is_namespace = row.group.is_empty() && row.plural == "namespaces";
    let placed = row.namespaced && !info.namespace.is_empty();
    if (row.namespaced && named && !placed) || (!row.namespaced && !info.namespace.is_empty() && !is_namespace) {
        return Err(Status::no_such_resource());
    }
    let verbs = if info.subresource.is_empty() {
        row.verbs
    } else {
        row.subresource(&info.subresource).ok_or_else(Status::no_such_resource)?.verbs
    };
    let allowed = match info.verb {
        // An object that is asked for with `watch` is just given.
        "create" if info.subresource.is_empty() => !named && (placed || !row.namespaced),
        "deletecollection" => placed || !row.namespaced,
        "update" | "patch" | "delete" => named,
        _ => true,
    };
    let verb = Verbs::parse(info.verb);
    if !allowed || *method == Method::HEAD || !verb.is_some_and(|verb| verbs.contains(verb)) {
        return Err(Status::method_not_allowed());
    }
    Ok(row)
}

/// Whether there are resources of that group and version; of custom ones, that resource.
fn is_served(server: &ApiServer, info: &RequestInfo) -> bool {
    let builtin = k3s_api::resource::builtin();
    builtin.iter().any(|row| row.group == info.group && row.version == info.version)
        || server.registry().find(&info.group, &info.version, &info.resource).is_some()
}

/// Collections may have a name by a field selector.
fn is_collection(info: &RequestInfo) -> bool {
    matches!(info.verb, "list" | "watch" | "deletecollection")
}

async fn verb(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    match (call.info.subresource.as_str(), call.info.verb) {
        ("scale", "get") => subresource::get_scale(call).await,
        ("scale", _) => subresource::write_scale(call, body).await,
        ("binding", "create") => binding::bind(call, body).await,
        ("eviction", "create") => eviction::evict(call, body).await,
        ("", "create") if tokens::is_review(&call.row.group, &call.row.plural) => tokens::review(call, body).await,
        ("token", "create") => tokens::token_request(call, body).await,
        (_, "get") => get::get(call).await,
        ("", "list") => list::list(call, &ListOptions::parse(&call.query, false)?).await,
        ("", "create") => create::create(call, body).await,
        ("", "delete") => delete::delete(call, body).await,
        ("", "deletecollection") => delete::delete_collection(call, body).await,
        (_, "update") => update::update(call, body).await,
        (_, "patch") => patch::patch(call, body).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// The whole body, if it isn't too long.
async fn read<B>(body: B) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Status::request_entity_too_large(format!("Request entity too large: limit is {MAX_BODY}")))
        }
        Err(error) => Err(Status::bad_request(format!("cannot read the body of the request: {error}"))),
    }
}
