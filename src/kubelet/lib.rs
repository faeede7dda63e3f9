//! k3s-kubelet
