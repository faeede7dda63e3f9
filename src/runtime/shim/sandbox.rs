//! What a sandbox is made of: namespaces, host name, loopback, sysctls.

use nix::sched::CloneFlags;

use super::protocol::SandboxSetup;

/// Moves this process into the sandbox's own namespaces.
pub(super) fn unshare(setup: &SandboxSetup) -> Result<(), String> {
    let mut flags = CloneFlags::empty();
    if !setup.host_network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    if !setup.host_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    if !setup.hostname.is_empty() {
        flags |= CloneFlags::CLONE_NEWUTS;
    }
    nix::sched::unshare(flags).map_err(|error| format!("unshare {flags:?}: {error}"))?;
    if !setup.hostname.is_empty() {
        nix::unistd::sethostname(&setup.hostname)
            .map_err(|error| format!("sethostname {}: {error}", setup.hostname))?;
    }
    if !setup.host_network {
        bring_up_loopback().map_err(|error| format!("bring up lo: {error}"))?;
    }
    for (name, value) in &setup.sysctls {
        set_sysctl(name, value).map_err(|error| format!("sysctl {name}={value}: {error}"))?;
    }
    for (name, value) in &setup.optional_sysctls {
        // Kernels without it, and user namespaces that don't map the ids in it, go without.
        let _ = set_sysctl(name, value);
    }
    Ok(())
}

fn set_sysctl(name: &str, value: &str) -> std::io::Result<()> {
    // Names are separated by dots or, where a part has a dot (an interface), by slashes.
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    if path.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(std::io::Error::from_raw_os_error(libc::EINVAL));
    }
    std::fs::write(format!("/proc/sys/{path}"), value)
}

fn bring_up_loopback() -> std::io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    use std::os::fd::AsRawFd;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *place = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the ioctl reads an ifreq, which outlives it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
