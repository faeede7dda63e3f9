//! k3s-rootless
