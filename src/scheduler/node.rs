//! The nodes as the scheduler sees them: with what their pods take.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k3s_api::quantity::Quantity as Exact;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::ResourceExt;

/// Amounts by resource name; `cpu` in thousandths, everything else in units (bytes for memory).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources(pub BTreeMap<String, i64>);

impl Resources {
    fn of(quantities: Option<&BTreeMap<String, Quantity>>) -> Self {
        let amount = |(name, quantity): (&String, &Quantity)| {
            // The API server accepts no other.
            let exact: Exact = quantity.0.parse().ok()?;
            Some((name.clone(), if name == "cpu" { exact.milli_value() } else { exact.value() }))
        };
        Self(quantities.into_iter().flatten().filter_map(amount).collect())
    }

    /// The amount of a resource; none is zero.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    fn add(&mut self, other: &Resources, sign: i64) {
        for (name, amount) in &other.0 {
            *self.0.entry(name.clone()).or_insert(0) += sign * amount;
        }
    }

    fn max(&mut self, other: &Resources) {
        for (name, amount) in &other.0 {
            let entry = self.0.entry(name.clone()).or_insert(0);
            *entry = (*entry).max(*amount);
        }
    }
}

/// What a pod takes: the sum of its containers and sidecars, or the largest init container if that is more, and its
/// overhead (KEP-753).
pub fn requests(pod: &Pod) -> Resources {
    let Some(spec) = &pod.spec else { return Resources::default() };
    let of = |container: &k8s_openapi::api::core::v1::Container| {
        Resources::of(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
    };
    let mut total = Resources::default();
    spec.containers.iter().for_each(|container| total.add(&of(container), 1));
    let (mut sidecars, mut largest) = (Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        let mut now = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&now, 1);
            largest.max(&sidecars);
        } else {
            now.add(&sidecars, 1);
            largest.max(&now);
        }
    }
    total.add(&sidecars, 1);
    total.max(&largest);
    if let Some(resources) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        // Pod-level resources (KEP-2837) replace the sum.
        for (name, amount) in Resources::of(Some(resources)).0 {
            total.0.insert(name, amount);
        }
    }
    total.add(&Resources::of(spec.overhead.as_ref()), 1);
    total
}

/// A port a pod takes on its node: protocol, address, number.
pub type HostPort = (String, String, i32);

/// The ports a pod takes on its node.
pub fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let containers =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let number = port.host_port.filter(|number| *number > 0)?;
            let address = port.host_ip.clone().filter(|address| !address.is_empty());
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((protocol, address.unwrap_or_else(|| "0.0.0.0".to_owned()), number))
        })
        .collect()
}

/// A node and the pods on it.
#[derive(Debug, Default, Clone)]
pub struct NodeInfo {
    /// `None` if pods name a node that is not there.
    pub node: Option<Arc<Node>>,
    pub allocatable: Resources,
    pub requested: Resources,
    /// By uid.
    pub pods: HashMap<String, Arc<Pod>>,
}

impl NodeInfo {
    pub fn name(&self) -> &str {
        self.node.as_ref().and_then(|node| node.metadata.name.as_deref()).unwrap_or_default()
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.node.as_ref().map_or(&NONE, |node| node.labels())
    }
}

/// All nodes.
#[derive(Debug, Default)]
pub struct View {
    nodes: BTreeMap<String, NodeInfo>,
    /// Where each pod is, by uid.
    placed: HashMap<String, String>,
}

impl View {
    /// Starts anew from what the caches hold. Pods bound a moment ago are in there, or are being bound and come again.
    pub fn replace(&mut self, nodes: &[Arc<Node>], pods: &[Arc<Pod>]) {
        *self = View::default();
        nodes.iter().for_each(|node| {
            self.set_node(node);
        });
        pods.iter().filter(|pod| !crate::is_finished(pod)).for_each(|pod| self.add_pod(pod));
    }

    /// Takes in a node as it is now. Returns whether anything changed that decides where pods can run.
    pub fn set_node(&mut self, node: &Arc<Node>) -> bool {
        let info = self.nodes.entry(node.name_any()).or_default();
        let allocatable = Resources::of(node.status.as_ref().and_then(|status| status.allocatable.as_ref()));
        let changed = info.allocatable != allocatable
            || info.node.as_ref().is_none_or(|old| {
                old.spec != node.spec || old.labels() != node.labels() || old.annotations() != node.annotations()
            });
        info.allocatable = allocatable;
        info.node = Some(node.clone());
        changed
    }

    /// The node is gone; its pods stay until they are.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(info) = self.nodes.get_mut(name) {
            info.node = None;
            if info.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// A pod that has a node. Adding it again replaces it.
    pub fn add_pod(&mut self, pod: &Arc<Pod>) {
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { return };
        self.assume(pod, &node);
    }

    /// A pod that is to be on a node.
    pub fn assume(&mut self, pod: &Arc<Pod>, node: &str) {
        let Some(uid) = pod.uid() else { return };
        self.remove_pod(&uid);
        let info = self.nodes.entry(node.to_owned()).or_default();
        info.requested.add(&requests(pod), 1);
        info.pods.insert(uid.clone(), pod.clone());
        self.placed.insert(uid, node.to_owned());
    }

    /// The pod is on no node any more. Returns whether it was on one.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(node) = self.placed.remove(uid) else { return false };
        let Some(info) = self.nodes.get_mut(&node) else { return false };
        let Some(pod) = info.pods.remove(uid) else { return false };
        info.requested.add(&requests(&pod), -1);
        true
    }

    /// The nodes that are there, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().filter(|info| info.node.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn a_pod_takes_the_most_it_ever_needs_at_once() {
        let container = |cpu: &str, policy: Option<&str>| json!({"name": "c", "resources": {"requests": {"cpu": cpu}}, "restartPolicy": policy});
        let pod: Pod = from_value(json!({"spec": {
            "containers": [container("100m", None), container("200m", None)],
            "initContainers": [container("50m", Some("Always")), container("1", None)],
            "overhead": {"cpu": "10m", "memory": "1Ki"}
        }}))
        .unwrap();
        let total = requests(&pod);
        assert_eq!((total.get("cpu"), total.get("memory")), (1060, 1024));
    }

    #[test]
    fn the_view_counts_each_pod_once_wherever_it_moves() {
        let pod = |node: Option<&str>| -> Arc<Pod> {
            from_value(json!({"metadata": {"uid": "u"}, "spec": {"nodeName": node,
                "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}}))
            .map(Arc::new)
            .unwrap()
        };
        let mut view = View::default();
        let node: Arc<Node> = from_value(json!({"metadata": {"name": "a"}})).map(Arc::new).unwrap();
        assert!(view.set_node(&node));
        assert!(!view.set_node(&node));
        view.assume(&pod(None), "a");
        view.add_pod(&pod(Some("a")));
        assert_eq!(view.nodes().next().unwrap().requested.get("cpu"), 1000);
        assert!(view.remove_pod("u"));
        assert!(!view.remove_pod("u"));
        assert_eq!(view.nodes().next().unwrap().requested.get("cpu"), 0);
    }
}
