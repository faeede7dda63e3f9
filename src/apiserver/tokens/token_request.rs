//! A new token for a service account (`serviceaccounts/token`), bound to the pod that will use it.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use k3s_api::decode::{self, FieldValidation};
use k3s_api::status::Status;
use k3s_api::validation::{FieldError, Path};
use k3s_api::{object, schema, time};
use serde_json::{Value, json};

use super::texts;
use crate::Body;
use crate::admission::Operation;
use crate::authentication::Objects;
use crate::authentication::service_account::{BoundObject, Claims};
use crate::call::Call;
use crate::options::{WriteKind, WriteOptions};
use crate::verbs::input::{self, Expected};

/// Seconds.
const DEFAULT_LIFETIME: i64 = 3600;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
/// The lifetime that pods' tokens ask for. As clients of old never read the file again, these really live for a year,
/// and their use after this time is what a cluster's owner is to be warned of.
const WARN_ONLY: i64 = 3607;
const EXTENDED: Duration = Duration::from_secs(365 * 24 * 3600);

const GROUP: &str = "authentication.k8s.io";

/// Answers with the request and its token.
///
/// # Errors
/// 404 if the account or what the token shall be bound to does not exist, 409 if that is another of the same name, 422
/// for a lifetime out of bounds.
pub(crate) async fn create(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let schema =
        schema::definition("io.k8s.api.authentication.v1.TokenRequest").ok_or_else(Status::no_such_resource)?;
    let text = input::json_text(&call.headers, body, Expected::of(GROUP, "v1", "TokenRequest"))?;
    let mut request = decode::decode_kind(&text, GROUP, "v1", "TokenRequest", schema, FieldValidation::Warn)?.value;
    let (namespace, name) = (call.namespace(), call.info.name.as_str());
    let options = WriteOptions::parse(&call.query, WriteKind::Create)?;
    let attributes = call.attributes(Operation::Create, name, options.dry_run);
    call.server.admission().admit(&attributes, &mut request, None).await?;
    call.server.admission().validate(&attributes, &request, None).await?;
    let registry = call.registry();
    registry.catch_up().await?;
    let account = registry.get(&call.row, namespace, name).await?.ok_or_else(|| call.not_found())?;
    let account = account.value()?;
    let Some(accounts) = call.server.authenticator().service_accounts() else {
        return Err(Status::internal("no service account signing key is configured"));
    };
    let spec = &request["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_LIFETIME);
    check_lifetime(seconds)?;
    let bound = bind(call, &spec["boundObjectRef"]).await?;
    let mut audiences = texts(&spec["audiences"]);
    if audiences.is_empty() {
        audiences = accounts.audiences().to_vec();
    }
    let lifetime = Duration::from_secs(seconds.unsigned_abs());
    let for_pod = bound.first().is_some_and(|bound| bound.kind == "Pod");
    let extend = seconds == WARN_ONLY && for_pod && audiences == accounts.audiences();
    let claims = Claims {
        namespace,
        name,
        uid: object::uid(&account),
        bound: &bound,
        audiences: &audiences,
        lifetime: if extend { EXTENDED } else { lifetime },
        warn_after: extend.then_some(lifetime),
    };
    let (token, _) = accounts.issue(&claims).map_err(Status::internal)?;
    let now = Timestamp::now();
    let expires = Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(Timestamp::MAX);
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["kind"] = json!("TokenRequest");
    request["metadata"] = json!({"name": name, "namespace": namespace, "creationTimestamp": time::format_seconds(now)});
    if !request["spec"].is_object() {
        request["spec"] = json!({});
    }
    request["spec"]["audiences"] = json!(audiences);
    request["spec"]["expirationSeconds"] = json!(seconds);
    request["status"] = json!({"token": token, "expirationTimestamp": time::format_seconds(expires)});
    call.value(StatusCode::CREATED, &request)
}

fn check_lifetime(seconds: i64) -> Result<(), Status> {
    let spec = Path::new("spec");
    let detail = match seconds {
        ..SHORTEST => "may not specify a duration less than 10 minutes",
        seconds if seconds > LONGEST => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let error = FieldError::invalid(&spec.child("expirationSeconds"), seconds, detail);
    Err(Status::invalid(GROUP, "TokenRequest", "", vec![error.into()]))
}

/// What the token is bound to, and the node of the pod it is bound to.
async fn bind(call: &Call, reference: &Value) -> Result<Vec<BoundObject>, Status> {
    let text = |field: &str| reference[field].as_str().unwrap_or_default();
    if reference.is_null() {
        return Ok(Vec::new());
    }
    let (resource, namespace) = match (text("kind"), text("apiVersion")) {
        ("Pod", "v1") => ("pods", call.namespace()),
        ("Secret", "v1") => ("secrets", call.namespace()),
        ("Node", "v1") => ("nodes", ""),
        (kind, version) => {
            let (group, version) = object::group_version(version);
            let message = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(message));
        }
    };
    let name = text("name");
    let found = Objects::get(call.registry(), resource, namespace, name).await?;
    let found = found.ok_or_else(|| Status::not_found("", resource, name))?;
    let (uid, wanted) = (object::uid(&found), text("uid"));
    if !wanted.is_empty() && wanted != uid {
        let why = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have \
             been deleted and then recreated"
        );
        return Err(Status::conflict("", resource, name, why));
    }
    let mut bound = vec![BoundObject { kind: text("kind").to_owned(), name: name.to_owned(), uid: uid.to_owned() }];
    if resource == "pods" {
        let account = call.info.name.as_str();
        if object::text(&found, &["spec", "serviceAccountName"]) != Some(account) {
            let message = format!(
                "cannot bind token for serviceaccount \"{account}\" to pod running with different serviceaccount name."
            );
            return Err(Status::bad_request(message));
        }
        if let Some(name) = object::text(&found, &["spec", "nodeName"])
            && let Some(node) = Objects::get(call.registry(), "nodes", "", name).await?
        {
            let uid = object::uid(&node).to_owned();
            bound.push(BoundObject { kind: "Node".to_owned(), name: name.to_owned(), uid });
        }
    }
    Ok(bound)
}
