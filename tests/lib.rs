//! k3s-tests
