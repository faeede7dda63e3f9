//! What is odd about an object and still taken: texts for `Warning` headers.

mod address;
mod key_pair;
mod network;
mod node_labels;
mod paths;
mod pod_spec;
mod ports;

use serde_json::Value;

pub use network::{endpoint_slice, endpoints, ingress, network_policy, service};

use super::names;
use super::node::Node;
use crate::object;
use crate::quantity::Quantity;
use pod_spec::pod_template;

/// Sources of volumes that have no use any more.
const OLD_VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The field of an old source as messages name it: one goes by its name in Go.
fn old_volumes(source: &Node, out: &mut Vec<String>) {
    for (kind, why) in OLD_VOLUMES {
        if source.field(kind).is_set() {
            let shown = if kind == "storageos" { "storageOS" } else { kind };
            out.push(format!("{}: {why}", source.path.child(shown)));
        }
    }
}

/// A name that is no label, where pods and hosts are called after it.
fn name(object: &Value, of: &str, out: &mut Vec<String>) {
    let wrong = names::dns1123_label(object::name(object));
    if !wrong.is_empty() {
        out.push(format!(
            "metadata.name: this is used in {of}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
}

const PODS_AND_HOSTS: &str = "Pod names and hostnames";

/// What a kind that makes pods by `spec.template` says of its spec, beside of the template itself.
type OfSpec = fn(&Node, &mut Vec<String>);

fn of_spec(workload: &Value, is_new: bool, with_template: bool, more: OfSpec) -> Vec<String> {
    let root = Node::root(workload);
    let spec = root.field("spec");
    let mut out = Vec::new();
    if is_new {
        name(workload, PODS_AND_HOSTS, &mut out);
    }
    if with_template {
        pod_template(&spec.field("template"), &mut out);
    }
    more(&spec, &mut out);
    out
}

fn spec_changed(new: &Value, old: &Value) -> bool {
    new.get("spec") != old.get("spec")
}

pub fn pod(pod: &Value) -> Vec<String> {
    let mut out = Vec::new();
    name(pod, "the Pod's hostname", &mut out);
    pod_spec::pod(&Node::root(pod), &mut out);
    out
}

/// Of a workload that makes pods by a template in its spec.
pub fn workload(workload: &Value) -> Vec<String> {
    of_spec(workload, true, true, |_, _| {})
}

/// The same for sets of which names of pods are not made so that it matters.
pub fn template(workload: &Value) -> Vec<String> {
    of_spec(workload, false, true, |_, _| {})
}

/// An update of a workload is told of what it does to the template, and only that.
pub fn changed_template(new: &Value, old: &Value) -> Vec<String> {
    if spec_changed(new, old) { template(new) } else { Vec::new() }
}

pub fn stateful_set(set: &Value) -> Vec<String> {
    of_spec(set, false, true, stateful_set_spec)
}

pub fn changed_stateful_set(new: &Value, old: &Value) -> Vec<String> {
    of_spec(new, false, spec_changed(new, old), stateful_set_spec)
}

fn stateful_set_spec(spec: &Node, out: &mut Vec<String>) {
    for claim in spec.field("volumeClaimTemplates").items() {
        let spec = claim.field("spec");
        claim_spec(&Node { value: spec.value, path: claim.path.child("Spec") }, out);
    }
    if spec.field("revisionHistoryLimit").int().is_some_and(|limit| limit < 0) {
        out.push(
            "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
                .to_owned(),
        );
    }
}

/// Of the indexes of a job only so many that fail can be told apart.
fn job_spec(spec: &Node, out: &mut Vec<String>) {
    let over = |field: &str, limit: i64| spec.field(field).int().is_some_and(|count| count > limit);
    if spec.field("completionMode").text() == "Indexed" && over("completions", 100_000) && over("parallelism", 10_000) {
        out.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            spec.path
        ));
    }
    pod_template(&spec.field("template"), out);
}

pub fn job(job: &Value) -> Vec<String> {
    of_spec(job, true, false, job_spec)
}

pub fn changed_job(new: &Value, old: &Value) -> Vec<String> {
    if spec_changed(new, old) { of_spec(new, false, false, job_spec) } else { Vec::new() }
}

fn cron_job_spec(spec: &Node, out: &mut Vec<String>) {
    job_spec(&spec.field("jobTemplate").field("spec"), out);
    if spec.field("schedule").text().contains("TZ") {
        out.push(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see \
             https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
                .to_owned(),
        );
    }
}

pub fn cron_job(job: &Value) -> Vec<String> {
    of_spec(job, true, false, cron_job_spec)
}

pub fn changed_cron_job(new: &Value, old: &Value) -> Vec<String> {
    if spec_changed(new, old) { of_spec(new, false, false, cron_job_spec) } else { Vec::new() }
}

/// A template that is an object of its own.
pub fn template_object(object: &Value) -> Vec<String> {
    let mut out = Vec::new();
    pod_template(&Node::root(object).field("template"), &mut out);
    out
}

/// Bytes don't come in parts.
fn fractional(amount: &Node, out: &mut Vec<String>) {
    let quantity = amount.text().parse::<Quantity>().unwrap_or_default();
    if quantity.milli_value() % 1000 != 0 {
        let shown = quantity.to_string();
        out.push(format!("{}: fractional byte value \"{shown}\" is invalid, must be an integer", amount.path));
    }
}

const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

fn old_class(object: &Value, out: &mut Vec<String>) {
    if object::annotation(object, CLASS_ANNOTATION).is_some() {
        out.push(format!(
            "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
}

pub fn persistent_volume(volume: &Value) -> Vec<String> {
    let root = Node::root(volume);
    let spec = root.field("spec");
    let mut out = Vec::new();
    old_class(volume, &mut out);
    if spec.field("persistentVolumeReclaimPolicy").text() == "Recycle" {
        out.push(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning."
                .to_owned(),
        );
    }
    let affinity = spec.field("nodeAffinity");
    let required = affinity.field("required");
    for term in required.field("nodeSelectorTerms").items() {
        node_labels::term(&term, false, &mut out);
    }
    old_volumes(&spec, &mut out);
    out
}

pub fn persistent_volume_claim(claim: &Value) -> Vec<String> {
    let mut out = Vec::new();
    old_class(claim, &mut out);
    claim_spec(&Node::root(claim).field("spec"), &mut out);
    out
}

fn claim_spec(spec: &Node, out: &mut Vec<String>) {
    let resources = spec.field("resources");
    for bound in ["requests", "limits"] {
        for (_, amount) in resources.field(bound).entries().filter(|(resource, _)| *resource == "storage") {
            fractional(&amount, out);
        }
    }
}

pub fn storage_class(class: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for topology in Node::root(class).field("allowedTopologies").items() {
        for expression in topology.field("matchLabelExpressions").items() {
            let key = expression.field("key");
            if let Some(why) = node_labels::deprecated(key.text()) {
                out.push(format!("{}: {why}", key.path));
            }
        }
    }
    out
}

pub fn csi_storage_capacity(capacity: &Value) -> Vec<String> {
    let mut out = Vec::new();
    node_labels::selector(&Node::root(capacity).field("nodeTopology"), &mut out);
    out
}

pub fn runtime_class(class: &Value) -> Vec<String> {
    let root = Node::root(class);
    let scheduling = root.field("scheduling");
    let selector = scheduling.field("nodeSelector");
    let old = selector.entries().filter_map(|(key, _)| node_labels::deprecated(key));
    old.map(|why| format!("{}: {why}", selector.path)).collect()
}

pub fn node(node: &Value) -> Vec<String> {
    let root = Node::root(node);
    let spec = root.field("spec");
    let mut out = Vec::new();
    if !spec.field("externalID").is_empty() {
        out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
    }
    spec.field("podCIDRs").items().for_each(|range| address::cidr(&range, &mut out));
    out
}

const MOUNTABLE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";

pub fn service_account(account: &Value) -> Vec<String> {
    match object::annotation(account, MOUNTABLE_SECRETS) {
        Some(_) => vec![format!(
            "metadata.annotations[{MOUNTABLE_SECRETS}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )],
        None => Vec::new(),
    }
}

/// An annotation that was there before is no news.
pub fn changed_service_account(new: &Value, old: &Value) -> Vec<String> {
    if object::annotation(old, MOUNTABLE_SECRETS).is_some() { Vec::new() } else { service_account(new) }
}

/// A key that is no match for its certificate.
pub fn secret(secret: &Value) -> Vec<String> {
    match object::text(secret, &["type"]) {
        Some("kubernetes.io/tls") => key_pair::complaint(secret).into_iter().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_told_what_is_odd_about_it() {
        let pod = json!({"metadata": {"name": "a.b"}, "spec": {
            "nodeSelector": {"beta.kubernetes.io/os": "linux"},
            "terminationGracePeriodSeconds": -1,
            "containers": [{"name": "c", "image": "i",
                "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
                "ports": [{"containerPort": 80}, {"containerPort": 80}],
                "resources": {"limits": {"memory": "1500m"}}}]}});
        assert_eq!(
            super::pod(&pod),
            [
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
            ]
        );
        assert!(super::pod(&json!({"metadata": {"name": "a"}, "spec": {"containers": []}})).is_empty());
    }

    #[test]
    fn what_has_a_newer_form_is_told_so() {
        let annotated = |key: &str| json!({"metadata": {"name": "a", "annotations": {key: "x"}}, "spec": {}});
        assert_eq!(ingress(&annotated("kubernetes.io/ingress.class")).len(), 1);
        assert_eq!(persistent_volume_claim(&annotated(CLASS_ANNOTATION)).len(), 1);
        assert!(
            persistent_volume(&json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle"}}))[0].contains("Recycle")
        );
    }
}
