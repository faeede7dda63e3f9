//! k3s-scheduler
