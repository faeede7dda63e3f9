//! What end-to-end tests are made of: ordinary users of this machine, images built from files, clusters of the real
//! binary, databases, and patience.
//!
//! The tests need root, to make users and to start as them; [`User`] is an account of its own for each test, removed at
//! the end with everything it ran.

mod cluster;
pub mod datastore;
mod image;
mod patience;
mod user;

pub use cluster::{Cluster, condition, kubectl_of_kubernetes};
pub use image::{Image, busybox_image};
pub use patience::eventually;
pub use user::User;

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;

/// A port of the loopback interface that nobody listens on. Between this and its use another process might take it.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr()).expect("a free port").port()
}

/// The binary under test: `K3S_BINARY`, which `tests/run` sets.
///
/// # Panics
/// If it is not set.
pub fn binary() -> PathBuf {
    PathBuf::from(std::env::var_os("K3S_BINARY").expect("K3S_BINARY names the k3s binary; tests/run sets it"))
}
