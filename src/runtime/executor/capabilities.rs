//! Capability sets.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxCapabilities};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities,
};

use super::error::{Context, Error};

/// Capabilities in the order of their numbers (`include/uapi/linux/capability.h`).
pub(crate) const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

fn set_of(capabilities: &Option<HashSet<Capability>>) -> CapabilitySet {
    let wanted = capabilities.iter().flatten();
    let bits = wanted.filter_map(|capability| ALL.iter().position(|known| known == capability));
    CapabilitySet::from_bits_retain(bits.fold(0, |set, bit| set | 1 << bit))
}

/// Takes from the bounding set what is not in the specification's. Needs `CAP_SETPCAP`, so it comes first.
pub(super) fn limit_bounding(capabilities: &LinuxCapabilities) -> Result<(), Error> {
    let keep = set_of(capabilities.bounding());
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        // The kernel refuses numbers past its last capability.
        let Ok(present) = capability_is_in_bounding_set(one) else { break };
        if present && !keep.contains(one) {
            remove_capability_from_bounding_set(one).doing("drop capability from bounding set")?;
        }
    }
    Ok(())
}

/// Makes everything permitted effective again, which a change of the user took away.
pub(super) fn raise_permitted() -> Result<(), Error> {
    let have = rustix::thread::capabilities(None).doing("read capabilities")?;
    let sets = CapabilitySets { effective: have.permitted, ..have };
    set_capabilities(None, sets).doing("make capabilities effective")
}

/// Sets the other sets. What this process does not have (in a container, or a user namespace with less) it can't give.
pub(super) fn apply(capabilities: &LinuxCapabilities) -> Result<(), Error> {
    let have = rustix::thread::capabilities(None).doing("read capabilities")?;
    let permitted = set_of(capabilities.permitted()) & have.permitted;
    let bounding_and_held = set_of(capabilities.inheritable()) & have.permitted;
    let sets = CapabilitySets {
        effective: set_of(capabilities.effective()) & permitted,
        permitted,
        inheritable: bounding_and_held,
    };
    set_capabilities(None, sets).doing("set capabilities")?;
    clear_ambient_capability_set().doing("clear ambient capabilities")?;
    let ambient = set_of(capabilities.ambient()) & permitted & bounding_and_held;
    for one in ambient.iter() {
        configure_capability_in_ambient_set(one, true).doing("raise ambient capability")?;
    }
    Ok(())
}
