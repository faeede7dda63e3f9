//! What k3s has to do with systemd: its unit files, cgroups of its own for pods, and notifications.
//!
//! **Units.** `k3s.service`, `k3s-agent.service` and the user unit `k3s-rootless.service` stand in this
//! folder as they are installed; [`units`] has their text.
//!
//! **Cgroups.** Limits of pods need a subtree of cgroup v2 that is k3s's alone. As an ordinary user,
//! [`Delegation::acquire`] finds one, or asks the user's systemd for one:
//!
//! ```text
//! user@1000.service                     delegated to the user's systemd
//! └── app.slice
//!     ├── k3s-rootless.service          the launcher
//!     └── k3s-1234-567.scope            Delegate=yes; root of the namespaces' cgroup namespace
//!         ├── k3s                       server, shims, the namespaces' init
//!         └── kubepods                  pods
//! ```
//!
//! Processes must be in a leaf: the kernel hands controllers down only from a cgroup that has no processes of
//! its own ([`Delegation::settle`]). As root of the host, pods go below `/sys/fs/cgroup/kubepods`
//! ([`system_subtree`]), where k3s has them, too.
//!
//! **Notifications.** [`Notifier`] speaks sd_notify(3). A rootless server is not the process that systemd knows,
//! and lives in other namespaces; the launcher listens for it with a [`Relay`].

pub mod bus;
mod cgroup;
mod delegation;
mod error;
mod linger;
mod notify;
mod relay;
mod subtree;
pub mod units;

pub use cgroup::{CONTROLLERS, Hierarchy, controllers};
pub use delegation::{Delegation, system_subtree};
pub use error::NotDelegated;
pub use linger::advice as linger_advice;
pub use notify::{Notification, Notifier, NotifyError};
pub use relay::Relay;
pub use subtree::LEAF;
