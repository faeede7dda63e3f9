//! k3s-network
