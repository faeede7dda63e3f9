//! What a sandbox is made of: namespaces, host name, loopback, sysctls.

use std::os::fd::OwnedFd;

use nix::sched::CloneFlags;

use super::protocol::SandboxSetup;
use super::user_namespace;
use crate::executor::{bring_up_loopback, set_sysctl};

/// Moves this process into the sandbox's own namespaces, but for the user namespace, which is returned if there is one.
pub(super) fn enter(setup: &SandboxSetup) -> Result<Option<OwnedFd>, String> {
    if let Some(mappings) = &setup.user {
        return user_namespace::make(setup, mappings).map(Some);
    }
    let flags = namespaces(setup);
    nix::sched::unshare(flags).map_err(|error| format!("unshare {flags:?}: {error}"))?;
    configure(setup)?;
    Ok(None)
}

/// Those that this process is in.
pub(super) fn namespaces(setup: &SandboxSetup) -> CloneFlags {
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
    flags
}

/// Gives new namespaces what they need. Called in a process that is in them and owns them.
pub(super) fn configure(setup: &SandboxSetup) -> Result<(), String> {
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
