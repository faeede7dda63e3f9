//! k3s-api
