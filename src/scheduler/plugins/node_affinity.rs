use k8s_openapi::api::core::v1::{NodeAffinity as Wanted, Pod};

use crate::framework::{Filter, MAX_SCORE, Score};
use crate::node::{NodeInfo, View};
use crate::selector::matches_term;

/// `nodeSelector` and node affinity.
pub struct NodeAffinity;

fn affinity(pod: &Pod) -> Option<&Wanted> {
    pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()
}

impl Filter for NodeAffinity {
    fn filter(&self, pod: &Pod, node: &NodeInfo, _: &View) -> Result<(), String> {
        let selector = pod.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
        let selected = selector.into_iter().flatten().all(|(key, value)| node.labels().get(key) == Some(value));
        let required = affinity(pod).and_then(|it| it.required_during_scheduling_ignored_during_execution.as_ref());
        let wanted = required
            .is_none_or(|it| it.node_selector_terms.iter().any(|term| matches_term(term, node.name(), node.labels())));
        if selected && wanted {
            return Ok(());
        }
        Err("node(s) didn't match Pod's node affinity/selector".to_owned())
    }
}

impl Score for NodeAffinity {
    fn score(&self, pod: &Pod, node: &NodeInfo) -> i64 {
        let preferred = affinity(pod).and_then(|it| it.preferred_during_scheduling_ignored_during_execution.as_ref());
        let terms: Vec<_> = preferred.into_iter().flatten().collect();
        let total: i64 = terms.iter().map(|term| i64::from(term.weight)).sum();
        if total == 0 {
            return 0;
        }
        let matching = terms.iter().filter(|term| matches_term(&term.preference, node.name(), node.labels()));
        matching.map(|term| i64::from(term.weight)).sum::<i64>() * MAX_SCORE / total
    }
}
