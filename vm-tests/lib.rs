//! A machine with systemd and cgroup v2, to test on what no container has: user units, delegation, limits, reboots.
//!
//! [`Image`] builds a small Debian once, from the host's own package sources, and keeps it. [`Machine`] boots it under
//! QEMU, without hardware acceleration, on a copy that is thrown away, with k3s and the images of pods on a second
//! disk. [`Machine::run`] runs a script inside as root and returns what it printed; the agent in the image that does
//! it (`guest/agent`) speaks over a virtio console.

mod image;
mod machine;
mod payload;

pub use image::Image;
pub use machine::{Machine, Output};
pub use payload::Payload;
