//! Of the specification of a pod and the metadata that goes with it.

use super::super::node::Node;
use super::{address, claim_spec, fractional, node_labels, old_volumes, paths, ports};
use crate::quote::quote;

pub(super) const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Annotations that mean nothing any more.
const OLD_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR_OF_CONTAINER: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Of a pod.
pub(super) fn pod(pod: &Node, out: &mut Vec<String>) {
    spec_and_metadata(pod, false, out);
}

/// Of a template for pods.
pub(super) fn pod_template(template: &Node, out: &mut Vec<String>) {
    spec_and_metadata(template, true, out);
}

fn spec_and_metadata(pod: &Node, is_template: bool, out: &mut Vec<String>) {
    let (spec, metadata) = (pod.field("spec"), pod.field("metadata"));
    let annotations = metadata.field("annotations");
    nodes(&spec, out);
    for (key, why) in OLD_ANNOTATIONS {
        annotation(&annotations, key, why, out);
    }
    volumes(&spec.field("volumes"), out);
    repeated(&spec.field("hostAliases"), "ip", "ip", out);
    repeated(&spec.field("imagePullSecrets"), "name", "name", out);
    for secret in spec.field("imagePullSecrets").items().filter(|secret| secret.field("name").is_empty()) {
        out.push(format!("{}: invalid empty name \"\"", secret.field("name").path));
    }
    let overhead = spec.field("overhead");
    for resource in ["memory", "ephemeral-storage"] {
        amount(&overhead, resource, out);
    }
    let profile = |of: &Node, name: &str| of.field("securityContext").field(name).is_set();
    if !profile(&spec, "seccompProfile") {
        annotation(&annotations, SECCOMP_OF_POD, SECCOMP, out);
    }
    for list in CONTAINERS {
        for container in spec.field(list).items() {
            let name = container.field("name");
            if !profile(&container, "seccompProfile") {
                annotation(&annotations, &format!("{SECCOMP_OF_CONTAINER}{}", name.text()), SECCOMP, out);
            }
            if is_template && !profile(&spec, "appArmorProfile") && !profile(&container, "appArmorProfile") {
                let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
                annotation(&annotations, &format!("{APP_ARMOR_OF_CONTAINER}{}", name.text()), why, out);
            }
            self::container(&container, out);
        }
    }
    ports::ports(&spec, out);
    let period = spec.field("terminationGracePeriodSeconds");
    if period.int().is_some_and(|seconds| seconds < 0) {
        out.push(format!("{}: must be >= 0; negative values are invalid and will be treated as 1", period.path));
    }
    pods_nearby(&spec.field("affinity"), out);
    let dns = spec.field("dnsConfig");
    dns.field("nameservers").items().for_each(|server| address::ip(&server, out));
    spec.field("hostAliases").items().for_each(|alias| address::ip(&alias.field("ip"), out));
}

const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";

fn annotation(annotations: &Node, key: &str, why: &str, out: &mut Vec<String>) {
    if annotations.field(key).is_set() {
        out.push(format!("{}: {why}", annotations.path.key(key)));
    }
}

/// How nodes are chosen.
fn nodes(spec: &Node, out: &mut Vec<String>) {
    for (key, at) in spec.field("nodeSelector").entries() {
        if let Some(why) = node_labels::deprecated(key) {
            out.push(format!("{}: {why}", at.path));
        }
    }
    let affinity = spec.field("affinity");
    let affinity = affinity.field("nodeAffinity");
    let required = affinity.field("requiredDuringSchedulingIgnoredDuringExecution");
    required.field("nodeSelectorTerms").items().for_each(|term| node_labels::term(&term, false, out));
    for term in affinity.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
        node_labels::term(&term.field("preference"), true, out);
    }
    for spread in spec.field("topologySpreadConstraints").items() {
        let key = spread.field("topologyKey");
        if let Some(why) = node_labels::deprecated(key.text()) {
            out.push(format!("{}: {} is {why}", key.path, key.text()));
        }
        no_selector(&spread, out);
    }
}

/// What pods are to be near or far of.
fn pods_nearby(affinity: &Node, out: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let terms = affinity.field(kind);
        let required = terms.field("requiredDuringSchedulingIgnoredDuringExecution");
        required.items().for_each(|term| no_selector(&term, out));
        for term in terms.field("preferredDuringSchedulingIgnoredDuringExecution").items() {
            no_selector(&term.field("podAffinityTerm"), out);
        }
    }
}

fn no_selector(term: &Node, out: &mut Vec<String>) {
    let selector = term.field("labelSelector");
    if !selector.is_set() {
        out.push(format!("{}: a null labelSelector results in matching no pod", selector.path));
    }
}

fn volumes(volumes: &Node, out: &mut Vec<String>) {
    for volume in volumes.items() {
        old_volumes(&volume, out);
        let ephemeral = volume.field("ephemeral");
        let template = ephemeral.field("volumeClaimTemplate");
        claim_spec(&template.field("spec"), out);
        let directory = volume.field("emptyDir");
        fractional(&directory.field("sizeLimit"), out);
    }
    paths::overlaps(volumes, out);
}

/// Elements of a list that say the same in a field.
fn repeated(list: &Node, field: &str, what: &str, out: &mut Vec<String>) {
    for (index, item) in list.items().enumerate() {
        let here = item.field(field);
        if list.items().take(index).any(|before| before.field(field).text() == here.text()) {
            out.push(format!("{}: duplicate {what} {}", here.path, quote(here.text())));
        }
    }
}

fn amount(amounts: &Node, resource: &str, out: &mut Vec<String>) {
    if let Some((_, amount)) = amounts.entries().find(|(name, _)| *name == resource) {
        fractional(&amount, out);
    }
}

fn container(container: &Node, out: &mut Vec<String>) {
    let resources = container.field("resources");
    for resource in ["memory", "ephemeral-storage"] {
        for bound in ["limits", "requests"] {
            amount(&resources.field(bound), resource, out);
        }
    }
    let env = container.field("env");
    for (index, variable) in env.items().enumerate() {
        let (name, value) = (variable.field("name"), variable.field("value"));
        let is_known = env.items().take(index).any(|before| before.field("name").text() == name.text());
        // One may build on the value before it.
        let reference = format!("$({})", name.text());
        let builds_on = value.text().contains(&reference) && value.text() != reference;
        if is_known && (variable.field("valueFrom").is_set() || !builds_on) {
            let name = quote(name.text());
            out.push(format!(
                "{}: hides previous definition of {name}, which may be dropped when using apply",
                variable.path
            ));
        }
    }
}
