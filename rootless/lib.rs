//! Runs a program as "root" of its own namespaces, for an ordinary user of the host.
//!
//! Four processes take part:
//!
//! ```text
//! host        launcher ──────┬── network driver (slirp4netns)
//!             (the user)     │
//! ───────────────────────────┼──────────────────────────────────────────
//! namespaces  init ── pods   └── server (uid 0 inside)
//! ```
//!
//! - The **launcher** is the process that the user started, in [`launch`]. It stays small: it
//!   passes signals on, reaps, and opens ports of the host for the server.
//! - The **init** is process 1 of the pid namespace. It holds the namespaces and reaps, no more. It
//!   outlives the launcher as long as anything else lives inside, so pods go on when k3s is killed;
//!   the next launch on the same state directory joins the same namespaces.
//! - The **server** is the same program executed anew inside, with the same arguments. It asks the
//!   launcher for ports of the host through [`Host`], and gets the sockets themselves.
//! - The **network driver** connects the network namespace with the host's.
//!
//! Server and driver end with the launcher, whatever happens to it: by signal of the kernel, and by
//! a pipe that the kernel closes. [`killall`] ends the rest.
//!
//! A program that can be launched calls [`enter`] first thing in `main`:
//!
//! ```no_run
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     k3s_rootless::enter()?;
//!     if let Some(host) = k3s_rootless::Host::from_env() {
//!         let listener = host.listen_tcp("0.0.0.0:6443".parse()?)?;
//!         println!("root inside, {} outside; serving {listener:?}", host.info().user);
//!         return Ok(());
//!     }
//!     let data_dir = std::path::Path::new("/home/edge/.rancher/k3s");
//!     let config = k3s_rootless::Config::from_env(std::env::vars(), data_dir, false)?;
//!     let exit = k3s_rootless::launch(&config, std::env::args_os())?;
//!     std::process::exit(exit.code())
//! }
//! ```

mod api;
mod cgroup;
mod channel;
pub mod checks;
mod child;
pub mod config;
mod copy_up;
mod error;
mod host;
pub mod init;
mod launcher;
mod lifeline;
mod loopback;
mod memory;
mod mounts;
mod name_resolution;
pub mod namespaces;
pub mod network;
pub mod port;
pub mod process;
mod published;
mod relay;
pub mod state;
pub mod subid;

pub use api::{ApiError, serve_api};
pub use cgroup::CgroupInfo;
pub use config::{Config, ConfigError};
pub use error::Error;
pub use host::{EnterError, Host, Info, NetworkInfo, is_child};
pub use launcher::{Before, Exit, launch, launch_after};
pub use port::{PortError, Protocol};
pub use published::{LOW_PORT_OFFSET, PortId, PublishError, PublishedPort, PublishedPorts};
pub use relay::CONNECTION_MARK;
pub use state::{StateError, killall};

/// Tells the server that it is in the namespaces, and by which descriptor it speaks with the
/// launcher. Taken out of the environment by [`enter`], so that nothing it starts takes itself for
/// the server.
const CHILD_FD: &str = "_K3S_ROOTLESS_FD";

/// To be called first thing in `main`, while the process has a single thread. In a process that
/// the launcher started as the namespaces' init it never returns; in the server it finishes the
/// set-up, and [`Host::from_env`] is there from then on; in any other process it does nothing.
///
/// # Errors
/// The launcher is gone, or name resolution cannot be set up inside.
pub fn enter() -> Result<(), EnterError> {
    init::if_asked();
    host::if_asked()
}
