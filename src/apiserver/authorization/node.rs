//! The Node authorizer: what a kubelet may do, which is read what the pods on its node use, and write what it owns
//! (<https://kubernetes.io/docs/reference/access-authn-authz/node/>). What of an object only its content tells, such as
//! whose node a new pod is for, is for admission to check (`NodeRestriction`).

mod relations;

use std::sync::OnceLock;

use k3s_api::authentication::UserInfo;
use k3s_api::selector::fields;

use super::{Attributes, Decision, Rule};
use crate::bootstrap;
use crate::registry::{self, Registry};
use relations::related;

/// The node that a user is: in group `system:nodes`, named `system:node:NAME`. An empty name is a node nobody knows.
pub(crate) fn name(user: &UserInfo) -> Option<&str> {
    let node = user.name.strip_prefix("system:node:")?;
    user.groups.iter().any(|group| group == "system:nodes").then_some(node)
}

/// What any node may do, whatever it is about: the role `system:node`, as every cluster has it.
fn rules() -> &'static [Rule] {
    static RULES: OnceLock<Vec<Rule>> = OnceLock::new();
    RULES.get_or_init(|| bootstrap::rules_of("system:node"))
}

/// Whether it is allowed, or why not; the reason may be empty.
type Verdict = Result<(), String>;

/// What depends on whether the object that is asked for has to do with the node.
enum Ruling {
    Decided(Verdict),
    IfRelated,
}

/// Whether the kubelet of `node` may do what is asked.
///
/// # Errors
/// If the objects that relate it to the node cannot be read.
pub(super) async fn authorize(
    node: &str,
    asked: &Attributes<'_>,
    registry: &Registry,
) -> Result<Decision, registry::Error> {
    let verdict = match rule(node, asked) {
        Ruling::Decided(verdict) => verdict,
        Ruling::IfRelated if asked.name.is_empty() => Err("No Object name found".to_owned()),
        Ruling::IfRelated if related(node, asked, registry).await? => Ok(()),
        Ruling::IfRelated => Err(format!("no relationship found between node '{node}' and this object")),
    };
    Ok(match verdict {
        Ok(()) => Decision::allow(""),
        Err(reason) => Decision::none(reason),
    })
}

fn rule(node: &str, asked: &Attributes<'_>) -> Ruling {
    if node.is_empty() {
        return no("unknown node for user \"system:node:\"");
    }
    if !asked.is_resource {
        return by_role(asked);
    }
    match (asked.group, asked.resource) {
        ("", "secrets" | "configmaps") => read_one(asked),
        ("", "persistentvolumeclaims") if asked.subresource == "status" => match asked.verb {
            "update" | "patch" => Ruling::IfRelated,
            _ => no("can only get/update/patch this type"),
        },
        ("", "persistentvolumeclaims" | "persistentvolumes") => get(asked),
        ("resource.k8s.io", "resourceclaims") | ("storage.k8s.io", "volumeattachments") => get(asked),
        ("", "serviceaccounts") => service_account(asked),
        ("coordination.k8s.io", "leases") => lease(node, asked),
        ("storage.k8s.io", "csinodes") => csi_node(node, asked),
        ("resource.k8s.io", "resourceslices") => resource_slice(node, asked),
        ("", "nodes") => node_object(node, asked),
        ("", "pods") => pod(node, asked),
        _ => by_role(asked),
    }
}

fn yes() -> Ruling {
    Ruling::Decided(Ok(()))
}

fn no(reason: impl Into<String>) -> Ruling {
    Ruling::Decided(Err(reason.into()))
}

fn by_role(asked: &Attributes<'_>) -> Ruling {
    if rules().iter().any(|rule| rule.allows(asked)) { yes() } else { no("") }
}

fn get(asked: &Attributes<'_>) -> Ruling {
    match (asked.verb, asked.subresource) {
        ("get", "") => Ruling::IfRelated,
        ("get", _) => no("cannot get subresource"),
        _ => no("can only get individual resources of this type"),
    }
}

/// A kubelet may follow the one object too, by its name.
fn read_one(asked: &Attributes<'_>) -> Ruling {
    if !matches!(asked.verb, "get" | "list" | "watch") {
        return no("can only read resources of this type");
    }
    if !asked.subresource.is_empty() {
        return no("cannot read subresource");
    }
    if asked.namespace.is_empty() {
        return no("can only read namespaced object of this type");
    }
    Ruling::IfRelated
}

fn service_account(asked: &Attributes<'_>) -> Ruling {
    match (asked.verb, asked.subresource) {
        ("get", "") => Ruling::IfRelated,
        ("create", "token") if !asked.name.is_empty() => Ruling::IfRelated,
        ("create", subresource) if subresource != "token" => no("can only create token subresource of serviceaccount"),
        _ => no("can only create tokens for individual service accounts"),
    }
}

fn lease(node: &str, asked: &Attributes<'_>) -> Ruling {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    // The name of a new one is not known before it is read.
    if asked.verb != "create" && asked.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    yes()
}

fn csi_node(node: &str, asked: &Attributes<'_>) -> Ruling {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    yes()
}

fn resource_slice(node: &str, asked: &Attributes<'_>) -> Ruling {
    if !asked.subresource.is_empty() {
        return no("cannot authorize ResourceSlice subresources");
    }
    match asked.verb {
        "create" => yes(),
        "get" | "update" | "patch" | "delete" => Ruling::IfRelated,
        "watch" | "list" | "deletecollection" if selects(asked, "nodeName", node) => yes(),
        "watch" | "list" | "deletecollection" => {
            no("can only list/watch/deletecollection resourceslices with nodeName field selector")
        }
        _ => no("only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection"),
    }
}

fn node_object(node: &str, asked: &Attributes<'_>) -> Ruling {
    match (asked.subresource, asked.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => yes(),
        // By the name alone: a kubelet asks for its node before there is one.
        ("", "get" | "list" | "watch") => match asked.name {
            name if name == node => yes(),
            "" => no(format!("node '{node}' cannot read all nodes, only its own Node object")),
            other => no(format!("node '{node}' cannot read '{other}', only its own Node object")),
        },
        _ => no(""),
    }
}

fn pod(node: &str, asked: &Attributes<'_>) -> Ruling {
    match (asked.subresource, asked.verb) {
        ("", "get") => Ruling::IfRelated,
        ("", "list" | "watch") if selects(asked, "spec.nodeName", node) => yes(),
        ("", "list" | "watch") if !asked.name.is_empty() => Ruling::IfRelated,
        ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => yes(),
        _ => no(""),
    }
}

/// Whether only objects are meant whose field has that value. A selector that can't be read selects nothing here: the
/// request will be refused for it.
fn selects(asked: &Attributes<'_>, field: &str, value: &str) -> bool {
    let selector: Result<fields::Selector, _> = asked.field_selector.parse();
    selector.is_ok_and(|selector| {
        selector.terms().iter().any(|term| term.field == field && !term.not && term.value == value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked<'a>(verb: &'a str, group: &'a str, resource: &'a str, name: &'a str) -> Attributes<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes { verb, is_resource: true, group, resource, subresource, name, ..Attributes::default() }
    }

    /// `yes`, `?` if it depends on the graph, or the reason.
    fn said(asked: &Attributes<'_>) -> String {
        match rule("n1", asked) {
            Ruling::Decided(Ok(())) => "yes".to_owned(),
            Ruling::Decided(Err(reason)) => reason,
            Ruling::IfRelated => "?".to_owned(),
        }
    }

    #[test]
    fn only_members_of_the_nodes_group_are_nodes() {
        let node = UserInfo::new("system:node:n1", &["system:nodes"]);
        assert_eq!(name(&node), Some("n1"));
        assert_eq!(name(&UserInfo::new("system:node:n1", &[])), None);
        assert_eq!(name(&UserInfo::new("n1", &["system:nodes"])), None);
    }

    #[test]
    fn a_node_without_a_name_may_nothing() {
        let Ruling::Decided(Err(reason)) = rule("", &asked("list", "", "services", "")) else { panic!("allowed") };
        assert_eq!(reason, "unknown node for user \"system:node:\"");
    }

    #[test]
    fn every_resource_has_its_rule() {
        let cases = [
            // Of the role.
            (asked("list", "", "services", ""), "yes"),
            (asked("create", "", "services", ""), ""),
            (asked("get", "", "endpoints", "e"), "yes"),
            (asked("watch", "discovery.k8s.io", "endpointslices", ""), ""),
            (asked("create", "certificates.k8s.io", "certificatesigningrequests", ""), "yes"),
            (asked("list", "node.k8s.io", "runtimeclasses", ""), "yes"),
            (asked("create", "authentication.k8s.io", "tokenreviews", ""), "yes"),
            // Its own node.
            (asked("get", "", "nodes", "n1"), "yes"),
            (asked("watch", "", "nodes", "n1"), "yes"),
            (asked("get", "", "nodes", "n2"), "node 'n1' cannot read 'n2', only its own Node object"),
            (asked("list", "", "nodes", ""), "node 'n1' cannot read all nodes, only its own Node object"),
            (asked("patch", "", "nodes/status", "n1"), "yes"),
            (asked("get", "", "nodes/proxy", "n1"), ""),
            (asked("delete", "", "nodes", "n1"), ""),
            // Pods.
            (asked("get", "", "pods", "p"), "?"),
            (asked("list", "", "pods", ""), "can only list/watch pods with spec.nodeName field selector"),
            (asked("watch", "", "pods", "p"), "?"),
            (asked("patch", "", "pods/status", "p"), "yes"),
            (asked("update", "", "pods", "p"), ""),
            (asked("create", "", "pods/exec", "p"), ""),
            (asked("create", "", "pods/eviction", "p"), "yes"),
            // What pods use.
            (asked("delete", "", "secrets", "s"), "can only read resources of this type"),
            (asked("get", "", "secrets", "s"), "can only read namespaced object of this type"),
            (Attributes { namespace: "a", ..asked("watch", "", "secrets", "s") }, "?"),
            (asked("list", "", "persistentvolumes", ""), "can only get individual resources of this type"),
            (asked("get", "", "persistentvolumes/status", "v"), "cannot get subresource"),
            (asked("patch", "", "persistentvolumeclaims/status", "c"), "?"),
            (asked("get", "", "persistentvolumeclaims/status", "c"), "can only get/update/patch this type"),
            (asked("create", "", "serviceaccounts/token", "s"), "?"),
            (asked("create", "", "serviceaccounts", ""), "can only create token subresource of serviceaccount"),
            (asked("list", "", "serviceaccounts", ""), "can only create tokens for individual service accounts"),
            // What it owns.
            (asked("create", "storage.k8s.io", "csinodes", ""), "yes"),
            (
                asked("watch", "storage.k8s.io", "csinodes", ""),
                "can only get, create, update, patch, or delete a CSINode",
            ),
            (
                asked("update", "storage.k8s.io", "csinodes", "n2"),
                "can only access CSINode with the same name as the requesting node",
            ),
            (
                asked("get", "coordination.k8s.io", "leases", "n1"),
                "can only access leases in the \"kube-node-lease\" system namespace",
            ),
            (asked("create", "resource.k8s.io", "resourceslices", ""), "yes"),
            (asked("delete", "resource.k8s.io", "resourceslices", "s"), "?"),
            (
                asked("list", "resource.k8s.io", "resourceslices", ""),
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
        ];
        for (question, expected) in cases {
            assert_eq!(said(&question), expected, "{question:?}");
        }
    }

    #[test]
    fn a_field_selector_must_name_the_node_itself() {
        for (selector, expected) in [
            ("spec.nodeName=n1", true),
            ("spec.nodeName==n1,status.phase!=Failed", true),
            ("spec.nodeName=n2", false),
            ("spec.nodeName!=n1", false),
            ("spec.nodeName", false),
        ] {
            let question = Attributes { field_selector: selector, ..asked("watch", "", "pods", "") };
            assert_eq!(said(&question) == "yes", expected, "{selector}");
        }
        let slices =
            Attributes { field_selector: "spec.nodeName=n1", ..asked("list", "resource.k8s.io", "resourceslices", "") };
        assert_ne!(said(&slices), "yes", "slices are selected by nodeName");
    }

    #[test]
    fn leases_are_the_nodes_own() {
        let lease = |verb, name| Attributes {
            namespace: "kube-node-lease",
            ..asked(verb, "coordination.k8s.io", "leases", name)
        };
        assert_eq!(said(&lease("update", "n1")), "yes");
        assert_eq!(said(&lease("create", "")), "yes");
        assert_eq!(said(&lease("get", "n2")), "can only access node lease with the same name as the requesting node");
        assert_eq!(said(&lease("list", "")), "can only get, create, update, patch, or delete a node lease");
    }
}
