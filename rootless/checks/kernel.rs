//! The kernel's switches, and its tun device.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;

use super::{CheckError, HostPaths};

/// Whether the kernel's switches let this process make a user namespace.
///
/// # Errors
/// The switch that does not.
pub fn user_namespaces(host: &HostPaths) -> Result<(), CheckError> {
    if host.sysctl("user.max_user_namespaces").as_deref() == Some("0") {
        return Err(CheckError::MaxUserNamespaces);
    }
    if host.sysctl("kernel.unprivileged_userns_clone").as_deref() == Some("0") {
        return Err(CheckError::UnprivilegedUsernsClone);
    }
    // The restriction is for unconfined programs: one with a profile of its own is decided by that.
    let restricted = host.sysctl("kernel.apparmor_restrict_unprivileged_userns").as_deref() == Some("1");
    if restricted && unconfined(host) {
        let exe = env::current_exe().unwrap_or_else(|_| "k3s".into());
        return Err(CheckError::AppArmor { exe: exe.display().to_string() });
    }
    Ok(())
}

fn unconfined(host: &HostPaths) -> bool {
    ["self/attr/apparmor/current", "self/attr/current"]
        .iter()
        .find_map(|file| fs::read_to_string(host.proc.join(file)).ok())
        .is_none_or(|label| label.trim_end_matches(['\0', '\n']) == "unconfined")
}

/// Whether a set-user-id program can still gain its privileges.
///
/// # Errors
/// [`CheckError::NoNewPrivileges`].
pub fn no_new_privileges(host: &HostPaths) -> Result<(), CheckError> {
    let status = fs::read_to_string(host.proc.join("self/status")).unwrap_or_default();
    let set = status.lines().filter_map(|l| l.strip_prefix("NoNewPrivs:")).any(|v| v.trim() == "1");
    if set { Err(CheckError::NoNewPrivileges) } else { Ok(()) }
}

/// Whether tap devices can be made.
///
/// # Errors
/// The device is missing, may not be opened, or has no driver.
pub fn tun(host: &HostPaths) -> Result<(), CheckError> {
    let path = host.tun.clone();
    match OpenOptions::new().read(true).write(true).open(&path).map(|_: File| ()) {
        Ok(()) => Ok(()),
        Err(e) => Err(match e.kind() {
            ErrorKind::NotFound => CheckError::NoTun { path },
            ErrorKind::PermissionDenied => CheckError::TunPermission { path },
            _ => CheckError::Tun { path, source: e },
        }),
    }
}

/// Whether port 80 of the host can be opened as it is. Without, ports below 1024 are opened 10000 higher.
///
/// # Errors
/// [`CheckError::PrivilegedPorts`].
pub fn low_ports(host: &HostPaths) -> Result<(), CheckError> {
    let first = host.sysctl("net.ipv4.ip_unprivileged_port_start").and_then(|v| v.parse().ok()).unwrap_or(1024);
    if first <= 80 || may_bind_any_port(host) { Ok(()) } else { Err(CheckError::PrivilegedPorts { first }) }
}

/// CAP_NET_BIND_SERVICE, as from `setcap` on the binary or `AmbientCapabilities=` of a unit.
fn may_bind_any_port(host: &HostPaths) -> bool {
    let status = fs::read_to_string(host.proc.join("self/status")).unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & (1 << 10) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::test_host::{TestHost, message};

    #[test]
    fn each_switch_of_the_kernel_has_its_own_message() {
        let host = TestHost::new("switches");
        user_namespaces(&host.paths).unwrap();
        host.write("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        message(user_namespaces(&host.paths), &["AppArmor", "sysctl -w kernel.apparmor_restrict"]);
        host.write("proc/self/attr/current", "k3s (unconfined)\n");
        user_namespaces(&host.paths).unwrap();
        host.write("proc/sys/kernel/unprivileged_userns_clone", "0\n");
        message(user_namespaces(&host.paths), &["sysctl -w kernel.unprivileged_userns_clone=1"]);
        host.write("proc/sys/user/max_user_namespaces", "0\n");
        message(user_namespaces(&host.paths), &["sysctl -w user.max_user_namespaces"]);
    }

    #[test]
    fn no_new_privileges_is_seen() {
        let host = TestHost::new("nnp");
        no_new_privileges(&host.paths).unwrap();
        host.write("proc/self/status", "NoNewPrivs:\t1\n");
        message(no_new_privileges(&host.paths), &["no_new_privs"]);
    }

    #[test]
    fn a_missing_tun_device_says_what_to_load() {
        let host = TestHost::new("tun");
        tun(&host.paths).unwrap();
        fs::remove_file(&host.paths.tun).unwrap();
        message(tun(&host.paths), &["tun", "modprobe tun"]);
    }

    #[test]
    fn low_ports_are_open_by_sysctl_or_by_capability() {
        let host = TestHost::new("low-ports");
        message(low_ports(&host.paths), &["below 1024", "ip_unprivileged_port_start=0"]);
        host.write("proc/sys/net/ipv4/ip_unprivileged_port_start", "80\n");
        low_ports(&host.paths).unwrap();
        host.write("proc/sys/net/ipv4/ip_unprivileged_port_start", "1024\n");
        message(low_ports(&host.paths), &["10000 higher"]);
        host.write("proc/self/status", "CapEff:\t0000000000000400\n");
        low_ports(&host.paths).unwrap();
    }
}
