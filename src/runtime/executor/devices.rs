//! Device nodes of the specification: made where the kernel lets us, else the node's own ones are shown.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceBuilder, LinuxDeviceType};
use rustix::fs::{FileType, Gid, Mode, Uid, makedev, mknodat};
use rustix::io::Errno;

use super::error::{Context, Error};
use super::inside;
use super::mounts::{attach, clone_tree};

/// What every container has besides its terminal (OCI runtime specification, "Default Devices").
pub(crate) fn default_devices() -> Vec<LinuxDevice> {
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        .into_iter()
        .filter_map(|(name, major, minor)| {
            let device = LinuxDeviceBuilder::default()
                .path(Path::new("/dev").join(name))
                .typ(LinuxDeviceType::C)
                .major(major)
                .minor(minor)
                .file_mode(0o666_u32);
            device.build().ok()
        })
        .collect()
}

/// Makes the devices below `root`. What is at a path already stays.
pub(super) fn make(root: BorrowedFd<'_>, devices: &[LinuxDevice]) -> Result<(), Error> {
    for device in devices {
        make_one(root, device).doing(format!("make device {}", device.path().display()))?;
    }
    Ok(())
}

fn make_one(root: BorrowedFd<'_>, device: &LinuxDevice) -> io::Result<()> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    let (parent, name) = match (device.path().parent(), device.path().file_name()) {
        (Some(parent), Some(name)) => (parent, name),
        _ => return Err(invalid()),
    };
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(invalid()),
    };
    let number = |value: i64| u32::try_from(value).map_err(|_| invalid());
    let number = makedev(number(device.major())?, number(device.minor())?);
    let parent = inside::make_directory(root, parent, Mode::from_raw_mode(0o755))?;
    let mode = Mode::from_raw_mode(device.file_mode().unwrap_or(0o666) & 0o7777);
    match mknodat(&parent, name, kind, mode, number) {
        Ok(()) => {
            let (uid, gid) = (device.uid().map(Uid::from_raw), device.gid().map(Gid::from_raw));
            if uid.is_some() || gid.is_some() {
                rustix::fs::chownat(&parent, name, uid, gid, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Ok(())
        }
        Err(Errno::EXIST) => Ok(()),
        // In a user namespace.
        Err(Errno::PERM) => {
            let node = clone_tree(device.path(), false)?;
            attach(root, device.path(), &node, false)
        }
        Err(error) => Err(error.into()),
    }
}
