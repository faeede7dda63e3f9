//! The file system of the data directory: containers' root file systems are made on it.

use std::ffi::c_long;
use std::fs;
use std::path::{Path, PathBuf};

use super::{CheckError, HostPaths};

/// File systems of the network, by the magic number of statfs(2). The server at the other end knows nothing of
/// sub-ids, so files can't be given to them, and overlays can't be written there.
const NETWORK: [(c_long, &str); 7] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42_u32 as c_long, "CIFS"),
    (0xfe53_4d42_u32 as c_long, "SMB2"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
];

/// Whether containers can live there. The directory need not be there yet.
///
/// # Errors
/// It is on a file system of the network, or on one mounted `noexec`.
pub fn data_dir(host: &HostPaths, path: &Path) -> Result<(), CheckError> {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    let failed = |e: nix::errno::Errno| CheckError::FileSystem { path: path.to_owned(), source: e.into() };
    let magic = nix::sys::statfs::statfs(existing).map_err(failed)?.filesystem_type().0 as c_long;
    if let Some(kind) = network_file_system(magic) {
        return Err(CheckError::NetworkFileSystem { path: path.to_owned(), kind });
    }
    let mounts = fs::read_to_string(host.proc.join("self/mountinfo")).unwrap_or_default();
    match mount_of(&mounts, existing) {
        Some((mount_point, options)) if options.split(',').any(|option| option == "noexec") => {
            Err(CheckError::NoExec { path: path.to_owned(), mount_point })
        }
        _ => Ok(()),
    }
}

fn network_file_system(magic: c_long) -> Option<&'static str> {
    // The kernel's numbers have 32 bits; the type here has a sign on some architectures.
    NETWORK.iter().find(|(number, _)| *number as u32 == magic as u32).map(|(_, name)| *name)
}

/// The mount a path is on, with its options: of the mount points above it (field 5 of proc_pid_mountinfo(5)) the longest,
/// and of several mounts on one the last.
fn mount_of<'a>(mountinfo: &'a str, path: &Path) -> Option<(PathBuf, &'a str)> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mounts = mountinfo.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(4);
        Some((PathBuf::from(fields.next()?), fields.next()?))
    });
    mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.components().count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::test_host::{TestHost, message};

    #[test]
    fn a_local_directory_will_do_also_before_it_is_there() {
        let host = TestHost::new("data-dir");
        data_dir(&host.paths, &host.root.join("not/yet")).unwrap();
    }

    #[test]
    fn noexec_is_seen_and_the_mount_is_named() {
        let host = TestHost::new("noexec");
        // The kernel mounts its own file systems so.
        host.write(
            "proc/self/mountinfo",
            "1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / /proc rw,noexec - proc proc rw\n",
        );
        message(data_dir(&host.paths, Path::new("/proc/k3s")), &["noexec", "remount,exec /proc", "--data-dir"]);
    }

    #[test]
    fn network_file_systems_are_known_by_their_number() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0xff53_4d42_u32 as i32 as c_long), Some("CIFS"), "with the sign extended");
        assert_eq!(network_file_system(0xef53), None, "ext4");
        let error = CheckError::NetworkFileSystem { path: "/home/edge".into(), kind: "NFS" };
        message(Err::<(), _>(error), &["/home/edge", "NFS", "--data-dir="]);
    }
}
