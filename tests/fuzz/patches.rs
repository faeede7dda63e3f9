//! Patches of every sort on objects of every kind.

use jiff::Timestamp;
use k3s_api::apply::{Writer, reset_fields};
use k3s_api::patch::{json, merge, strategic};
use serde_json::{Value, json};

use crate::choices::Choices;
use crate::objects::{some_object, some_resource};
use crate::{Outcome, same};

/// Operations on paths that are there, nearly there and nowhere.
fn json_patch(choices: &mut Choices<'_>) -> Value {
    (0..choices.below(5))
        .map(|_| {
            let path = |choices: &mut Choices<'_>| {
                let known =
                    ["/metadata/labels", "/metadata/name", "/spec", "/spec/-", "/metadata/labels/a", "", "/", "a"];
                let mut path = choices.of(&known).to_owned();
                if choices.below(3) == 0 {
                    path.push('/');
                    path.push_str(&choices.text());
                }
                path
            };
            let op = choices.of(&["add", "remove", "replace", "move", "copy", "test", "nothing"]);
            json!({"op": op, "path": path(choices), "from": path(choices), "value": choices.any(2)})
        })
        .collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

pub fn a_merge_patch_twice_is_as_once(mut choices: Choices<'_>) -> Outcome {
    let resource = some_resource(&mut choices);
    let Some(object) = some_object(&mut choices, resource) else { return Ok(()) };
    let patch = bytes(&choices.of_schema(resource.schema()));
    let Ok(once) = merge::apply(&object, &patch) else { return Ok(()) };
    same("merged twice", &merge::apply(&once, &patch).ok(), &Some(once))
}

pub fn a_json_patch_is_applied_or_refused(mut choices: Choices<'_>) -> Outcome {
    let resource = some_resource(&mut choices);
    let Some(object) = some_object(&mut choices, resource) else { return Ok(()) };
    let _ = json::apply(&object, &bytes(&json_patch(&mut choices)));
    let _ = json::apply(&object, &bytes(&choices.any(3)));
    let _ = json::apply(&object, choices.rest());
    Ok(())
}

pub fn a_strategic_patch_is_merged_or_refused(mut choices: Choices<'_>) -> Outcome {
    let resource = some_resource(&mut choices);
    let Some(object) = some_object(&mut choices, resource) else { return Ok(()) };
    let unchanged = strategic::apply(&object, b"{}", resource.schema()).ok();
    same("nothing changed", &unchanged.as_ref(), &Some(&object))?;
    let mut patch = choices.of_schema(resource.schema());
    if let Some(spec) = patch.get_mut("spec").and_then(Value::as_object_mut) {
        let directives =
            ["$patch", "$retainKeys", "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers"];
        spec.insert(choices.of(&directives).to_owned(), choices.any(2));
    }
    let _ = strategic::apply(&object, &bytes(&patch), resource.schema());
    Ok(())
}

pub fn what_one_applies_twice_changes_nothing(mut choices: Choices<'_>) -> Outcome {
    let resource = some_resource(&mut choices);
    let Some(mut config) = some_object(&mut choices, resource) else { return Ok(()) };
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let api_version = resource.api_version();
    let reset = reset_fields(resource.has_status(), false, "");
    let writer = Writer {
        schema: resource.schema(),
        api_version: &api_version,
        kind: &resource.kind,
        subresource: "",
        manager: "one",
        reset: &reset,
        now: Timestamp::UNIX_EPOCH,
    };
    // Without fields of its own a manager is not on record, and the next apply is the first again.
    let own = |live: &Value| live["metadata"]["managedFields"].as_array().is_some_and(|all| !all.is_empty());
    if let Some(live) = writer.apply(None, &config, false).ok().filter(own) {
        let again = writer.apply(Some(&live), &config, false).map_err(|status| status.message)?;
        same("applied again", &again, &live)?;
    }
    Ok(())
}
