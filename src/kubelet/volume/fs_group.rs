//! Making a volume belong to the pod's group (`fsGroup`).

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::path::Path;

use super::Error;

const SET_GID: u32 = 0o2000;
const FILE_BITS: u32 = 0o660;
const FOLDER_BITS: u32 = SET_GID | 0o770;

/// Gives `path` and everything below to `group`, readable and writable; new files inherit the group. With
/// `only_on_mismatch` nothing is done if the top already is as it should be.
pub(crate) fn apply(path: &Path, group: u32, only_on_mismatch: bool) -> Result<(), Error> {
    let top = fs::symlink_metadata(path).map_err(Error::io("inspect", path))?;
    if only_on_mismatch && top.gid() == group && top.mode() & FOLDER_BITS == FOLDER_BITS {
        return Ok(());
    }
    walk(path, &top, group)
}

fn walk(path: &Path, metadata: &Metadata, group: u32) -> Result<(), Error> {
    if metadata.is_symlink() {
        return lchown(path, None, Some(group)).map_err(Error::io("change group of", path));
    }
    // A link put in its place meanwhile would be followed; volumes are set up before any container can do so.
    chown(path, None, Some(group)).map_err(Error::io("change group of", path))?;
    let bits = if metadata.is_dir() { FOLDER_BITS } else { FILE_BITS };
    fs::set_permissions(path, Permissions::from_mode(metadata.mode() & 0o7777 | bits))
        .map_err(Error::io("set mode of", path))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(Error::io("list", path))? {
            let entry = entry.map_err(Error::io("list", path))?;
            let metadata = entry.metadata().map_err(Error::io("inspect", &entry.path()))?;
            walk(&entry.path(), &metadata, group)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_can_write_and_new_files_inherit_it() {
        let dir = tempfile::tempdir().unwrap();
        let group = fs::metadata(dir.path()).unwrap().gid();
        fs::write(dir.path().join("file"), "").unwrap();
        fs::set_permissions(dir.path().join("file"), Permissions::from_mode(0o600)).unwrap();
        apply(dir.path(), group, false).unwrap();
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & FOLDER_BITS, FOLDER_BITS);
        assert_eq!(fs::metadata(dir.path().join("file")).unwrap().mode() & 0o777, 0o660);
    }
}
