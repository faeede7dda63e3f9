use k8s_openapi::api::core::v1::Pod;

use crate::framework::{Filter, MAX_SCORE, Score};
use crate::node::{NodeInfo, View, requests};

/// What a pod asks for must be there; nodes with more left are better (LeastAllocated).
pub struct NodeResourcesFit;

/// Nodes whose CPU and memory are used in the same proportion are better.
pub struct NodeResourcesBalancedAllocation;

/// What a pod that asks for nothing is taken to use when nodes are compared: 100 millicores, 200 MiB.
const DEFAULT_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

impl Filter for NodeResourcesFit {
    fn filter(&self, pod: &Pod, node: &NodeInfo, _: &View) -> Result<(), String> {
        let pods = i64::try_from(node.pods.len()).unwrap_or(i64::MAX);
        if pods >= node.allocatable.get("pods") {
            return Err("Too many pods".to_owned());
        }
        let lacking = |(name, amount): &(&String, &i64)| {
            **amount > 0 && **amount > node.allocatable.get(name) - node.requested.get(name)
        };
        match requests(pod).0.iter().find(lacking) {
            Some((name, _)) => Err(format!("Insufficient {name}")),
            None => Ok(()),
        }
    }
}

/// Thousandths of CPU and memory used if the pod were there.
fn used(pod: &Pod, node: &NodeInfo) -> [i64; 2] {
    let wanted = requests(pod);
    let part = |name: &str, default: i64| {
        let ask = if wanted.get(name) == 0 { default } else { wanted.get(name) };
        let capacity = node.allocatable.get(name);
        if capacity == 0 { 1000 } else { ((node.requested.get(name) + ask) * 1000 / capacity).clamp(0, 1000) }
    };
    [part("cpu", DEFAULT_CPU), part("memory", DEFAULT_MEMORY)]
}

impl Score for NodeResourcesFit {
    fn score(&self, pod: &Pod, node: &NodeInfo) -> i64 {
        let [cpu, memory] = used(pod, node);
        (2000 - cpu - memory) * MAX_SCORE / 2000
    }
}

impl Score for NodeResourcesBalancedAllocation {
    fn score(&self, pod: &Pod, node: &NodeInfo) -> i64 {
        let [cpu, memory] = used(pod, node);
        (1000 - (cpu - memory).abs() / 2) * MAX_SCORE / 1000
    }
}
