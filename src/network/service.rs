//! Services: what kube-proxy does, by one nftables table.
//!
//! [`port`] reads Services and EndpointSlices into [`port::ServicePort`]s, [`rules`] makes a ruleset of them,
//! [`proxy`] leads the kernel to it, [`relay`] shows node ports and host ports outside a rootless node's namespace,
//! [`client_address`] has answers to their clients find the way back.

pub(crate) mod client_address;
pub(crate) mod conntrack;
pub(crate) mod host_port;
pub(crate) mod port;
pub(crate) mod proxy;
pub(crate) mod relay;
pub(crate) mod rules;
