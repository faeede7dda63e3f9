//! k3s-supervisor
