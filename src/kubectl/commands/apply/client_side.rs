//! `kubectl apply` in the client: what was applied last is an annotation of the object, and the patch is made of that, of
//! the file, and of the live object.

use serde_json::{Value, json};

use super::{Apply, three_way};
use crate::cluster::{Cluster, MERGE_PATCH, Query, STRATEGIC_PATCH};
use crate::error::Error;
use crate::target::Target;

/// Where the last applied configuration is kept.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// A conflict with another writer is tried again so often.
const ATTEMPTS: usize = 5;

/// Creates or patches the object; gives it and what was done.
pub async fn apply(
    cluster: &Cluster,
    args: &Apply,
    target: &Target,
    validation: &str,
) -> Result<(Value, &'static str), Error> {
    let name = super::name_of(target)?;
    let Some(document) = &target.document else { return Err(Error::usage("no objects passed to apply")) };
    let modified = with_last_applied(&document.object);
    let path = target.resource.path(&target.namespace, name);
    let query = Query::new()
        .with("fieldManager", args.field_manager.as_deref().unwrap_or("kubectl-client-side-apply"))
        .with("fieldValidation", validation)
        .with_some("dryRun", (args.dry_run == "server").then_some("All"));
    for attempt in 1.. {
        let Some(current) = cluster.get_optional(&path).await? else {
            if args.dry_run == "client" {
                return Ok((modified, "created"));
            }
            let collection = target.resource.collection(Some(&target.namespace));
            return Ok((cluster.create(&format!("{collection}{query}"), &modified).await?, "created"));
        };
        if k3s_api::object::annotation(&current, LAST_APPLIED).is_none() {
            eprintln!(
                "Warning: resource {}/{name} is missing the {LAST_APPLIED} annotation which is required by kubectl apply. \
                 kubectl apply should only be used on resources created declaratively by either kubectl create --save-config \
                 or kubectl apply. The missing annotation will be patched automatically.",
                target.resource.plural
            );
        }
        let resource = &target.resource;
        let builtin = k3s_api::resource::find_kind(&resource.group, &resource.version, &resource.kind);
        let patch =
            three_way::patch(last_applied(&current)?.as_ref(), &modified, &current, builtin.map(|row| row.schema()));
        if patch == json!({}) {
            return Ok((current, "unchanged"));
        }
        if args.dry_run == "client" {
            return Ok((current, "configured"));
        }
        let kind = if builtin.is_some() { STRATEGIC_PATCH } else { MERGE_PATCH };
        match cluster.patch(&format!("{path}{query}"), kind, patch.to_string().into_bytes()).await {
            Ok(object) => return Ok((object, "configured")),
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::usage("the object kept changing"))
}

/// The object with itself as the annotation.
pub fn with_last_applied(object: &Value) -> Value {
    let mut modified = object.clone();
    if let Some(annotations) = modified["metadata"].get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    let metadata = k3s_api::object::metadata_mut(&mut modified);
    if !metadata.get("annotations").is_some_and(Value::is_object) {
        metadata.insert("annotations".to_owned(), json!({}));
    }
    let text = format!("{}\n", crate::output::json::compact(&modified));
    modified["metadata"]["annotations"][LAST_APPLIED] = json!(text);
    modified
}

fn last_applied(current: &Value) -> Result<Option<Value>, Error> {
    let Some(text) = k3s_api::object::annotation(current, LAST_APPLIED) else { return Ok(None) };
    serde_json::from_str(text).map(Some).map_err(|error| {
        Error::usage(format!("the annotation {LAST_APPLIED} of {} is no JSON: {error}", k3s_api::object::name(current)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_does_not_hold_itself() {
        let object = json!({"kind": "ConfigMap", "metadata": {"name": "x"}});
        let once = with_last_applied(&object);
        let text = once["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
        assert_eq!(text, "{\"kind\":\"ConfigMap\",\"metadata\":{\"annotations\":{},\"name\":\"x\"}}\n");
        assert_eq!(with_last_applied(&once), once);
        assert_eq!(last_applied(&once).unwrap().unwrap()["kind"], "ConfigMap");
    }
}
