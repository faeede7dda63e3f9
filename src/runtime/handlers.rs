//! Other OCI runtimes of this host, each the handler of a RuntimeClass.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use k3s_cri::Error;

use crate::shim::protocol::{CgroupUse, OciRuntime};

/// Handler, its program, and where k3s looks for it besides `$PATH`, in this order.
const KNOWN: [(&str, &str, &[&str]); 5] = [
    ("crun", "crun", &PACKAGES),
    ("nvidia", "nvidia-container-runtime", &NVIDIA),
    ("nvidia-experimental", "nvidia-container-runtime-experimental", &NVIDIA),
    ("runc", "runc", &PACKAGES),
    ("youki", "youki", &PACKAGES),
];
const PACKAGES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin"];
const NVIDIA: [&str; 2] = ["/usr/local/nvidia/toolkit", "/usr/bin"];

/// The runtimes that were found when k3s started.
#[derive(Debug, Default)]
pub(crate) struct Handlers(BTreeMap<&'static str, PathBuf>);

impl Handlers {
    /// Looks for all that are known.
    pub(crate) fn find(path: Option<&OsStr>) -> Self {
        // A link called runc to the k3s binary is k3s.
        let own = std::env::current_exe().and_then(std::fs::canonicalize).ok();
        let found = KNOWN.into_iter().filter_map(|(handler, program, places)| {
            let places = places.iter().map(PathBuf::from).chain(path.into_iter().flat_map(std::env::split_paths));
            let mut candidates = places.map(|place| place.join(program));
            let usable = |candidate: &PathBuf| {
                candidate.is_absolute() && candidate.is_file() && std::fs::canonicalize(candidate).ok() != own
            };
            Some((handler, candidates.find(usable)?))
        });
        Self(found.collect())
    }

    /// Names of all that were found.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.keys().map(|name| (*name).to_owned()).collect()
    }

    /// Refuses a handler that is not there, in containerd's words. The empty one is k3s's own executor.
    pub(crate) fn check(&self, handler: &str) -> Result<(), Error> {
        if handler.is_empty() || self.0.contains_key(handler) {
            return Ok(());
        }
        let detail = format!("no runtime for {handler:?} is configured");
        Err(Error::Internal { doing: "failed to get sandbox runtime".to_owned(), detail })
    }

    /// How a sandbox's containers are run: `None` by the executor. `root`: where the runtime keeps what it knows.
    pub(crate) fn runtime(&self, handler: &str, root: &Path) -> Result<Option<OciRuntime>, Error> {
        self.check(handler)?;
        let Some(binary) = self.0.get(handler) else { return Ok(None) };
        // k3s makes cgroups and writes limits itself; crun can be told so.
        let (args, cgroup) = match handler {
            "crun" => {
                let hidden = Path::new("/sys/fs/cgroup/unified/cgroup.controllers").exists();
                (vec!["--cgroup-manager=disabled".to_owned()], CgroupUse::Inherited { hidden })
            }
            _ => (Vec::new(), CgroupUse::ByPath),
        };
        Ok(Some(OciRuntime { binary: binary.clone(), args, root: root.to_owned(), cgroup }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_not_there_is_refused_in_known_words() {
        let handlers = Handlers::default();
        handlers.check("").unwrap();
        let refused = handlers.check("nope").unwrap_err();
        let want =
            "rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for \"nope\" is configured";
        assert_eq!(refused.rpc(), want);
    }

    #[test]
    fn programs_are_found_on_the_path_but_not_k3s_itself() {
        let directory = tempfile::tempdir().unwrap();
        symlink(std::env::current_exe().unwrap(), directory.path().join("youki")).unwrap();
        assert!(!Handlers::find(Some(directory.path().as_os_str())).0.contains_key("youki"));
        std::fs::remove_file(directory.path().join("youki")).unwrap();
        std::fs::write(directory.path().join("youki"), "").unwrap();
        let found = Handlers::find(Some(directory.path().as_os_str()));
        assert_eq!(found.0.get("youki"), Some(&directory.path().join("youki")));
    }
}
