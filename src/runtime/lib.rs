//! k3s-runtime
