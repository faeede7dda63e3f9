//! k3s-cri
