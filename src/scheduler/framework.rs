//! Filters and scores.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use crate::node::{NodeInfo, View};
use crate::plugins;

/// The highest score of a plug-in for a node; the lowest is 0.
pub const MAX_SCORE: i64 = 100;

/// A plug-in that says whether a pod can run on a node. Named as in kube-scheduler.
pub trait Filter: Send + Sync {
    /// The reason, in kube-scheduler's words, if it can't.
    fn filter(&self, pod: &Pod, node: &NodeInfo, view: &View) -> Result<(), String>;
}

/// A plug-in that says how good a node is for a pod that can run there.
pub trait Score: Send + Sync {
    /// From 0 to [`MAX_SCORE`].
    fn score(&self, pod: &Pod, node: &NodeInfo) -> i64;
}

/// The plug-ins of the default profile, with the weights of the scores.
pub struct Framework {
    filters: Vec<Box<dyn Filter>>,
    scores: Vec<(Box<dyn Score>, i64)>,
}

/// Why no node will do: how many there are, and how many gave which reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    nodes: usize,
    reasons: BTreeMap<String, usize>,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        let reasons: Vec<_> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        write!(f, "0/{} nodes are available: {}.", self.nodes, reasons.join(", "))
    }
}

impl Framework {
    pub fn new() -> Self {
        Self {
            filters: vec![
                Box::new(plugins::NodeUnschedulable),
                Box::new(plugins::NodeName),
                Box::new(plugins::TaintToleration),
                Box::new(plugins::NodeAffinity),
                Box::new(plugins::NodePorts),
                Box::new(plugins::NodeResourcesFit),
                Box::new(plugins::InterPodAffinity),
                Box::new(plugins::PodTopologySpread),
            ],
            scores: vec![
                (Box::new(plugins::TaintToleration), 3),
                (Box::new(plugins::NodeAffinity), 2),
                (Box::new(plugins::NodeResourcesFit), 1),
                (Box::new(plugins::NodeResourcesBalancedAllocation), 1),
                (Box::new(plugins::SelectorSpread), 1),
            ],
        }
    }

    /// The best node for a pod; the view counts the pod there from now on.
    pub fn find(&self, pod: &Arc<Pod>, view: &mut View) -> Result<String, Diagnosis> {
        let mut diagnosis = Diagnosis::default();
        let mut best: Option<(i64, &str)> = None;
        for node in view.nodes() {
            diagnosis.nodes += 1;
            if let Err(reason) = self.filters.iter().try_for_each(|plugin| plugin.filter(pod, node, view)) {
                *diagnosis.reasons.entry(reason).or_insert(0) += 1;
                continue;
            }
            let score = self.scores.iter().map(|(plugin, weight)| plugin.score(pod, node) * weight).sum();
            if best.is_none_or(|(highest, _)| score > highest) {
                best = Some((score, node.name()));
            }
        }
        let Some(name) = best.map(|(_, name)| name.to_owned()) else { return Err(diagnosis) };
        tracing::debug!(pod = pod.name_any(), node = name, "pod has a node");
        view.assume(pod, &name);
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, from_value, json};

    fn view(nodes: Value) -> View {
        let mut view = View::default();
        for mut node in nodes.as_array().unwrap().clone() {
            node["status"] = json!({"allocatable": {"cpu": "1", "memory": "1Gi", "pods": "2"}});
            view.set_node(&Arc::new(from_value(node).unwrap()));
        }
        view
    }

    fn pod(name: &str, spec: Value) -> Arc<Pod> {
        let mut spec = spec;
        if spec.get("containers").is_none() {
            spec["containers"] = json!([{"name": "c", "resources": {"requests": {"cpu": "400m"}}}]);
        }
        from_value(
            json!({"metadata": {"name": name, "namespace": "n", "uid": name, "labels": {"app": "x"}}, "spec": spec}),
        )
        .map(Arc::new)
        .unwrap()
    }

    #[test]
    fn pods_spread_and_the_reason_is_told_when_none_fits() {
        let mut view = view(json!([{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]));
        let framework = Framework::new();
        let placed: Vec<_> =
            ["1", "2", "3", "4"].iter().map(|name| framework.find(&pod(name, json!({})), &mut view).unwrap()).collect();
        assert_eq!(placed.iter().filter(|node| *node == "a").count(), 2);
        let full = framework.find(&pod("5", json!({})), &mut view).unwrap_err();
        assert_eq!(full.to_string(), "0/2 nodes are available: 2 Too many pods.");
        view.remove_pod("1");
        let large = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "2", "memory": "1"}}}]});
        let lacking = framework.find(&pod("6", large), &mut view).unwrap_err();
        assert_eq!(lacking.to_string(), "0/2 nodes are available: 1 Insufficient cpu, 1 Too many pods.");
        assert_eq!(
            framework.find(&pod("7", json!({})), &mut View::default()).unwrap_err().to_string(),
            "no nodes available to schedule pods"
        );
    }

    #[test]
    fn taints_affinity_and_names_decide() {
        let nodes = json!([
            {"metadata": {"name": "a", "labels": {"disk": "ssd"}}, "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}},
            {"metadata": {"name": "b", "labels": {"disk": "hdd"}}, "spec": {"unschedulable": true}},
            {"metadata": {"name": "c", "labels": {"disk": "hdd"}}}
        ]);
        let framework = Framework::new();
        let find = |spec: Value| framework.find(&pod("p", spec), &mut view(nodes.clone())).map_err(|it| it.to_string());
        assert_eq!(find(json!({})), Ok("c".to_owned()));
        assert_eq!(
            find(json!({"tolerations": [{"key": "k", "operator": "Exists"}], "nodeSelector": {"disk": "ssd"}})),
            Ok("a".to_owned())
        );
        let reasons = find(json!({"nodeSelector": {"disk": "ssd"}})).unwrap_err();
        assert!(reasons.contains("1 node(s) had untolerated taint {k: }"), "{reasons}");
        assert!(reasons.contains("1 node(s) were unschedulable"), "{reasons}");
        assert!(reasons.contains("1 node(s) didn't match Pod's node affinity/selector"), "{reasons}");
    }

    #[test]
    fn pods_that_keep_apart_do_not_meet() {
        let nodes = json!([{"metadata": {"name": "a", "labels": {"host": "a"}}}, {"metadata": {"name": "b", "labels": {"host": "b"}}}]);
        let mut view = view(nodes);
        let framework = Framework::new();
        let apart = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            [{"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "host"}]}}});
        let first = framework.find(&pod("1", apart.clone()), &mut view).unwrap();
        let second = framework.find(&pod("2", apart.clone()), &mut view).unwrap();
        assert_ne!(first, second);
        assert!(framework.find(&pod("3", apart), &mut view).is_err());
        let reason = framework.find(&pod("4", json!({})), &mut view).unwrap_err().to_string();
        assert!(reason.contains("existing pods anti-affinity"), "{reason}");
    }
}
