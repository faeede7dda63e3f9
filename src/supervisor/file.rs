//! Files that are either old or new, never half, and readable by nobody else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Writes `path` with `mode` through a temporary file beside it: a crash leaves the old content or the new.
///
/// # Errors
/// Any of the file system's, with the path.
pub fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let context = |error: io::Error| io::Error::new(error.kind(), format!("cannot write {}: {error}", path.display()));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        // The mode at creation is cut by the umask, and an old temporary file keeps its own.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    write().map_err(|error| {
        // Nothing to say if it was never made.
        let _ = fs::remove_file(&temporary);
        context(error)
    })
}

/// Makes a folder, and those above it, for this user only.
///
/// # Errors
/// Any of the file system's, with the path.
pub fn private_dir(path: &Path) -> io::Result<()> {
    make_dir(path, 0o700)
}

/// Makes a folder, and those above it, that everybody may look into: files in it have modes of their own.
///
/// # Errors
/// Any of the file system's, with the path.
pub fn public_dir(path: &Path) -> io::Result<()> {
    make_dir(path, 0o755)
}

fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot make folder {}: {error}", path.display())))
}
