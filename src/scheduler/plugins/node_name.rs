use k8s_openapi::api::core::v1::Pod;

use crate::framework::Filter;
use crate::node::{NodeInfo, View};

/// A pod that names its node runs nowhere else.
pub struct NodeName;

impl Filter for NodeName {
    fn filter(&self, pod: &Pod, node: &NodeInfo, _: &View) -> Result<(), String> {
        match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
            Some(name) if name != node.name() => Err("node(s) didn't match the requested node name".to_owned()),
            _ => Ok(()),
        }
    }
}
