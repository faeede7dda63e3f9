//! What the host must have, each thing checked on its own, with the command that mends it.
//!
//! The launcher stops at the first that fails; `check-config` goes through [`all`]. Nothing here
//! changes the host.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::slirp4netns::{Slirp4netns, SlirpError};
use crate::subid::{self, IdKind, IdMap, NEEDED, SubIdRange};

/// Where the host keeps what is looked at.
#[derive(Debug, Clone)]
pub struct HostPaths {
    pub passwd: PathBuf,
    pub subuid: PathBuf,
    pub subgid: PathBuf,
    /// The proc file system.
    pub proc: PathBuf,
    pub tun: PathBuf,
    /// Where programs are looked for, as `PATH`.
    pub search: Vec<PathBuf>,
}

impl Default for HostPaths {
    fn default() -> Self {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut search: Vec<PathBuf> = env::split_paths(&path).filter(|p| p.is_absolute()).collect();
        // A user's PATH need not have the sbin directories, nor a unit's any.
        for dir in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
            if !search.iter().any(|p| p == Path::new(dir)) {
                search.push(dir.into());
            }
        }
        Self {
            passwd: "/etc/passwd".into(),
            subuid: "/etc/subuid".into(),
            subgid: "/etc/subgid".into(),
            proc: "/proc".into(),
            tun: "/dev/net/tun".into(),
            search,
        }
    }
}

impl HostPaths {
    /// The first executable file of this name on the search path.
    pub fn find(&self, program: &str) -> Option<PathBuf> {
        self.search
            .iter()
            .map(|dir| dir.join(program))
            .find(|file| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
    }

    fn sysctl(&self, name: &str) -> Option<String> {
        let value = fs::read_to_string(self.proc.join("sys").join(name.replace('.', "/"))).ok()?;
        Some(value.trim().to_owned())
    }

    fn sub_ids(&self, kind: IdKind) -> &Path {
        match kind {
            IdKind::Uid => &self.subuid,
            IdKind::Gid => &self.subgid,
        }
    }
}

/// One thing the host lacks.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error(
        "no {kind} for user {user}: {file:?} has no line for it; add one with: sudo usermod {} {first}-{} {user}",
        kind.usermod_option(), first + (NEEDED - 1)
    )]
    NoSubIds { kind: IdKind, user: String, file: PathBuf, first: u32 },
    #[error(
        "too few {kind} for user {user}: {file:?} gives {count}, and 65536 are needed; add more with: sudo usermod {} {first}-{} {user}",
        kind.usermod_option(), first + (NEEDED - 1)
    )]
    TooFewSubIds { kind: IdKind, user: String, file: PathBuf, count: u64, first: u32 },
    #[error("cannot read {file:?} for the {kind} of user {user}: {source}; make it readable with: sudo chmod 0644 {}", file.display())]
    SubIdFile { kind: IdKind, user: String, file: PathBuf, source: io::Error },
    #[error(
        "{tool} is missing; install it with: sudo apt-get install uidmap (Fedora: shadow-utils, Alpine: shadow-subids)"
    )]
    NoMappingTool { tool: &'static str },
    #[error("{path:?} is neither set-user-id root nor has cap_set{id}; mend it with: sudo chmod u+s {}", path.display())]
    UnprivilegedMappingTool { path: PathBuf, id: &'static str },
    #[error(
        "the process may not gain privileges (no_new_privs), so newuidmap cannot map sub-ids; start k3s without it (systemd: NoNewPrivileges=no)"
    )]
    NoNewPrivileges,
    #[error(
        "user namespaces are switched off (user.max_user_namespaces=0); allow them with: sudo sysctl -w user.max_user_namespaces=28633 (and in /etc/sysctl.d to keep it)"
    )]
    MaxUserNamespaces,
    #[error(
        "ordinary users may not make user namespaces (kernel.unprivileged_userns_clone=0); allow it with: sudo sysctl -w kernel.unprivileged_userns_clone=1 (and in /etc/sysctl.d to keep it)"
    )]
    UnprivilegedUsernsClone,
    #[error(
        "AppArmor keeps ordinary users from user namespaces (kernel.apparmor_restrict_unprivileged_userns=1); either write a profile for {exe} that has 'userns,', or: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    )]
    AppArmor { exe: String },
    #[error(
        "{path:?} is missing; load it with: sudo modprobe tun (and: echo tun | sudo tee /etc/modules-load.d/tun.conf)"
    )]
    NoTun { path: PathBuf },
    #[error("{path:?} may not be opened by this user; allow it with: sudo chmod 0666 {}", path.display())]
    TunPermission { path: PathBuf },
    #[error("cannot open {path:?}: {source}; load the driver with: sudo modprobe tun")]
    Tun { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Slirp4netns(#[from] SlirpError),
}

/// What a first launch needs, found and checked.
#[derive(Debug)]
pub struct IdMapping {
    pub uids: IdMap,
    pub gids: IdMap,
    pub newuidmap: PathBuf,
    pub newgidmap: PathBuf,
}

/// The outcome of one check, for `check-config`.
#[derive(Debug)]
pub struct Check {
    /// What was looked at, in a few words.
    pub name: &'static str,
    pub result: Result<(), CheckError>,
}

/// Every check, for this user.
pub fn all(host: &HostPaths, uid: u32) -> Vec<Check> {
    let user = user_name(host, uid);
    let check = |name, result| Check { name, result };
    vec![
        check("user namespaces", user_namespaces(host)),
        check("no_new_privs", no_new_privileges(host)),
        check("sub-uids", sub_ids(host, IdKind::Uid, &user, uid).map(drop)),
        check("sub-gids", sub_ids(host, IdKind::Gid, &user, uid).map(drop)),
        check("newuidmap", mapping_tool(host, IdKind::Uid).map(drop)),
        check("newgidmap", mapping_tool(host, IdKind::Gid).map(drop)),
        check("/dev/net/tun", tun(host)),
        check("slirp4netns", Slirp4netns::find(host).map(drop).map_err(CheckError::from)),
    ]
}

/// All that is needed to make namespaces and map ids into them.
///
/// # Errors
/// The first thing that is missing.
pub fn id_mapping(host: &HostPaths, uid: u32, gid: u32) -> Result<IdMapping, CheckError> {
    user_namespaces(host)?;
    no_new_privileges(host)?;
    let user = user_name(host, uid);
    let uids = sub_ids(host, IdKind::Uid, &user, uid)?;
    let gids = sub_ids(host, IdKind::Gid, &user, uid)?;
    Ok(IdMapping {
        uids: IdMap { kind: IdKind::Uid, own: uid, ranges: uids },
        gids: IdMap { kind: IdKind::Gid, own: gid, ranges: gids },
        newuidmap: mapping_tool(host, IdKind::Uid)?,
        newgidmap: mapping_tool(host, IdKind::Gid)?,
    })
}

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

/// The user's name, as /etc/passwd has it. A user from elsewhere (LDAP) is known by the
/// environment; a wrong name there gains nothing, since newuidmap looks for itself.
pub fn user_name(host: &HostPaths, uid: u32) -> String {
    let passwd = fs::read_to_string(&host.passwd).unwrap_or_default();
    let by_uid = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    by_uid
        .or_else(|| env::var("USER").ok().filter(|u| !u.is_empty()))
        .or_else(|| env::var("LOGNAME").ok().filter(|u| !u.is_empty()))
        .unwrap_or_else(|| uid.to_string())
}

/// The user's ranges, at least 65,536 ids together.
///
/// # Errors
/// None, too few, or a file that cannot be read.
pub fn sub_ids(host: &HostPaths, kind: IdKind, user: &str, uid: u32) -> Result<Vec<SubIdRange>, CheckError> {
    let file = host.sub_ids(kind).to_owned();
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        Err(source) => return Err(CheckError::SubIdFile { kind, user: user.to_owned(), file, source }),
    };
    let ranges = subid::ranges_of(&text, user, uid);
    let count: u64 = ranges.iter().map(|r| u64::from(r.count)).sum();
    let (user, first) = (user.to_owned(), subid::first_free(&text));
    match count {
        0 => Err(CheckError::NoSubIds { kind, user, file, first }),
        n if n < u64::from(NEEDED) => Err(CheckError::TooFewSubIds { kind, user, file, count, first }),
        _ => Ok(ranges),
    }
}

/// newuidmap or newgidmap, with the privilege it needs.
///
/// # Errors
/// It is missing, or has neither the set-user-id bit nor its file capability.
pub fn mapping_tool(host: &HostPaths, kind: IdKind) -> Result<PathBuf, CheckError> {
    let tool = kind.tool();
    let path = host.find(tool).ok_or(CheckError::NoMappingTool { tool })?;
    let set_uid_root = fs::metadata(&path).is_ok_and(|m| m.uid() == 0 && m.permissions().mode() & 0o4000 != 0);
    let (id, capability) = match kind {
        IdKind::Uid => ("uid", 7), // CAP_SETUID
        IdKind::Gid => ("gid", 6), // CAP_SETGID
    };
    if set_uid_root || has_file_capability(&path, capability) {
        Ok(path)
    } else {
        Err(CheckError::UnprivilegedMappingTool { path, id })
    }
}

/// Whether the file's permitted set has this capability (`struct vfs_cap_data`: a magic word, then
/// the low half of the permitted set, little-endian).
fn has_file_capability(path: &Path, capability: u8) -> bool {
    let mut data = [0_u8; 24];
    let Ok(len) = rustix::fs::getxattr(path, c"security.capability", &mut data[..]) else { return false };
    match data.get(4..8).filter(|_| len >= 8) {
        Some(&[a, b, c, d]) => u32::from_le_bytes([a, b, c, d]) & (1 << capability) != 0,
        _ => false,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    struct Host {
        root: PathBuf,
        paths: HostPaths,
    }

    impl Host {
        /// A host that has everything but programs.
        fn new(name: &str) -> Self {
            let root = env::temp_dir().join(format!("k3s-rootless-checks-{}-{name}", std::process::id()));
            let paths = HostPaths {
                passwd: root.join("passwd"),
                subuid: root.join("subuid"),
                subgid: root.join("subgid"),
                proc: root.join("proc"),
                tun: root.join("tun"),
                search: vec![root.join("bin")],
            };
            let host = Self { root, paths };
            host.write("passwd", "root:x:0:0::/root:/bin/sh\nedge:x:1001:1001::/home/edge:/bin/sh\n");
            host.write("subuid", "edge:100000:65536\n");
            host.write("subgid", "1001:100000:65536\n");
            host.write("tun", "");
            host.write("proc/sys/user/max_user_namespaces", "96365\n");
            host.write("proc/self/status", "Name:\tk3s\nNoNewPrivs:\t0\n");
            host
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn program(&self, name: &str, mode: u32) {
            self.write(&format!("bin/{name}"), "#!/bin/sh\n");
            fs::set_permissions(self.root.join("bin").join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    fn message<T: std::fmt::Debug>(result: Result<T, CheckError>, needles: &[&str]) {
        let error = result.unwrap_err().to_string();
        for needle in needles {
            assert!(error.contains(needle), "{needle:?} is not in: {error}");
        }
    }

    #[test]
    fn a_user_is_known_by_the_password_file() {
        let host = Host::new("user");
        assert_eq!(user_name(&host.paths, 1001), "edge");
    }

    #[test]
    fn sub_ids_are_found_by_name_and_by_uid() {
        let host = Host::new("sub-ids");
        let want = [SubIdRange { start: 100_000, count: 65_536 }];
        assert_eq!(sub_ids(&host.paths, IdKind::Uid, "edge", 1001).unwrap(), want);
        assert_eq!(sub_ids(&host.paths, IdKind::Gid, "edge", 1001).unwrap(), want);
    }

    #[test]
    fn no_line_for_the_user_says_how_to_add_one() {
        let host = Host::new("no-line");
        host.write("subuid", "other:100000:65536\n");
        let result = sub_ids(&host.paths, IdKind::Uid, "edge", 1001);
        message(result, &["sub-uids", "edge", "subuid", "sudo usermod --add-subuids 165536-231071 edge"]);
        fs::remove_file(&host.paths.subgid).unwrap();
        let result = sub_ids(&host.paths, IdKind::Gid, "edge", 1001);
        message(result, &["sudo usermod --add-subgids 100000-165535 edge"]);
    }

    #[test]
    fn too_small_a_range_says_how_many_there_are() {
        let host = Host::new("small");
        host.write("subgid", "edge:100000:65535\n");
        let result = sub_ids(&host.paths, IdKind::Gid, "edge", 1001);
        message(result, &["too few sub-gids", "65535", "--add-subgids"]);
        host.write("subgid", "edge:100000:65535\nedge:300000:1\n");
        assert_eq!(sub_ids(&host.paths, IdKind::Gid, "edge", 1001).unwrap().len(), 2);
    }

    #[test]
    fn a_mapping_tool_must_be_there_and_privileged() {
        let host = Host::new("tools");
        message(mapping_tool(&host.paths, IdKind::Uid), &["newuidmap is missing", "uidmap"]);
        host.program("newgidmap", 0o755);
        message(mapping_tool(&host.paths, IdKind::Gid), &["newgidmap", "cap_setgid", "chmod u+s"]);
        // Only root can make a program that is set-user-id root.
        if rustix::process::geteuid().is_root() {
            host.program("newuidmap", 0o4755);
            assert_eq!(mapping_tool(&host.paths, IdKind::Uid).unwrap(), host.root.join("bin/newuidmap"));
        }
    }

    #[test]
    fn a_file_capability_is_as_good_as_the_bit() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: setting a file capability needs root");
            return;
        }
        let host = Host::new("file-capability");
        host.program("newuidmap", 0o755);
        let path = host.root.join("bin/newuidmap");
        // VFS_CAP_REVISION_2 with the effective flag; permitted: CAP_SETUID.
        let mut data = [0_u8; 20];
        data[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
        data[4..8].copy_from_slice(&(1_u32 << 7).to_le_bytes());
        rustix::fs::setxattr(&path, c"security.capability", &data, rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(mapping_tool(&host.paths, IdKind::Uid).unwrap(), path);
        assert!(!has_file_capability(&path, 6));
    }

    #[test]
    fn each_switch_of_the_kernel_has_its_own_message() {
        let host = Host::new("switches");
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
        let host = Host::new("nnp");
        no_new_privileges(&host.paths).unwrap();
        host.write("proc/self/status", "NoNewPrivs:\t1\n");
        message(no_new_privileges(&host.paths), &["no_new_privs"]);
    }

    #[test]
    fn a_missing_tun_device_says_what_to_load() {
        let host = Host::new("tun");
        tun(&host.paths).unwrap();
        fs::remove_file(&host.paths.tun).unwrap();
        message(tun(&host.paths), &["tun", "modprobe tun"]);
    }

    #[test]
    fn a_missing_driver_says_what_to_install() {
        let host = Host::new("slirp");
        let result = Slirp4netns::find(&host.paths).map_err(CheckError::from);
        message(result, &["slirp4netns", "apt-get install slirp4netns"]);
    }

    #[test]
    fn check_config_sees_every_check() {
        let host = Host::new("all");
        let failed: Vec<_> = all(&host.paths, 1001).into_iter().filter(|c| c.result.is_err()).map(|c| c.name).collect();
        assert_eq!(failed, ["newuidmap", "newgidmap", "slirp4netns"]);
    }
}
