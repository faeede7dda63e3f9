//! `Status`: the answer of the API when there is no object to answer with, above all its errors.
//!
//! Every error a client can see is made by one of the constructors here, so that code, reason, details and message are
//! the ones `k8s.io/apimachinery/pkg/api/errors` makes. A resource is named `plural.group` in messages, by plural and
//! group in the details; only [`Status::invalid`] names a kind.

mod received;

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::quote::quote;

/// An API error, or the `Success` that answers a delete.
///
/// Serializes as the `v1` `Status` object. `code` is also the HTTP status of the answer (0 in a success that carries
/// no code: it goes out as 200).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The HTTP status; 0 only in [`Status::deleted`].
    pub code: u16,
    /// `None` for errors that Kubernetes gives no reason (a bare 500).
    pub reason: Option<Reason>,
    pub message: String,
    pub details: Option<Box<Details>>,
}

/// `Status.reason`: what kind of failure it is, for machines.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    /// What somebody else gave as the reason: a webhook that refuses may say what it likes.
    #[serde(untagged)]
    Other(Box<str>),
}

/// `Status.details`: what the failure is about. Empty fields are left out when it is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural of the resource; the kind in [`Status::invalid`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// Seconds; also sent as the `Retry-After` header.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

/// One of several reasons for a failure, usually about one field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// `FieldValueInvalid`, `FieldManagerConflict`, …
    #[serde(skip_serializing_if = "str::is_empty")]
    pub reason: Cow<'static, str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The path of the field, as `spec.ports[0].name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

impl Status {
    fn failure(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self { code, reason: Some(reason), message: message.into(), details: None }
    }

    fn about(mut self, group: &str, plural: &str, name: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: plural.to_owned(),
            ..Details::default()
        }));
        self
    }

    /// Adds or changes details.
    pub fn with_details(mut self, change: impl FnOnce(&mut Details)) -> Self {
        change(self.details.get_or_insert_default());
        self
    }

    /// With other words.
    pub fn with_message(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// 404: there is no such object.
    pub fn not_found(group: &str, plural: &str, name: &str) -> Self {
        Self::failure(404, Reason::NotFound, format!("{} {} not found", qualified(plural, group), quote(name)))
            .about(group, plural, name)
    }

    /// 404: there is no such path or resource. Details are there, and empty, as Kubernetes has them.
    pub fn no_such_resource() -> Self {
        Self::failure(404, Reason::NotFound, "the server could not find the requested resource").about("", "", "")
    }

    /// 409: a create of a name that is taken.
    pub fn already_exists(group: &str, plural: &str, name: &str) -> Self {
        Self::failure(
            409,
            Reason::AlreadyExists,
            format!("{} {} already exists", qualified(plural, group), quote(name)),
        )
        .about(group, plural, name)
    }

    /// 409: why an operation on an object cannot be done now. See [`Status::modified`] for the usual one.
    pub fn conflict(group: &str, plural: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {}: {why}", qualified(plural, group), quote(name));
        Self::failure(409, Reason::Conflict, message).about(group, plural, name)
    }

    /// 409: the resource version of the request is not the stored one.
    pub fn modified(group: &str, plural: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, plural, name, why)
    }

    /// 409: a server-side apply that would take fields from other managers.
    pub fn apply_conflict(message: String, causes: Vec<Cause>) -> Self {
        Self::failure(409, Reason::Conflict, message).with_details(|details| details.causes = causes)
    }

    /// 422: the object is not valid. `causes` are the field errors, in order; the message lists each different one
    /// once.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let mut errors: Vec<String> = Vec::with_capacity(causes.len());
        for cause in &causes {
            let error = format!("{}: {}", cause.field, cause.message);
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        let mut message = format!("{} {} is invalid", qualified(kind, group), quote(name));
        if !errors.is_empty() {
            message.push_str(": ");
            message.push_str(&aggregate(&errors));
        }
        Self::failure(422, Reason::Invalid, message).about(group, kind, name).with_details(|d| d.causes = causes)
    }

    /// 400: the request makes no sense; the message is all there is to say.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, Reason::BadRequest, message)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::failure(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 403 by admission: `plural "name" is forbidden: why`. Without a name the message speaks of the resource.
    pub fn forbidden(group: &str, plural: &str, name: &str, why: impl fmt::Display) -> Self {
        let resource = qualified(plural, group);
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {} is forbidden: {why}", quote(name)),
        };
        Self::failure(403, Reason::Forbidden, message).about(group, plural, name)
    }

    /// 405 for a verb the resource does not have.
    pub fn method_not_supported(group: &str, plural: &str, action: &str) -> Self {
        let message = format!("{action} is not supported on resources of kind {}", quote(&qualified(plural, group)));
        Self::failure(405, Reason::MethodNotAllowed, message).about(group, plural, "")
    }

    /// 405 for a method the path does not know. Details are there, and empty.
    pub fn method_not_allowed() -> Self {
        Self::failure(405, Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
            .about("", "", "")
    }

    /// 406: the `Accept` header asks for nothing that can be had. Details are there, and empty.
    pub fn not_acceptable(available: &[&str]) -> Self {
        let message = format!("406: Not Acceptable\n\nAvailable representations: {}", available.join(", "));
        Self::failure(406, Reason::NotAcceptable, message).about("", "", "")
    }

    /// 410: what was asked for is gone for good (a resource version older than the watch cache, say).
    pub fn gone(message: impl Into<String>) -> Self {
        Self::failure(410, Reason::Gone, message)
    }

    /// 410: the resource version or continue token is too old.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, Reason::Expired, message)
    }

    /// 410 for a watch that starts at or before what has been compacted.
    pub fn too_old_resource_version(requested: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// 413: the body is longer than `limit` bytes.
    pub fn request_entity_too_large(message: impl Into<String>) -> Self {
        Self::failure(413, Reason::RequestEntityTooLarge, message)
    }

    /// 415: the body is in none of the `accepted` media types.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::failure(415, Reason::UnsupportedMediaType, message)
    }

    /// 415 where the path takes no body of that media type at all (a patch of type `text/plain`). Details are there,
    /// and empty.
    pub fn no_consumer() -> Self {
        Self::failure(415, Reason::UnsupportedMediaType, "415: Unsupported Media Type").about("", "", "")
    }

    /// 429: try again after some seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::failure(429, Reason::TooManyRequests, message)
            .with_details(|details| details.retry_after_seconds = retry_after_seconds)
    }

    /// 500 with a reason: something failed that is not the caller's fault.
    pub fn internal(error: impl fmt::Display) -> Self {
        let error = error.to_string();
        Self::failure(500, Reason::InternalError, format!("Internal error occurred: {error}"))
            .with_details(|details| details.causes = vec![Cause { message: error, ..Cause::default() }])
    }

    /// 500 as Kubernetes sends an error that has no `Status` of its own: no reason, no details.
    pub fn plain(message: impl Into<String>) -> Self {
        Self { code: 500, reason: None, message: message.into(), details: None }
    }

    /// 503.
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, Reason::ServiceUnavailable, message)
    }

    /// 504: the request took too long.
    pub fn timeout(message: impl fmt::Display, retry_after_seconds: u32) -> Self {
        Self::failure(504, Reason::Timeout, format!("Timeout: {message}"))
            .with_details(|details| details.retry_after_seconds = retry_after_seconds)
    }

    /// 504: a resource version that is not there yet was asked for.
    pub fn too_large_resource_version(requested: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {requested}, current: {current}");
        Self::timeout(message, 1).with_details(|details| {
            details.causes = vec![Cause {
                reason: "ResourceVersionTooLarge".into(),
                message: "Too large resource version".to_owned(),
                field: String::new(),
            }];
        })
    }

    /// The answer to a delete that took effect at once.
    pub fn deleted(group: &str, plural: &str, name: &str, uid: &str) -> Self {
        Self { code: 0, reason: None, message: String::new(), details: None }
            .about(group, plural, name)
            .with_details(|details| details.uid = uid.to_owned())
    }

    /// The answer to a successful binding or eviction: `Success` with a code and nothing else.
    pub fn created() -> Self {
        Self { code: 201, reason: None, message: String::new(), details: None }
    }

    /// Whether it says `Success`.
    pub fn is_success(&self) -> bool {
        self.code < 400
    }

    /// The status code of the HTTP answer.
    pub fn http_code(&self) -> u16 {
        if self.code == 0 { 200 } else { self.code }
    }

    /// Seconds for the `Retry-After` header, if the client shall try again.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.details.as_ref().map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

impl Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Wire<'a> {
            kind: &'static str,
            api_version: &'static str,
            metadata: std::collections::BTreeMap<(), ()>,
            status: &'static str,
            #[serde(skip_serializing_if = "str::is_empty")]
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<&'a Reason>,
            #[serde(skip_serializing_if = "Option::is_none")]
            details: Option<&'a Details>,
            #[serde(skip_serializing_if = "is_zero")]
            code: u32,
        }
        Wire {
            kind: "Status",
            api_version: "v1",
            metadata: Default::default(),
            status: if self.is_success() { "Success" } else { "Failure" },
            message: &self.message,
            reason: self.reason.as_ref(),
            details: self.details.as_deref(),
            code: self.code.into(),
        }
        .serialize(serializer)
    }
}

/// `plural.group`, or the plural alone in the core group.
fn qualified(plural: &str, group: &str) -> String {
    if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
}

/// Several errors in one message, as Go's `errors.Aggregate`: one stands alone, more in brackets.
pub fn aggregate(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn wire(status: &Status) -> Value {
        serde_json::to_value(status).expect("a status serializes")
    }

    #[test]
    fn not_found_names_resource_and_group() {
        assert_eq!(
            wire(&Status::not_found("apps", "deployments", "none")),
            json!({"apiVersion": "v1", "code": 404, "details": {"group": "apps", "kind": "deployments", "name": "none"},
                "kind": "Status", "message": "deployments.apps \"none\" not found", "metadata": {},
                "reason": "NotFound", "status": "Failure"})
        );
    }

    #[test]
    fn invalid_lists_each_error_once_in_the_message_and_all_in_the_causes() {
        let cause = |field: &str| Cause {
            reason: "FieldValueRequired".into(),
            message: "Required value".into(),
            field: field.into(),
        };
        let status = Status::invalid("", "Pod", "p", vec![cause("a"), cause("b"), cause("a")]);
        assert_eq!(status.message, "Pod \"p\" is invalid: [a: Required value, b: Required value]");
        assert_eq!(wire(&status)["details"]["causes"].as_array().map(Vec::len), Some(3));
        assert_eq!(
            Status::invalid("", "", "", vec![cause("patch")]).message,
            " \"\" is invalid: patch: Required value"
        );
    }

    #[test]
    fn details_are_absent_or_empty_as_in_kubernetes() {
        assert_eq!(wire(&Status::method_not_allowed())["details"], json!({}));
        assert_eq!(wire(&Status::bad_request("x")).get("details"), None);
        assert_eq!(
            wire(&Status::plain("resourceVersion should not be set on objects to be created")),
            json!({"apiVersion": "v1", "code": 500, "kind": "Status", "metadata": {}, "status": "Failure",
                "message": "resourceVersion should not be set on objects to be created"})
        );
    }

    #[test]
    fn a_delete_succeeds_without_a_code() {
        let status = Status::deleted("apps", "deployments", "d", "u");
        assert_eq!(
            wire(&status),
            json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success",
                "details": {"group": "apps", "kind": "deployments", "name": "d", "uid": "u"}})
        );
        assert_eq!(status.http_code(), 200);
    }

    #[test]
    fn a_version_from_the_future_times_out_with_a_cause() {
        assert_eq!(
            wire(&Status::too_large_resource_version(9, 3)),
            json!({"apiVersion": "v1", "code": 504, "kind": "Status", "metadata": {}, "reason": "Timeout", "status": "Failure",
                "message": "Timeout: Too large resource version: 9, current: 3",
                "details": {"retryAfterSeconds": 1, "causes": [
                    {"message": "Too large resource version", "reason": "ResourceVersionTooLarge"}]}})
        );
    }
}
