//! The objects that a binding gives its policy as parameters.

use std::sync::Arc;

use k3s_api::object::{self, text};
use k3s_api::selector::labels::Selector;
use k3s_api::status::Status;
use serde_json::Value;

use super::bound::{Binding, Policy};
use crate::admission::Attributes;
use crate::conversion::Conversion;

/// The parameters of a binding: the policy is evaluated once for each, with null if it has none. An empty list:
/// nothing is to be evaluated.
pub type Parameters = Vec<Option<Arc<Value>>>;

/// Reads the parameters. The inner error is the binding's, in words.
///
/// # Errors
/// If they cannot be read.
pub async fn parameters<E>(
    at: &Attributes<'_>,
    policy: &Policy<E>,
    binding: &Binding,
) -> Result<Result<Parameters, String>, Status> {
    let (Some(kind), Some(reference)) = (&policy.param_kind, &binding.param_ref) else { return Ok(Ok(vec![None])) };
    let (group, version) = object::group_version(object::api_version(kind));
    let rows = at.registry.resources();
    let Some(row) =
        rows.iter().find(|row| row.group == group && row.version == version && row.kind == object::kind(kind))
    else {
        let (version, kind) = (object::api_version(kind), object::kind(kind));
        return Ok(Err(format!("failed to find resource referenced by paramKind: '{version}, Kind={kind}'")));
    };
    let given = text(reference, &["namespace"]).unwrap_or_default();
    let namespace = match (row.namespaced, given, at.namespace) {
        (false, "", _) => "",
        (false, ..) => {
            let why = "paramRef.namespace must not be provided for a cluster-scoped `paramKind`";
            return Ok(Err(why.to_owned()));
        }
        (true, "", "") => {
            let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Ok(Err(why.to_owned()));
        }
        (true, "", own) => own,
        (true, given, _) => given,
    };
    let conversion = Conversion { registry: at.registry, relay: at.relay };
    let mut all = Vec::new();
    match text(reference, &["name"]).filter(|name| !name.is_empty()) {
        Some(name) => {
            if let Some(entry) = at.registry.get(row, namespace, name).await? {
                all.push(Some(conversion.read(row, &entry).await?));
            }
        }
        None => {
            let selector =
                Selector::from_label_selector(reference.get("selector")).unwrap_or_else(|_| Selector::nothing());
            for entry in at.registry.list(row, namespace).await?.entries {
                let value = conversion.read(row, &entry).await?;
                if selector.matches(object::labels(&value)) {
                    all.push(Some(value));
                }
            }
        }
    }
    if all.is_empty() && text(reference, &["parameterNotFoundAction"]) != Some("Allow") {
        return Ok(Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned()));
    }
    Ok(Ok(all))
}
