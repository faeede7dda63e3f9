//! Carries what arrives at a port of the host to an address inside: a pod's, or a service's.
//!
//! The host's own socket is accepted on inside (see [`crate::Host`]), so the relay is the only process between client
//! and server. Where much is sent by TCP, it is spliced ([`tcp`]): bytes go from socket to socket through a pipe in the
//! kernel, without a copy into this process. The server sees the client's own address, where its answers can find the
//! way back ([`source`]).

mod source;
mod tcp;
mod udp;

pub use source::CONNECTION_MARK;
pub(crate) use source::{Device, keep};
pub(crate) use tcp::{TcpPort, TcpRelay};
pub(crate) use udp::run as udp;
