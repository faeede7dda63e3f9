//! What runs as pods out of the k3s binary, with the manifests that deploy it.

#![forbid(unsafe_code)]

pub mod coredns;
pub mod runtimes;
