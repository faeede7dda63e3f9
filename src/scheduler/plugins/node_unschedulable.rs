use k8s_openapi::api::core::v1::{Pod, Taint};

use super::taint_toleration::tolerates;
use crate::framework::Filter;
use crate::node::{NodeInfo, View};

/// Keeps pods off cordoned nodes.
pub struct NodeUnschedulable;

impl Filter for NodeUnschedulable {
    fn filter(&self, pod: &Pod, node: &NodeInfo, _: &View) -> Result<(), String> {
        let cordoned =
            node.node.as_ref().and_then(|node| node.spec.as_ref()).is_some_and(|it| it.unschedulable == Some(true));
        let taint = Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if cordoned && !tolerates(pod, &taint) { Err("node(s) were unschedulable".to_owned()) } else { Ok(()) }
    }
}
