//! What is odd about an object and still taken: texts for `Warning` headers.

use serde_json::Value;

use super::names;
use super::node::Node;
use crate::object;
use crate::quantity::Quantity;

/// Labels of nodes that have newer names, and since when.
const OLD_NODE_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

/// Sources of volumes that have no use any more.
const OLD_VOLUMES: [(&str, &str); 5] = [
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
];

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

pub fn pod(pod: &Value) -> Vec<String> {
    let root = Node::root(pod);
    let mut out = Vec::new();
    pod_spec(&root.field("spec"), &mut out);
    name(pod, "the Pod's hostname", &mut out);
    out
}

/// Of a workload that makes pods by a template in its spec.
pub fn workload(workload: &Value) -> Vec<String> {
    let root = Node::root(workload);
    let spec = root.field("spec");
    let template = spec.field("template");
    let mut out = Vec::new();
    name(workload, PODS_AND_HOSTS, &mut out);
    pod_spec(&template.field("spec"), &mut out);
    out
}

/// The same for sets of which names of pods are not made so that it matters.
pub fn template(workload: &Value) -> Vec<String> {
    let root = Node::root(workload);
    let spec = root.field("spec");
    let template = spec.field("template");
    let mut out = Vec::new();
    pod_spec(&template.field("spec"), &mut out);
    out
}

/// An update of a workload is told of what it does to the template, and only that.
pub fn changed_template(new: &Value, old: &Value) -> Vec<String> {
    if new.get("spec") == old.get("spec") { Vec::new() } else { template(new) }
}

pub fn changed_cron_job(new: &Value, old: &Value) -> Vec<String> {
    if new.get("spec") == old.get("spec") {
        return Vec::new();
    }
    let mut warnings = cron_job(new);
    warnings.retain(|warning| !warning.starts_with("metadata.name"));
    warnings
}

pub fn cron_job(job: &Value) -> Vec<String> {
    let root = Node::root(job);
    let spec = root.field("spec");
    let template = spec.field("jobTemplate");
    let job_spec = template.field("spec");
    let pod_template = job_spec.field("template");
    let mut out = Vec::new();
    name(job, PODS_AND_HOSTS, &mut out);
    pod_spec(&pod_template.field("spec"), &mut out);
    out
}

fn pod_spec(spec: &Node, out: &mut Vec<String>) {
    for (key, at) in spec.field("nodeSelector").entries() {
        if let Some((_, since, instead)) = OLD_NODE_LABELS.iter().find(|(old, ..)| *old == key) {
            out.push(format!("{}: deprecated since {since}; use \"{instead}\" instead", at.path));
        }
    }
    for secret in spec.field("imagePullSecrets").items().filter(|secret| secret.field("name").is_empty()) {
        out.push(format!("{}: invalid empty name \"\"", secret.field("name").path));
    }
    for volume in spec.field("volumes").items() {
        for (kind, why) in OLD_VOLUMES {
            if volume.field(kind).is_set() {
                out.push(format!("{}: {why}", volume.field(kind).path));
            }
        }
        let directory = volume.field("emptyDir");
        fractional(&directory.field("sizeLimit"), out);
    }
    for list in ["initContainers", "containers"] {
        spec.field(list).items().for_each(|container| self::container(&container, out));
    }
    let period = spec.field("terminationGracePeriodSeconds");
    if period.int().is_some_and(|seconds| seconds < 0) {
        out.push(format!("{}: must be >= 0; negative values are invalid and will be treated as 1", period.path));
    }
}

fn container(container: &Node, out: &mut Vec<String>) {
    let resources = container.field("resources");
    for bound in ["limits", "requests"] {
        for (resource, amount) in resources.field(bound).entries() {
            if matches!(resource, "memory" | "ephemeral-storage") {
                fractional(&amount, out);
            }
        }
    }
    let env = container.field("env");
    for (index, variable) in env.items().enumerate() {
        let name = variable.field("name").text();
        if env.items().take(index).any(|before| before.field("name").text() == name) {
            let why = format!("hides previous definition of \"{name}\", which may be dropped when using apply");
            out.push(format!("{}: {why}", variable.path));
        }
    }
    let ports = container.field("ports");
    for (index, port) in ports.items().enumerate() {
        let same = |other: &Node| {
            ["containerPort", "protocol", "hostPort", "hostIP"]
                .iter()
                .all(|field| other.field(field).value == port.field(field).value)
        };
        if let Some(first) = ports.items().take(index).find(same) {
            out.push(format!("{}: duplicate port definition with {}", port.path, first.path));
        }
    }
}

/// Bytes don't come in parts.
fn fractional(amount: &Node, out: &mut Vec<String>) {
    let quantity = amount.text().parse::<Quantity>().unwrap_or_default();
    if quantity.milli_value() % 1000 != 0 {
        let shown = quantity.to_string();
        out.push(format!("{}: fractional byte value \"{shown}\" is invalid, must be an integer", amount.path));
    }
}

pub fn ingress(ingress: &Value) -> Vec<String> {
    let annotation = "kubernetes.io/ingress.class";
    match object::annotation(ingress, annotation) {
        Some(_) => {
            vec![format!("annotation \"{annotation}\" is deprecated, please use 'spec.ingressClassName' instead")]
        }
        None => Vec::new(),
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
    for (kind, why) in OLD_VOLUMES {
        if spec.field(kind).is_set() {
            out.push(format!("{}: {why}", spec.field(kind).path));
        }
    }
    out
}

pub fn persistent_volume_claim(claim: &Value) -> Vec<String> {
    let root = Node::root(claim);
    let spec = root.field("spec");
    let mut out = Vec::new();
    old_class(claim, &mut out);
    let resources = spec.field("resources");
    for bound in ["requests", "limits"] {
        for (_, amount) in resources.field(bound).entries().filter(|(resource, _)| *resource == "storage") {
            fractional(&amount, &mut out);
        }
    }
    out
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
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"1500m\" is invalid, must be an integer",
                "spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]",
                "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]",
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
