//! hostPath volumes.

use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::{Error, Mounted};

/// A path of the node, checked or made as its type says.
pub(super) fn set_up(source: &HostPathVolumeSource) -> Result<Mounted, Error> {
    let path = PathBuf::from(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    match (kind, path.exists()) {
        // Runtimes make the folder if nothing is there and nothing was said.
        ("" | "DirectoryOrCreate", false) => {
            DirBuilder::new().recursive(true).mode(0o755).create(&path).map_err(Error::io("create", &path))?;
        }
        ("FileOrCreate", false) => {
            OpenOptions::new().create(true).append(true).mode(0o644).open(&path).map_err(Error::io("create", &path))?;
        }
        _ => {}
    }
    check(kind, &path)?;
    Ok(Mounted { path, readonly: false })
}

fn check(kind: &str, path: &Path) -> Result<(), Error> {
    if kind.is_empty() {
        return Ok(());
    }
    let found = fs::metadata(path).ok().map(|metadata| metadata.file_type());
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(test);
    let (matches, expected) = match kind {
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "a directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "a file"),
        "Socket" => (is(FileTypeExt::is_socket), "a socket file"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "a block device"),
        other => return Err(Error::Unsupported { what: format!("hostPath of type {other}") }),
    };
    if matches { Ok(()) } else { Err(Error::HostPathType { path: path.to_owned(), expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &Path, kind: &str) -> HostPathVolumeSource {
        HostPathVolumeSource { path: path.to_string_lossy().into_owned(), type_: Some(kind.into()) }
    }

    #[test]
    fn types_are_checked_and_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        set_up(&source(&at("made/deep"), "DirectoryOrCreate")).unwrap();
        assert!(at("made/deep").is_dir());
        set_up(&source(&at("file"), "FileOrCreate")).unwrap();
        assert!(at("file").is_file());
        set_up(&source(Path::new("/dev/null"), "CharDevice")).unwrap();
        let error = set_up(&source(&at("file"), "Directory")).unwrap_err().to_string();
        assert!(error.ends_with("is not a directory"), "{error}");
        assert!(set_up(&source(&at("none"), "File")).is_err());
        assert!(set_up(&source(&at("none"), "Socket")).is_err());
    }
}
