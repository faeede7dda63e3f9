//! Pods and pod templates.

pub mod affinity;
pub mod container;
pub mod probe;
pub mod resources;
pub mod security;
pub mod update;
pub mod volume;

use serde_json::Value;

use super::metadata;
use super::names;
use super::node::{Errors, Node, go_struct};
use super::{FieldError, Verbatim};

/// A pod that is to be created, and the parts of it that an update may have changed.
pub fn pod(pod: &Value, errors: &mut Errors) {
    let pod = Node::root(pod);
    let spec = pod.field("spec");
    pod_spec(&spec, errors);
}

/// What only a create has to keep.
pub fn only_created(pod: &Value, errors: &mut Errors) {
    let pod = Node::root(pod);
    let spec = pod.field("spec");
    let ephemeral = spec.field("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden(errors, "cannot be set on create");
    }
    if !spec.field("schedulingGates").is_empty() && !spec.field("nodeName").is_empty() {
        spec.field("nodeName").forbidden(errors, "cannot be set until all schedulingGates have been cleared");
    }
}

/// The labels and annotations of a pod template, where Kubernetes says they are.
fn template_metadata(template: &Node, errors: &mut Errors) {
    let metadata = template.field("metadata");
    let (labels, annotations) = (metadata.field("labels"), metadata.field("annotations"));
    metadata::labels(&template.path.child("labels"), Some(labels.value), errors);
    metadata::annotations(&template.path.child("annotations"), Some(annotations.value), errors);
}

/// The pod template of a workload.
pub fn template(template: &Node, errors: &mut Errors) {
    template_metadata(template, errors);
    let spec = template.field("spec");
    pod_spec(&spec, errors);
    let ephemeral = spec.field("ephemeralContainers");
    if !ephemeral.is_empty() {
        ephemeral.forbidden(errors, "ephemeral containers not allowed in pod template");
    }
}

/// The template of a workload that keeps its pods running.
pub fn lasting_template(template: &Node, kind: &str, errors: &mut Errors) {
    self::template(template, errors);
    keeps_running(template, kind, errors);
}

/// The template of a StatefulSet. Its containers mount volumes that only its pods have, made from its claim templates;
/// so, as in Kubernetes, what is wrong with the rest is told when a pod is created.
pub fn template_with_claims(template: &Node, errors: &mut Errors) {
    template_metadata(template, errors);
    keeps_running(template, "StatefulSet", errors);
}

fn keeps_running(template: &Node, kind: &str, errors: &mut Errors) {
    let spec = template.field("spec");
    // What is no restart policy at all has been told already.
    if spec.field("restartPolicy").text() != "Always" {
        spec.field("restartPolicy").not_supported(errors, &["Always"]);
    }
    if spec.field("activeDeadlineSeconds").is_set() {
        let message = format!("activeDeadlineSeconds in {kind} is not Supported");
        spec.field("activeDeadlineSeconds").forbidden(errors, message);
    }
}

/// A `core.PodSpec`, in the order in which Kubernetes tells what is wrong.
pub fn pod_spec(spec: &Node, errors: &mut Errors) {
    let volumes = spec.field("volumes");
    volume::volumes(&volumes, errors);
    resource_claims(&spec.field("resourceClaims"), errors);
    container::containers(spec, errors);
    container::init_containers(spec, errors);
    container::ephemeral_containers(spec, errors);
    spec.field("restartPolicy").one_of(errors, &["Always", "OnFailure", "Never"]);
    spec.field("dnsPolicy").one_of(errors, &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    metadata::labels(&spec.field("nodeSelector").path, Some(spec.field("nodeSelector").value), errors);
    security::pod(spec, errors);
    affinity::affinity(&spec.field("affinity"), errors);
    dns_config(&spec.field("dnsConfig"), spec.field("dnsPolicy").text(), errors);
    for gate in spec.field("readinessGates").items() {
        let kind = gate.field("conditionType");
        kind.invalid_text(errors, names::qualified_name(kind.text()));
    }
    for gate in spec.field("schedulingGates").items() {
        let name = gate.field("name");
        name.invalid_text(errors, names::qualified_name(name.text()));
    }
    affinity::topology_spread(&spec.field("topologySpreadConstraints"), errors);
    for (field, rule) in [
        ("serviceAccountName", names::dns1123_subdomain as fn(&str) -> Vec<String>),
        ("nodeName", names::dns1123_subdomain),
    ] {
        let name = spec.field(field);
        if !name.is_empty() {
            name.invalid_text(errors, rule(name.text()));
        }
    }
    spec.field("activeDeadlineSeconds").in_range(1, i32::MAX.into(), errors);
    for field in ["hostname", "subdomain"] {
        let name = spec.field(field);
        if !name.is_empty() {
            name.invalid_text(errors, names::dns1123_label(name.text()));
        }
    }
    affinity::tolerations(&spec.field("tolerations"), errors);
    for alias in spec.field("hostAliases").items() {
        let ip = alias.field("ip");
        ip.invalid_text(errors, names::ip_address(ip.text()));
        for hostname in alias.field("hostnames").items() {
            hostname.invalid_text(errors, names::dns1123_subdomain(hostname.text()));
        }
    }
    for field in ["priorityClassName", "runtimeClassName"] {
        let name = spec.field(field);
        if name.is_set() && (field == "runtimeClassName" || !name.is_empty()) {
            name.invalid_text(errors, names::dns1123_subdomain(name.text()));
        }
    }
    if spec.field("preemptionPolicy").is_set() {
        spec.field("preemptionPolicy").one_of(errors, &["Never", "PreemptLowerPriority"]);
    }
    resources::overhead(&spec.field("overhead"), errors);
    let os = spec.field("os");
    if os.is_set() {
        let name = os.field("name");
        match name.text() {
            "" => name.required(errors, "cannot be empty"),
            "linux" | "windows" => {}
            other => errors.push(FieldError::not_supported(&os.path, other, &["linux", "windows"])),
        }
    }
}

fn resource_claims(claims: &Node, errors: &mut Errors) {
    for claim in claims.items() {
        let name = claim.field("name");
        if name.is_empty() {
            name.required(errors, "");
        } else {
            name.invalid_text(errors, names::dns1123_label(name.text()));
        }
        let (by_name, by_template) = (claim.field("resourceClaimName"), claim.field("resourceClaimTemplateName"));
        let shown = || {
            let order = [
                ("Name", "name"),
                ("ResourceClaimName", "resourceClaimName"),
                ("ResourceClaimTemplateName", "resourceClaimTemplateName"),
            ];
            go_struct(claim.value, &order)
        };
        match (by_name.is_set(), by_template.is_set()) {
            (true, true) => claim.invalid_as(
                shown(),
                errors,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (false, false) => claim.invalid_as(
                shown(),
                errors,
                "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
            ),
            _ => {
                for name in [&by_name, &by_template].into_iter().filter(|name| name.is_set()) {
                    name.invalid_text(errors, names::dns1123_subdomain(name.text()));
                }
            }
        }
    }
    let names = claims.value.as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, claim) in names.iter().enumerate() {
        if !claim["name"].is_null() && names[..index].iter().any(|other| other["name"] == claim["name"]) {
            errors.push(FieldError::duplicate(&claims.path.index(index).child("name"), &claim["name"]));
        }
    }
}

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

fn dns_config(config: &Node, policy: &str, errors: &mut Errors) {
    let nameservers = config.field("nameservers");
    if policy == "None" && nameservers.is_empty() {
        let message = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        match config.is_set() {
            true => nameservers.required(errors, message),
            false => config.required(errors, "must provide `dnsConfig` when `dnsPolicy` is None"),
        }
    }
    if nameservers.len() > MAX_NAMESERVERS {
        nameservers.invalid(errors, format!("must not have more than {MAX_NAMESERVERS} nameservers"));
    }
    for address in nameservers.items() {
        address.invalid_text(errors, names::ip_address(address.text()));
    }
    let searches = config.field("searches");
    if searches.len() > MAX_SEARCHES {
        searches.invalid(errors, format!("must not have more than {MAX_SEARCHES} search paths"));
    }
    let all: Vec<&str> = searches.value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if all.join(" ").len() > MAX_SEARCH_CHARACTERS {
        let message =
            format!("must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list");
        searches.invalid_as(Verbatim(searches.value.to_string()), errors, message);
    }
    for search in searches.items() {
        if search.text() != "." {
            search.invalid_text(errors, names::dns1123_subdomain(search.text().trim_end_matches('.')));
        }
    }
    for option in config.field("options").items() {
        if option.field("name").is_empty() {
            option.field("name").required(errors, "must not be empty");
        }
    }
}
