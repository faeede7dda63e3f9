//! Walking trees that containers and images filled: links are never followed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Removes a directory and all in it. There being nothing is fine.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Overlay's work directory has a mode of 0, which stops those without CAP_DAC_OVERRIDE.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(path)?;
            fs::remove_dir_all(path)
        }
        result => result,
    }
}

fn open_directories(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_directories(&entry.path())?;
        }
    }
    Ok(())
}

/// Bytes on disk and inodes of everything below `path`. What vanishes meanwhile counts nothing.
pub(super) fn disk_usage(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        Err(error) => return Err(error),
    };
    let (mut bytes, mut inodes) = (metadata.blocks() * 512, 1);
    if metadata.is_dir() {
        for entry in fs::read_dir(path)?.flatten() {
            let below = disk_usage(&entry.path())?;
            bytes += below.0;
            inodes += below.1;
        }
    }
    Ok((bytes, inodes))
}
