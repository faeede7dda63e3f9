//! The container runtime: images, snapshots, sandboxes and containers, in the place of containerd, its shim, runc and
//! the pause image; as root and in a user namespace alike.
//!
//! ```text
//! kubelet ── k3s-cri ──► Runtime ── unix socket ──► shim (one per pod) ── clone3 ──► executor ── execve ──► command
//!                           │                          │
//!                     images, snapshots          stdio, logs, exit codes
//! ```
//!
//! * [`Runtime`] lives in the k3s process and implements [`k3s_cri::RuntimeService`] and [`k3s_cri::ImageService`].
//! * [`serve_cri`] shows it to others as CRI v1 over gRPC.
//! * [`shim::main`] is the hidden subcommand `k3s shim`: a small process per pod that outlives k3s.
//! * [`oci::main`] is `k3s oci`: the executor as an OCI runtime with runc's command line.
//! * The executor turns a fork of the shim into a container, by the OCI runtime specification.
//!
//! Nothing is mounted in the node's mount namespace but a tmpfs per pod for its shared memory: overlays are made inside
//! each container's own mount namespace and go with it.

mod cgroup;
mod container;
mod descriptor;
mod devices;
mod disk;
mod exec;
mod executor;
mod grpc;
mod handlers;
mod id;
mod image;
mod image_volume;
mod mount_table;
pub mod oci;
mod record;
mod registry;
mod relay;
mod runtime;
mod sandbox;
mod seccomp_default;
mod served_root;
mod service;
pub mod shim;
mod snapshot;
mod spec;
mod stats;
mod syscall;
mod target;
mod terminal;
mod users;

pub use self::cgroup::Cgroup;
pub use self::grpc::serve as serve_cri;
pub use self::image::{BuiltinImage, ImageError, ImportReport, Reference};
pub use self::registry::{ConfigError, Registries};
pub use self::runtime::{Error, Options, Runtime};
pub use self::snapshot::Snapshotter;
pub use self::syscall::close_from_on_exec;
