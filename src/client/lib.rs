//! k3s-client
