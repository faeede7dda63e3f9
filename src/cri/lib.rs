//! The container runtime interface: what the kubelet asks of a runtime and what the runtime asks of the network.
//!
//! Types and calls are those of CRI v1 and CNI 1.1 under their own names, as Rust types: what is optional in the
//! protocol but always set is not optional here. `k3s-runtime` implements [`RuntimeService`] and [`ImageService`],
//! `k3s-network` implements [`PodNetwork`], the kubelet uses the first two. None of them knows the others.
//!
//! Sources: <https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto>,
//! <https://github.com/containernetworking/cni/blob/main/SPEC.md>.

mod config;
mod error;
mod local;
mod network;
mod registry_auth;
mod service;
mod status;
mod stream;

pub use config::*;
pub use error::Error;
pub use local::{LOCAL_SOCKET, NamedImage};
pub use network::{Attachment, PodNetwork, PodRef};
pub use registry_auth::RegistryAuth;
pub use service::{Duplex, ImageService, RuntimeService};
pub use status::*;
pub use stream::{ExecRequest, Output, Streams, TerminalSize};
