//! As whom components call the API server in the same process.

use k3s_api::authentication::UserInfo;

/// The scheduler.
pub fn scheduler() -> UserInfo {
    UserInfo::new("system:kube-scheduler", &[])
}

/// What all controllers watch with.
pub fn controllers() -> UserInfo {
    UserInfo::new("system:kube-controller-manager", &[])
}

/// One controller: a service account in `kube-system`.
pub fn controller(name: &str) -> UserInfo {
    UserInfo::new(
        format!("system:serviceaccount:kube-system:{name}"),
        &["system:serviceaccounts", "system:serviceaccounts:kube-system"],
    )
}

/// A node's kubelet.
pub fn kubelet(node: &str) -> UserInfo {
    UserInfo::new(format!("system:node:{node}"), &["system:nodes"])
}

/// The service proxy and pod network of a node.
pub fn network() -> UserInfo {
    UserInfo::new("system:kube-proxy", &[])
}

/// What deploys manifests: they may hold anything.
pub fn supervisor() -> UserInfo {
    UserInfo::new("system:k3s-supervisor", &["system:masters"])
}
