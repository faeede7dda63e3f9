//! Mounts below a pod's folder.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

use super::Error;

/// Unmounts whatever is mounted below `dir`, the latest first.
pub(super) fn unmount_below(dir: &Path) -> Result<(), Error> {
    for point in points()?.into_iter().rev().filter(|point| point.starts_with(dir)) {
        umount2(&point, MntFlags::MNT_DETACH).map_err(|errno| Error::io("unmount", &point)(errno.into()))?;
    }
    Ok(())
}

/// Whether something is mounted exactly there.
pub(super) fn is_mount_point(path: &Path) -> Result<bool, Error> {
    Ok(points()?.iter().any(|point| point == path))
}

fn points() -> Result<Vec<PathBuf>, Error> {
    let path = Path::new("/proc/self/mountinfo");
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(|point| PathBuf::from(unescape(point))).collect())
}

/// The kernel writes blanks in paths as octal escapes.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten();
        match octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn escapes_are_read_as_the_kernel_writes_them() {
        assert_eq!(super::unescape(r"/a\040b\134c"), r"/a b\c");
    }
}
