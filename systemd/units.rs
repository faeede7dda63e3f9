//! The unit files, as they are installed.

/// A server as root, for `/etc/systemd/system`.
pub const SERVER: &str = include_str!("k3s.service");
/// An agent as root, for `/etc/systemd/system`.
pub const AGENT: &str = include_str!("k3s-agent.service");
/// A rootless server, for `~/.config/systemd/user`.
pub const ROOTLESS: &str = include_str!("k3s-rootless.service");
