//! emptyDir volumes.

use std::fs::{Permissions, create_dir_all, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::EmptyDirVolumeSource;
use nix::mount::{MsFlags, mount};

use super::{Error, Mounted, Request, fs_group, mounts};
use crate::quantity;

/// A folder that is empty when the pod starts; on a tmpfs if its medium is memory.
pub(super) fn set_up(request: &Request<'_>, name: &str, source: &EmptyDirVolumeSource) -> Result<Mounted, Error> {
    let dir = request.dir("empty-dir", name);
    create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    match source.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            if !mounts::is_mount_point(&dir)? {
                mount_tmpfs(&dir, source.size_limit.as_ref().and_then(quantity::value))?;
            }
        }
        medium => return Err(Error::Unsupported { what: format!("emptyDir with medium {medium}") }),
    }
    set_permissions(&dir, Permissions::from_mode(0o777)).map_err(Error::io("set mode of", &dir))?;
    if let Some(group) = request.fs_group() {
        fs_group::apply(&dir, group, false)?;
    }
    Ok(Mounted { path: dir, readonly: false })
}

fn mount_tmpfs(dir: &Path, limit: Option<i64>) -> Result<(), Error> {
    let options = limit.filter(|bytes| *bytes > 0).map(|bytes| format!("size={bytes}"));
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), options.as_deref())
        .map_err(|errno| Error::io("mount tmpfs on", dir)(errno.into()))
}
