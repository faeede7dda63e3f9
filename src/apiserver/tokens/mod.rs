//! Questions about users that are asked as objects: `TokenReview`, `SelfSubjectReview`, the access reviews, and
//! `TokenRequest`, which is answered with a new token. Nothing of it is stored.

mod access;
mod token_request;
mod token_review;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Response, StatusCode};
use k3s_api::authentication::UserInfo;
use k3s_api::status::Status;
use k3s_api::{object, time};
use serde_json::{Map, Value, json};

use crate::Body;
use crate::admission::Operation;
use crate::call::Call;
use crate::options::{WriteKind, WriteOptions};
use crate::verbs::{input, managed};

/// Whether the resource is a review: its `create` is answered by [`review`].
pub(crate) fn is_review(group: &str, resource: &str) -> bool {
    matches!(
        (group, resource),
        ("authentication.k8s.io", "tokenreviews" | "selfsubjectreviews")
            | (
                "authorization.k8s.io",
                "subjectaccessreviews"
                    | "localsubjectaccessreviews"
                    | "selfsubjectaccessreviews"
                    | "selfsubjectrulesreviews"
            )
    )
}

/// Answers a review with itself and its status.
///
/// # Errors
/// 400 or 422 for what is no proper question.
pub(crate) async fn review(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.query, WriteKind::Create)?;
    let mut review = input::object(call, body, options.field_validation)?;
    input::check_namespace(call, &mut review)?;
    object::metadata_mut(&mut review);
    let attributes = call.attributes(Operation::Create, "", options.dry_run);
    call.server.admission().admit(&attributes, &mut review, None).await?;
    call.server.admission().validate(&attributes, &review, None).await?;
    match &*call.row.plural {
        "selfsubjectreviews" => {
            let now = time::format_seconds(jiff::Timestamp::now());
            review["metadata"] = json!({"creationTimestamp": now});
            review["status"] = json!({"userInfo": user_info(&call.user)});
        }
        "selfsubjectrulesreviews" => {
            return access::rules(call, &review).await;
        }
        "tokenreviews" => {
            managed::track(call, &options, None, &mut review);
            review["status"] = token_review::answer(call, &review).await?;
        }
        _ => {
            managed::track(call, &options, None, &mut review);
            review["status"] = access::answer(call, &review).await?;
        }
    }
    call.value(StatusCode::CREATED, &review)
}

pub(crate) use token_request::create as token_request;

/// A user as the API writes it (`authentication.k8s.io` `UserInfo`).
pub(crate) fn user_info(user: &UserInfo) -> Value {
    let mut info = Map::new();
    let mut put = |field: &str, value: Value, empty: bool| {
        if !empty {
            info.insert(field.to_owned(), value);
        }
    };
    put("username", json!(user.name), user.name.is_empty());
    put("uid", json!(user.uid), user.uid.is_empty());
    put("groups", json!(user.groups), user.groups.is_empty());
    put("extra", json!(user.extra), user.extra.is_empty());
    Value::Object(info)
}

/// The texts of a list; empty if it is absent.
fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The user that a `SubjectAccessReview` asks about.
fn subject(spec: &Value) -> UserInfo {
    let extra: BTreeMap<String, Vec<String>> =
        spec["extra"].as_object().into_iter().flatten().map(|(key, values)| (key.clone(), texts(values))).collect();
    UserInfo {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: texts(&spec["groups"]),
        extra,
    }
}
