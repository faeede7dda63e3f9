use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use kube::ResourceExt;

use crate::framework::Filter;
use crate::node::{NodeInfo, View};
use crate::selector::selects;

/// Topology spread constraints that say `DoNotSchedule`.
pub struct PodTopologySpread;

fn count(pod: &Pod, constraint: &TopologySpreadConstraint, node: &NodeInfo) -> i32 {
    let namespace = pod.namespace();
    let counts = |other: &&std::sync::Arc<Pod>| {
        other.namespace() == namespace
            && other.metadata.deletion_timestamp.is_none()
            && selects(constraint.label_selector.as_ref(), other.labels())
    };
    i32::try_from(node.pods.values().filter(counts).count()).unwrap_or(i32::MAX)
}

impl Filter for PodTopologySpread {
    fn filter(&self, pod: &Pod, node: &NodeInfo, view: &View) -> Result<(), String> {
        let constraints =
            pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_deref()).unwrap_or_default();
        for constraint in constraints.iter().filter(|it| it.when_unsatisfiable == "DoNotSchedule") {
            let Some(own) = node.labels().get(&constraint.topology_key) else {
                return Err("node(s) didn't match pod topology spread constraints (missing required label)".to_owned());
            };
            let mut domains: BTreeMap<&String, i32> = BTreeMap::new();
            for other in view.nodes() {
                if let Some(value) = other.labels().get(&constraint.topology_key) {
                    *domains.entry(value).or_insert(0) += count(pod, constraint, other);
                }
            }
            let enough =
                constraint.min_domains.is_none_or(|least| domains.len() >= usize::try_from(least).unwrap_or(0));
            let lowest = if enough { domains.values().copied().min().unwrap_or(0) } else { 0 };
            let itself = i32::from(selects(constraint.label_selector.as_ref(), pod.labels()));
            let there = domains.get(own).copied().unwrap_or(0);
            if there + itself - lowest > constraint.max_skew {
                return Err("node(s) didn't match pod topology spread constraints".to_owned());
            }
        }
        Ok(())
    }
}
