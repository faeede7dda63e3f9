//! slirp4netns(1) as types: what it can do, how it is started, and the API of its socket.
//!
//! The program has no library: its interface is a command line, two descriptors and JSON on a unix socket. They are
//! here, and nothing else: starting the program is up to the caller.
//!
//! - [`Features`]: version and flags of an installed slirp4netns, out of its own words.
//! - [`Invocation`]: the command line. `ready_fd` gets the byte `1` when the device is configured; when the other end
//!   of `exit_fd` closes, the program ends.
//! - [`ApiClient`]: ports of the host that are led inside, while the program runs.
//!
//! ```
//! use slirp4netns_sys::{Features, Invocation};
//! let features = Features::parse("slirp4netns version 1.2.0", "--enable-sandbox --enable-seccomp")?;
//! let invocation = Invocation::new(4711, "tap0").mtu(65520).cidr("10.41.0.0/16").sandboxed_by(&features);
//! assert_eq!(invocation.arguments().last().unwrap(), "tap0");
//! # Ok::<(), slirp4netns_sys::FeatureError>(())
//! ```
//!
//! Source: slirp4netns(1), <https://github.com/rootless-containers/slirp4netns>.

#![forbid(unsafe_code)]

mod api;
mod features;
mod invocation;

pub use api::{ApiClient, ApiError, Forward, ForwardId, Forwarded, Proto};
pub use features::{FeatureError, Features, OLDEST, Version};
pub use invocation::Invocation;
