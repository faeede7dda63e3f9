//! What this is, in k3s' words.

/// The Kubernetes version it serves, with the release of k3s.
pub const KUBERNETES: &str = "v1.36.2+k3s1";

/// The answer to `k3s --version`: k3s has its commit where this has its own version, and Go where this has Rust.
pub fn text() -> String {
    format!("k3s version {KUBERNETES} ({})\nrust version {}\n", env!("CARGO_PKG_VERSION"), env!("K3S_RUST_VERSION"))
}
