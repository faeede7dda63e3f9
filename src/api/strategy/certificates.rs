//! certificates.k8s.io.

use serde_json::{Value, json};

use super::{GENERIC, Name, Strategy};
use crate::validation::certificates as rules;

/// Nobody minds what a request is called. What it asks for is said once; who asks is for the server to say.
pub const CERTIFICATE_SIGNING_REQUEST: Strategy = Strategy {
    name: Name::PathSegment,
    validate: rules::signing_request,
    validate_status: rules::decisions,
    prepare_create: |request| request["status"] = json!({}),
    prepare_update: |new, old| new["spec"] = old.get("spec").cloned().unwrap_or_else(|| json!({})),
    prepare_status: date_decisions,
    ..GENERIC
};

/// A decision that doesn't say so was made now, and so was one that says something new.
fn date_decisions(new: &mut Value, old: &Value) {
    let now = crate::time::format_seconds(jiff::Timestamp::now());
    let before = crate::object::at(old, &["status", "conditions"]).and_then(Value::as_array);
    let before: Vec<Value> = before.cloned().unwrap_or_default();
    let Some(status) = crate::defaults::field(new, "status") else { return };
    for condition in crate::defaults::items(status, "conditions") {
        if condition["lastUpdateTime"].is_null() {
            condition["lastUpdateTime"] = now.clone().into();
        }
        if condition["lastTransitionTime"].is_null() {
            let same = |was: &&Value| was["type"] == condition["type"] && was["status"] == condition["status"];
            let since = before.iter().find(same).map(|was| was["lastTransitionTime"].clone());
            condition["lastTransitionTime"] =
                since.filter(|time| !time.is_null()).unwrap_or_else(|| now.clone().into());
        }
    }
}
