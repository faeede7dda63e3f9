//! Sub-ids of the user, and the tools that map them.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{CheckError, HostPaths, SubIdSource};
use crate::subid::{self, IdKind, NEEDED, SubIdRange};

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
/// None, too few, or a source that cannot be read.
pub fn sub_ids(host: &HostPaths, kind: IdKind, user: &str, uid: u32) -> Result<Vec<SubIdRange>, CheckError> {
    let file = host.sub_ids(kind);
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => {
            return Err(CheckError::SubIdFile { kind, user: user.to_owned(), file: file.to_owned(), error });
        }
    };
    let (ranges, place) = match subid::service(&fs::read_to_string(&host.nsswitch).unwrap_or_default()) {
        // The shadow suite then asks the service, and does not look into the files at all.
        Some(service) => (ask_service(host, kind, user, service)?, SubIdSource::Service(service.to_owned())),
        None => (subid::ranges_of(&text, user, uid), SubIdSource::File(file.to_owned())),
    };
    let count: u64 = ranges.iter().map(|r| u64::from(r.count)).sum();
    let (user, first) = (user.to_owned(), subid::first_free(&text));
    match count {
        0 => Err(CheckError::NoSubIds { kind, user, place, first }),
        n if n < u64::from(NEEDED) => Err(CheckError::TooFewSubIds { kind, user, place, count, first }),
        _ => Ok(ranges),
    }
}

/// getsubids(1) loads the service's library, which a static binary can't.
fn ask_service(host: &HostPaths, kind: IdKind, user: &str, service: &str) -> Result<Vec<SubIdRange>, CheckError> {
    let failed =
        |error: String| CheckError::GetSubIds { kind, user: user.to_owned(), service: service.to_owned(), error };
    let program = host.find("getsubids").ok_or_else(|| failed("getsubids is missing".into()))?;
    let mut command = Command::new(program);
    if kind == IdKind::Gid {
        command.arg("-g");
    }
    let output = command.arg(user).stdin(Stdio::null()).output().map_err(|e| failed(e.to_string()))?;
    // It fails when there are none, and says so in words that differ between versions.
    Ok(subid::ranges_of_getsubids(&String::from_utf8_lossy(&output.stdout), user))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::test_host::{TestHost, message};

    #[test]
    fn a_user_is_known_by_the_password_file() {
        let host = TestHost::new("user");
        assert_eq!(user_name(&host.paths, 1001), "edge");
    }

    #[test]
    fn sub_ids_are_found_by_name_and_by_uid() {
        let host = TestHost::new("sub-ids");
        let want = [SubIdRange { start: 100_000, count: 65_536 }];
        assert_eq!(sub_ids(&host.paths, IdKind::Uid, "edge", 1001).unwrap(), want);
        assert_eq!(sub_ids(&host.paths, IdKind::Gid, "edge", 1001).unwrap(), want);
    }

    #[test]
    fn a_service_in_nsswitch_is_asked_instead_of_the_files() {
        let host = TestHost::new("getsubids");
        host.write("nsswitch", "passwd: files sss\nsubid: sss\n");
        message(sub_ids(&host.paths, IdKind::Uid, "edge", 1001), &["getsubids", "sss", "nsswitch.conf"]);
        host.script("getsubids", "[ $1 = -g ] && echo \"0: $2 700000 65536\" || echo \"0: $1 500000 65536\"");
        let want = |start| [SubIdRange { start, count: 65_536 }];
        assert_eq!(sub_ids(&host.paths, IdKind::Uid, "edge", 1001).unwrap(), want(500_000));
        assert_eq!(sub_ids(&host.paths, IdKind::Gid, "edge", 1001).unwrap(), want(700_000));
        host.script("getsubids", "echo Error fetching ranges; exit 1");
        message(sub_ids(&host.paths, IdKind::Uid, "edge", 1001), &["no sub-uids for user edge", "\"sss\""]);
    }

    #[test]
    fn no_line_for_the_user_says_how_to_add_one() {
        let host = TestHost::new("no-line");
        host.write("subuid", "other:100000:65536\n");
        let result = sub_ids(&host.paths, IdKind::Uid, "edge", 1001);
        message(result, &["sub-uids", "edge", "subuid", "sudo usermod --add-subuids 165536-231071 edge"]);
        fs::remove_file(&host.paths.subgid).unwrap();
        let result = sub_ids(&host.paths, IdKind::Gid, "edge", 1001);
        message(result, &["sudo usermod --add-subgids 100000-165535 edge"]);
    }

    #[test]
    fn too_small_a_range_says_how_many_there_are() {
        let host = TestHost::new("small");
        host.write("subgid", "edge:100000:65535\n");
        let result = sub_ids(&host.paths, IdKind::Gid, "edge", 1001);
        message(result, &["too few sub-gids", "65535", "--add-subgids"]);
        host.write("subgid", "edge:100000:65535\nedge:300000:1\n");
        assert_eq!(sub_ids(&host.paths, IdKind::Gid, "edge", 1001).unwrap().len(), 2);
    }

    #[test]
    fn a_mapping_tool_must_be_there_and_privileged() {
        let host = TestHost::new("tools");
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
        let host = TestHost::new("file-capability");
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
}
