//! Deployments, ReplicaSets, DaemonSets, StatefulSets and ReplicationControllers.

use serde_json::{Map, Value};

use super::node::{Errors, Node, go_struct};
use super::number::{int_or_percent, not_more_than_100_percent, positive_int_or_percent};
use super::pod;
use super::selector;
use super::{FieldError, Verbatim};

fn spec(object: &Value, errors: &mut Errors, rules: impl FnOnce(&Node, &mut Errors)) {
    let root = Node::root(object);
    rules(&root.field("spec"), errors);
}

pub fn deployment(deployment: &Value, errors: &mut Errors) {
    spec(deployment, errors, |spec, errors| {
        spec.field("replicas").non_negative(errors);
        selector::of_workload(spec, "deployment", errors);
        if selector::is_usable(&spec.field("selector")) {
            pod::lasting_template(&spec.field("template"), "ReplicaSet", errors);
        }
        strategy(&spec.field("strategy"), errors);
        spec.field("minReadySeconds").non_negative(errors);
        spec.field("revisionHistoryLimit").non_negative(errors);
        let deadline = spec.field("progressDeadlineSeconds");
        deadline.non_negative(errors);
        if deadline.int().is_some_and(|seconds| seconds <= spec.field("minReadySeconds").int().unwrap_or(0)) {
            deadline.invalid(errors, "must be greater than minReadySeconds");
        }
    });
}

fn strategy(strategy: &Node, errors: &mut Errors) {
    let rolling = strategy.field("rollingUpdate");
    match strategy.field("type").text() {
        "Recreate" if rolling.is_set() => {
            rolling.forbidden(errors, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" if !rolling.is_set() => rolling.required(errors, "this should be defaulted and never be nil"),
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
            positive_int_or_percent(&unavailable, errors);
            positive_int_or_percent(&surge, errors);
            if int_or_percent(&unavailable) == 0 && int_or_percent(&surge) == 0 {
                unavailable.invalid(errors, "may not be 0 when `maxSurge` is 0");
            }
            not_more_than_100_percent(&unavailable, errors);
        }
        _ => {
            let shown = go_struct(strategy.value, &[("Type", "type"), ("RollingUpdate", "rollingUpdate")]);
            errors.push(FieldError::not_supported(&strategy.path, shown, &["Recreate", "RollingUpdate"]));
        }
    }
}

pub fn replica_set(set: &Value, errors: &mut Errors) {
    spec(set, errors, |spec, errors| {
        spec.field("replicas").non_negative(errors);
        spec.field("minReadySeconds").non_negative(errors);
        selector::of_workload(spec, "deployment", errors);
        if selector::is_usable(&spec.field("selector")) {
            pod::lasting_template(&spec.field("template"), "ReplicaSet", errors);
        }
    });
}

pub fn replication_controller(controller: &Value, errors: &mut Errors) {
    spec(controller, errors, |spec, errors| {
        spec.field("minReadySeconds").non_negative(errors);
        let (labels, template) = (spec.field("selector"), spec.field("template"));
        if labels.is_empty() {
            labels.required(errors, "");
        }
        spec.field("replicas").non_negative(errors);
        if !template.is_set() {
            template.required(errors, "");
            return;
        }
        let metadata = template.field("metadata");
        let own = metadata.field("labels");
        if !labels.entries().all(|(key, value)| own.value.get(key) == Some(value.value)) {
            own.invalid(errors, "`selector` does not match template `labels`");
        }
        pod::lasting_template(&template, "ReplicationController", errors);
    });
}

pub fn daemon_set(set: &Value, errors: &mut Errors) {
    spec(set, errors, |spec, errors| {
        selector::of_workload(spec, "daemonset", errors);
        pod::lasting_template(&spec.field("template"), "DaemonSet", errors);
        spec.field("minReadySeconds").non_negative(errors);
        let strategy = spec.field("updateStrategy");
        let (kind, rolling) = (strategy.field("type"), strategy.field("rollingUpdate"));
        match kind.text() {
            "OnDelete" => {}
            "RollingUpdate" if !rolling.is_set() => rolling.required(errors, ""),
            "RollingUpdate" => {
                let (unavailable, surge) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
                positive_int_or_percent(&unavailable, errors);
                not_more_than_100_percent(&unavailable, errors);
                positive_int_or_percent(&surge, errors);
                not_more_than_100_percent(&surge, errors);
                match (int_or_percent(&unavailable) != 0, int_or_percent(&surge) != 0) {
                    (true, true) => surge.invalid(errors, "may not be set when maxUnavailable is non-zero"),
                    (false, false) => unavailable.required(errors, "cannot be 0 when maxSurge is 0"),
                    _ => {}
                }
            }
            _ => kind.not_supported(errors, &["RollingUpdate", "OnDelete"]),
        }
        spec.field("revisionHistoryLimit").non_negative(errors);
    });
}

pub fn stateful_set(set: &Value, errors: &mut Errors) {
    spec(set, errors, |spec, errors| {
        let policy = spec.field("podManagementPolicy");
        match policy.text() {
            "" => policy.required(errors, ""),
            "OrderedReady" | "Parallel" => {}
            _ => policy.invalid(errors, "must be 'OrderedReady' or 'Parallel'"),
        }
        let strategy = spec.field("updateStrategy");
        let rolling = strategy.field("rollingUpdate");
        match strategy.field("type").text() {
            "" => strategy.required(errors, ""),
            "OnDelete" if rolling.is_set() => {
                let shown =
                    go_struct(rolling.value, &[("Partition", "partition"), ("MaxUnavailable", "maxUnavailable")]);
                rolling.invalid_as(shown, errors, "only allowed for updateStrategy 'RollingUpdate'");
            }
            "OnDelete" => {}
            "RollingUpdate" => {
                rolling.field("partition").non_negative(errors);
                let unavailable = rolling.field("maxUnavailable");
                if unavailable.is_set() {
                    positive_int_or_percent(&unavailable, errors);
                    if int_or_percent(&unavailable) == 0 {
                        unavailable.invalid(errors, "cannot be 0");
                    }
                    not_more_than_100_percent(&unavailable, errors);
                }
            }
            _ => {
                let order = [("Partition", "partition"), ("MaxUnavailable", "maxUnavailable")];
                let rolling = match rolling.is_set() {
                    true => go_struct(rolling.value, &order).0,
                    false => "null".to_owned(),
                };
                let shown = format!(r#"{{"Type":{},"RollingUpdate":{rolling}}}"#, strategy.field("type").value);
                strategy.invalid_as(Verbatim(shown), errors, "must be 'RollingUpdate' or 'OnDelete'");
            }
        }
        let retention = spec.field("persistentVolumeClaimRetentionPolicy");
        for when in ["whenDeleted", "whenScaled"] {
            retention.field(when).one_of(errors, &["Retain", "Delete"]);
        }
        spec.field("replicas").non_negative(errors);
        spec.field("minReadySeconds").non_negative(errors);
        let ordinals = spec.field("ordinals");
        ordinals.field("start").non_negative(errors);
        selector::of_workload(spec, "statefulset", errors);
        pod::template_with_claims(&spec.field("template"), errors);
    });
}

/// What pods a workload owns cannot change: it would lose those it has.
pub fn selector_is_immutable(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    let selector = new_spec.field("selector");
    if selector.value != old_spec.field("selector").value {
        selector.invalid_as(selector::shown(selector.value), errors, "field is immutable");
    }
}

/// Fields of a StatefulSet's spec that an update may change.
const STATEFUL_SET_MUTABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub fn stateful_set_update(new: &Value, old: &Value, errors: &mut Errors) {
    let fixed = |object: &Value| -> Map<String, Value> {
        let mut spec = object.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
        spec.retain(|name, _| !STATEFUL_SET_MUTABLE.contains(&name.as_str()));
        spec
    };
    if fixed(new) != fixed(old) {
        let root = Node::root(new);
        root.field("spec").forbidden(errors, "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden");
    }
}

/// A pod template of its own.
pub fn pod_template(template: &Value, errors: &mut Errors) {
    let root = Node::root(template);
    pod::template(&root.field("template"), errors);
}

/// Revisions are written once.
pub fn controller_revision_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    new.field("data").immutable(&old.field("data"), errors);
}

pub fn controller_revision(revision: &Value, errors: &mut Errors) {
    let root = Node::root(revision);
    if !root.field("data").is_set() {
        root.field("data").required(errors, "data is mandatory");
    }
    root.field("revision").non_negative(errors);
}
