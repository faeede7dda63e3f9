//! Ids of the node for pods with a user namespace of their own (`hostUsers: false`).
//!
//! Each pod gets a range of 65,536, which no other pod of the node has. It stands in a file in the pod's folder, and so
//! is kept over restarts and given back with the folder. By default ranges begin at 65,536, since the ids below are the
//! node's. Where there is a user `kubelet`, they come from its subordinate ids (subuid(5), subgid(5)), as
//! <https://kubernetes.io/docs/concepts/workloads/pods/user-namespaces/> has it.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use k3s_cri::{IdMapping, IdMappings};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::context::Context;

/// Ids of a pod.
const LENGTH: u32 = 65536;
/// Name of the file in a pod's folder.
const FILE: &str = "userns";
/// Whose subordinate ids are used.
const USER: &str = "kubelet";

/// Why a pod gets no range.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("all {count} ranges of ids for pods with hostUsers: false are taken")]
    NoneLeft { count: u32 },
    #[error("subordinate ids of user kubelet: {detail}")]
    SubordinateIds { detail: String },
    #[error("{path}: {detail}; it names the ids of a pod with hostUsers: false", path = path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
}

/// The file's content, as the upstream kubelet writes it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

/// The ids of the pod's user namespace, where it has one of its own. The pod's folder must be there.
pub(super) async fn of_pod(ctx: &Arc<Context>, pod: &Pod) -> Result<Option<IdMappings>, String> {
    if pod.spec.as_ref().and_then(|spec| spec.host_users) != Some(false) {
        return Ok(None);
    }
    let (ctx, uid) = (ctx.clone(), pod.metadata.uid.clone().unwrap_or_default());
    let chosen =
        tokio::task::spawn_blocking(move || ctx.id_ranges.of(&uid)).await.map_err(|error| error.to_string())?;
    chosen.map(Some).map_err(|error| error.to_string())
}

/// Gives ranges out.
pub(crate) struct Ranges {
    /// Folder of all pods' folders.
    pods: PathBuf,
    max_pods: u32,
    /// Held while one is chosen.
    choosing: Mutex<()>,
}

impl Ranges {
    pub fn new(pods: PathBuf, max_pods: u32) -> Self {
        Self { pods, max_pods, choosing: Mutex::new(()) }
    }

    /// The range of a pod, whose folder must be there: the one it has, or a free one. Reads and writes files.
    pub fn of(&self, uid: &str) -> Result<IdMappings, Error> {
        let path = self.pods.join(uid).join(FILE);
        if let Some(known) = read(&path)? {
            return Ok(mappings(known));
        }
        let _choosing = self.choosing.lock();
        let mut taken = BTreeSet::new();
        let folders = fs::read_dir(&self.pods).map_err(io("list", &self.pods))?;
        for folder in folders {
            let folder = folder.map_err(io("list", &self.pods))?;
            taken.extend(read(&folder.path().join(FILE))?);
        }
        let (first, count) = self.available()?;
        let mut all = (0..count).map(|number| first + number * LENGTH);
        let chosen = all.find(|first| !taken.contains(first)).ok_or(Error::NoneLeft { count })?;
        write(&path, chosen)?;
        Ok(mappings(chosen))
    }

    /// The first id and how many ranges there are from there on.
    fn available(&self) -> Result<(u32, u32), Error> {
        if !has_user(&fs::read_to_string("/etc/passwd").unwrap_or_default()) {
            return Ok((LENGTH, self.max_pods));
        }
        let (uids, gids) = (subordinate_ids(&[USER])?, subordinate_ids(&["-g", USER])?);
        if uids != gids {
            let detail = format!("those of users ({uids:?}) and of groups ({gids:?}) differ");
            return Err(Error::SubordinateIds { detail });
        }
        check(uids)
    }
}

fn has_user(passwd: &str) -> bool {
    passwd.lines().any(|line| line.split(':').next() == Some(USER))
}

/// What getsubids says: first id and length of the one range.
fn subordinate_ids(args: &[&str]) -> Result<(u32, u32), Error> {
    let failed = |detail: String| Error::SubordinateIds { detail };
    let output = Command::new("getsubids").args(args).output().map_err(|error| {
        failed(format!("there is a user kubelet, but getsubids can't be run: {error} (Debian: package uidmap)"))
    })?;
    if !output.status.success() {
        return Err(failed(format!("getsubids: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

/// `0: kubelet 65536 7208960`
fn parse(text: &str) -> Result<(u32, u32), Error> {
    let failed = |detail: String| Error::SubordinateIds { detail };
    let mut lines = text.lines();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return Err(failed(format!("there must be one range, not {}", text.lines().count())));
    };
    let mut fields = line.split_whitespace().skip(2).map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(first)), Some(Ok(length))) => Ok((first, length)),
        _ => Err(failed(format!("getsubids says {line:?}"))),
    }
}

fn check((first, length): (u32, u32)) -> Result<(u32, u32), Error> {
    let failed = |detail: String| Err(Error::SubordinateIds { detail });
    if first < LENGTH || first % LENGTH != 0 {
        return failed(format!("the first one, {first}, must be a multiple of {LENGTH}"));
    }
    if length < LENGTH || length % LENGTH != 0 || first.checked_add(length - 1).is_none() {
        return failed(format!("their number, {length}, must be a multiple of {LENGTH}"));
    }
    Ok((first, length / LENGTH))
}

fn mappings(first: u32) -> IdMappings {
    let ids = IdMapping { host_id: first, container_id: 0, length: LENGTH };
    IdMappings { uids: ids, gids: ids }
}

/// The first id in a pod's file, if it has one.
fn read(path: &Path) -> Result<Option<u32>, Error> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(io("read", path)(error)),
    };
    let damaged = |detail: String| Error::Damaged { path: path.to_owned(), detail };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    match (record.uid_mappings.as_slice(), record.gid_mappings.as_slice()) {
        ([uids], [gids])
            if uids.host_id == gids.host_id
                && [uids, gids].iter().all(|ids| (ids.container_id, ids.length) == (0, LENGTH)) =>
        {
            Ok(Some(uids.host_id))
        }
        _ => Err(damaged(format!("it must name one range of {LENGTH}, the same for users and groups"))),
    }
}

fn write(path: &Path, first: u32) -> Result<(), Error> {
    let ids = || vec![Mapping { host_id: first, container_id: 0, length: LENGTH }];
    let record = Record { uid_mappings: ids(), gid_mappings: ids() };
    let bytes = serde_json::to_vec(&record)
        .map_err(|error| Error::Damaged { path: path.to_owned(), detail: error.to_string() })?;
    // Whole or not at all, also after a crash.
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes).map_err(io("write", &temporary))?;
    fs::rename(&temporary, path).map_err(io("write", path))
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pod_has_a_range_that_it_keeps_and_gives_back_with_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        for pod in ["a", "b", "c"] {
            fs::create_dir(dir.path().join(pod)).unwrap();
        }
        fs::write(dir.path().join("stray"), "").unwrap();
        let ranges = Ranges::new(dir.path().to_owned(), 2);
        let first = |pod: &str| ranges.of(pod).map(|ids| (ids.uids.host_id, ids.gids.host_id, ids.uids.length));
        assert_eq!(first("a").unwrap(), (65536, 65536, 65536));
        assert_eq!(first("b").unwrap(), (131_072, 131_072, 65536));
        assert!(matches!(first("c"), Err(Error::NoneLeft { count: 2 })));
        let after_a_restart = Ranges::new(dir.path().to_owned(), 2);
        assert_eq!(after_a_restart.of("b").unwrap().uids.host_id, 131_072);
        fs::remove_dir_all(dir.path().join("a")).unwrap();
        assert_eq!(first("c").unwrap().0, 65536);
    }

    #[test]
    fn a_damaged_file_is_no_free_range() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::create_dir(dir.path().join("b")).unwrap();
        fs::write(dir.path().join("a").join(FILE), "{}").unwrap();
        let ranges = Ranges::new(dir.path().to_owned(), 2);
        assert!(matches!(ranges.of("b"), Err(Error::Damaged { .. })));
    }

    #[test]
    fn subordinate_ids_are_whole_ranges() {
        assert!(has_user("root:x:0:0::/root:/bin/sh\nkubelet:x:998:998::/:/bin/false\n"));
        assert!(!has_user("kubelets:x:998:998::/:/bin/false\n"));
        assert_eq!(parse("0: kubelet 65536 7208960\n").unwrap(), (65536, 7_208_960));
        for bad in ["", "0: kubelet x 1\n", "0: kubelet 1 2\n1: kubelet 3 4\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(check((131_072, 196_608)).unwrap(), (131_072, 3));
        for bad in [(0, 65536), (100_000, 65536), (65536, 1000), (65536, 0)] {
            assert!(check(bad).is_err(), "{bad:?}");
        }
    }
}
