//! What this is, in k3s' words.

/// The Kubernetes version it serves, with the release of k3s.
pub const KUBERNETES: &str = "v1.36.2+k3s1";

/// The answer to `k3s --version`.
pub fn text() -> String {
    format!("k3s version {KUBERNETES} (rust {})\n", env!("CARGO_PKG_VERSION"))
}
