use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm};
use kube::ResourceExt;

use crate::framework::Filter;
use crate::node::{NodeInfo, View};
use crate::selector::selects;

/// Required pod affinity and anti-affinity, of the pod and of those already running.
pub struct InterPodAffinity;

fn affinity(pod: &Pod) -> &[PodAffinityTerm] {
    let wanted = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.pod_affinity.as_ref());
    wanted.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
}

fn anti_affinity(pod: &Pod) -> &[PodAffinityTerm] {
    let wanted = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.pod_anti_affinity.as_ref());
    wanted.and_then(|it| it.required_during_scheduling_ignored_during_execution.as_deref()).unwrap_or_default()
}

/// Whether `other` is one of the pods a term of `owner` means. A namespace selector selects by the labels of
/// namespaces, of which only the name is known here: an empty one means all of them.
fn means(term: &PodAffinityTerm, owner: &Pod, other: &Pod) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    let namespace = other.namespace().unwrap_or_default();
    let in_namespace = match &term.namespace_selector {
        Some(selector) => {
            let labels = [("kubernetes.io/metadata.name".to_owned(), namespace.clone())].into();
            selects(Some(selector), &labels) || named.contains(&namespace)
        }
        None if named.is_empty() => other.namespace() == owner.namespace(),
        None => named.contains(&namespace),
    };
    in_namespace && selects(term.label_selector.as_ref(), other.labels())
}

/// The pods on all nodes in the same topology domain as `node`.
fn domain<'a>(view: &'a View, node: &'a NodeInfo, key: &'a str) -> impl Iterator<Item = &'a Arc<Pod>> {
    let value = node.labels().get(key);
    view.nodes()
        .filter(move |other| value.is_some() && other.labels().get(key) == value)
        .flat_map(|it| it.pods.values())
}

impl Filter for InterPodAffinity {
    fn filter(&self, pod: &Pod, node: &NodeInfo, view: &View) -> Result<(), String> {
        for term in affinity(pod) {
            let there = domain(view, node, &term.topology_key).any(|other| means(term, pod, other));
            // The first of a group that wants to be together has nobody to join.
            let first = means(term, pod, pod)
                && node.labels().contains_key(&term.topology_key)
                && !view.nodes().flat_map(|it| it.pods.values()).any(|other| means(term, pod, other));
            if !there && !first {
                return Err("node(s) didn't match pod affinity rules".to_owned());
            }
        }
        for term in anti_affinity(pod) {
            if domain(view, node, &term.topology_key).any(|other| means(term, pod, other)) {
                return Err("node(s) didn't match pod anti-affinity rules".to_owned());
            }
        }
        for other_node in view.nodes() {
            for other in other_node.pods.values() {
                let keeps_off = anti_affinity(other).iter().any(|term| {
                    let value = other_node.labels().get(&term.topology_key);
                    value.is_some() && node.labels().get(&term.topology_key) == value && means(term, other, pod)
                });
                if keeps_off {
                    return Err("node(s) didn't satisfy existing pods anti-affinity rules".to_owned());
                }
            }
        }
        Ok(())
    }
}
