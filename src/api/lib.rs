//! What a Kubernetes object is, with no I/O.

pub mod authentication;
