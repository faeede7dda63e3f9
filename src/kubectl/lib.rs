//! k3s-kubectl
