//! k3s-env
