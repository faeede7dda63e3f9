//! k3s-addons
