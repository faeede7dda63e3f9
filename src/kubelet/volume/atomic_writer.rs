//! Writing the files of a volume so that a container sees either all old or all new ones.
//!
//! Files lie in a folder `..<time>`; `..data` is a link to it and is replaced by a rename; the names that users see
//! are links through `..data`. The layout is Kubernetes' own: programs watch `..data`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use jiff::Timestamp;

use super::Error;
use super::payload::{File, Payload};

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";

/// Makes `dir` hold exactly `payload`; `group` owns the files and can read them. Returns whether anything changed.
pub(super) fn write(dir: &Path, payload: &Payload, group: Option<u32>) -> Result<bool, Error> {
    create_dir(dir, 0o777)?;
    let data = dir.join(DATA);
    let previous = match fs::read_link(&data) {
        Ok(target) => Some(target),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("read link", &data)(error)),
    };
    let changed = match &previous {
        Some(previous) => !holds(&dir.join(previous), payload),
        None => true,
    };
    if changed {
        let version = format!("..{}", Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S.%N"));
        write_version(&dir.join(&version), payload, group)?;
        let tmp = dir.join(DATA_TMP);
        remove_if_there(&tmp)?;
        symlink(&version, &tmp).map_err(Error::io("link", &tmp))?;
        fs::rename(&tmp, &data).map_err(Error::io("replace", &data))?;
    }
    link_names(dir, payload)?;
    if changed && let Some(previous) = previous {
        let previous = dir.join(previous);
        fs::remove_dir_all(&previous).or_else(ignore_missing).map_err(Error::io("remove", &previous))?;
    }
    Ok(changed)
}

fn create_dir(dir: &Path, mode: u32) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).map_err(Error::io("set mode of", dir))
}

/// Whether the version at `dir` is `payload` already.
fn holds(dir: &Path, payload: &Payload) -> bool {
    let mut paths = BTreeSet::new();
    if list_files(dir, "", &mut paths).is_err() || !payload.keys().eq(paths.iter()) {
        return false;
    }
    payload.iter().all(|(path, file)| fs::read(dir.join(path)).is_ok_and(|data| data == file.data))
}

fn list_files(dir: &Path, prefix: &str, paths: &mut BTreeSet<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list_files(&entry.path(), &format!("{path}/"), paths)?;
        } else {
            paths.insert(path);
        }
    }
    Ok(())
}

fn write_version(dir: &Path, payload: &Payload, group: Option<u32>) -> Result<(), Error> {
    make_folder(dir, group)?;
    for (path, file) in payload {
        if let Some((parents, _)) = path.rsplit_once('/') {
            let mut folder = dir.to_owned();
            for part in parents.split('/') {
                folder.push(part);
                if !folder.is_dir() {
                    make_folder(&folder, group)?;
                }
            }
        }
        write_file(&dir.join(path), file, group)?;
    }
    Ok(())
}

fn make_folder(path: &Path, group: Option<u32>) -> Result<(), Error> {
    fs::DirBuilder::new().mode(0o755).create(path).map_err(Error::io("create", path))?;
    if group.is_some() {
        chown(path, None, group).map_err(Error::io("change group of", path))?;
    }
    // Not subject to the umask.
    let mode = if group.is_some() { 0o2775 } else { 0o755 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io("set mode of", path))
}

fn write_file(path: &Path, file: &File, group: Option<u32>) -> Result<(), Error> {
    let mut handle = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("create", path))?;
    handle.write_all(&file.data).map_err(Error::io("write", path))?;
    if file.uid.is_some() || group.is_some() {
        chown(path, file.uid, group).map_err(Error::io("change owner of", path))?;
    }
    // The pod's group can read what the mode would hide from it.
    let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
    handle.set_permissions(fs::Permissions::from_mode(mode)).map_err(Error::io("set mode of", path))
}

/// Makes the links that users see, and removes those of what is gone.
fn link_names(dir: &Path, payload: &Payload) -> Result<(), Error> {
    let wanted: BTreeSet<&str> =
        payload.keys().map(|path| path.split_once('/').map_or(path.as_str(), |(first, _)| first)).collect();
    for name in &wanted {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link).map_err(Error::io("link", &link))?;
        }
    }
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), Error> {
    fs::remove_file(path).or_else(ignore_missing).map_err(Error::io("remove", path))
}

fn ignore_missing(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |data: &str| File { data: data.into(), mode: 0o640, uid: None };
        files.iter().map(|(path, data)| (path.to_string(), file(data))).collect()
    }

    #[test]
    fn an_update_replaces_everything_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("volume");
        assert!(write(&dir, &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap());
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(dir.join("sub/b")).unwrap(), "2");
        assert_eq!(fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        let first = fs::read_link(dir.join("..data")).unwrap();

        assert!(write(&dir, &payload(&[("a", "3"), ("c", "4")]), None).unwrap());
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "3");
        assert!(!dir.join("sub").exists(), "names of what is gone go too");
        assert!(!dir.join(first).exists(), "the old version is removed");
    }

    #[test]
    fn an_unchanged_payload_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let files = payload(&[("a", "1"), ("sub/b", "2")]);
        write(dir.path(), &files, None).unwrap();
        let version = fs::read_link(dir.path().join("..data")).unwrap();
        assert!(!write(dir.path(), &files, None).unwrap());
        assert_eq!(fs::read_link(dir.path().join("..data")).unwrap(), version);
    }

    #[test]
    fn an_empty_payload_is_a_valid_volume() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &Payload::new(), None).unwrap();
        assert!(dir.path().join("..data").is_dir());
    }
}
