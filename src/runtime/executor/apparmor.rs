//! AppArmor: the profile that the command gets at `execve`.

use std::path::Path;

use oci_spec::runtime::Process;

use super::error::{Context, Error};

/// Sets the profile of the specification. Called when `/proc` is the container's.
pub(super) fn confine(process: &Process) -> Result<(), Error> {
    let Some(profile) = process.apparmor_profile().as_deref().filter(|profile| !profile.is_empty()) else {
        return Ok(());
    };
    // Kernels with several security modules have a directory for each.
    let own = Path::new("/proc/self/attr/apparmor/exec");
    let path = if own.exists() { own } else { Path::new("/proc/self/attr/exec") };
    std::fs::write(path, format!("exec {profile}")).doing(format!("apply AppArmor profile {profile}"))
}
