//! What a host has and lacks for k3s, with what mends it: the answers of `k3s check-config`.
//!
//! Nothing is changed. What counts as lacking depends on who asks: an ordinary user would run rootless, root the system
//! service. Where the kernel can be asked by doing a thing, its configuration is the second word.

mod cgroup;
mod kernel;
mod kernel_defaults;
mod namespaces;
mod network;
mod rootless;
mod system;

use std::path::{Path, PathBuf};

pub use kernel_defaults::differing as differing_kernel_defaults;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub name: String,
    pub outcome: Outcome,
}

/// How it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Pass(String),
    /// Something will not work, or less well, but k3s runs.
    Warn {
        what: String,
        /// A command, or empty where `what` says it.
        mend: String,
    },
    /// k3s does not run.
    Fail {
        what: String,
        /// A command, or empty where `what` says it.
        mend: String,
    },
}

impl Finding {
    fn pass(name: impl Into<String>, what: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Pass(what.into()) }
    }

    fn warn(name: impl Into<String>, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Warn { what: what.into(), mend: mend.into() } }
    }

    fn fail(name: impl Into<String>, what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { name: name.into(), outcome: Outcome::Fail { what: what.into(), mend: mend.into() } }
    }
}

/// Findings that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub title: String,
    pub findings: Vec<Finding>,
}

/// The host, and as whom it is looked at.
#[derive(Debug, Clone)]
pub struct Host {
    /// `/`, or a test's own.
    pub root: PathBuf,
    /// `uname -r`.
    pub release: String,
    pub uid: u32,
    /// The ordinary user behind `sudo`.
    pub sudo_uid: Option<u32>,
    /// Where the kernel's configuration is, if not where it usually is.
    pub kernel_config: Option<PathBuf>,
    /// Where k3s keeps its state by default.
    pub data_dir: PathBuf,
}

impl Host {
    /// This host, for whoever runs this process.
    pub fn this() -> Self {
        let uid = nix::unistd::geteuid().as_raw();
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = variable("HOME").map_or_else(|| "/".into(), PathBuf::from);
        let data_dir = match variable("K3S_DATA_DIR") {
            Some(path) => path.into(),
            None if uid == 0 => "/var/lib/rancher/k3s".into(),
            None => home.join(".rancher/k3s"),
        };
        Self {
            root: "/".into(),
            release: nix::sys::utsname::uname()
                .map(|it| it.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            uid,
            sudo_uid: variable("SUDO_UID").and_then(|uid| uid.parse().ok()).filter(|uid| *uid != 0),
            kernel_config: None,
            data_dir,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a small file, trimmed.
    fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.path(path)).ok().map(|text| text.trim().to_owned())
    }

    fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Major and minor number of the kernel.
    fn kernel_version(&self) -> (u32, u32) {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit()).map(|it| it.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Whether a module is loaded or built in.
    fn has_module(&self, name: &str) -> bool {
        self.path("/sys/module").join(name).is_dir()
    }
}

/// Looks at everything.
pub fn examine(host: &Host) -> Vec<Section> {
    let section = |title: &str, findings: Vec<Finding>| Section { title: title.to_owned(), findings };
    let config = kernel::Config::find(host);
    let mut sections = vec![
        section("System", system::findings(host)),
        section("Namespaces", namespaces::findings(host)),
        section("Control groups", cgroup::findings(host)),
        section("Network", network::findings(host, config.as_ref())),
    ];
    sections.extend(rootless::section(host));
    sections.push(section(&kernel::title(config.as_ref()), kernel::findings(host, config.as_ref())));
    sections
}

/// The first folder above `path` that is there.
fn nearest_folder(path: &Path) -> &Path {
    path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host in a folder of its own, looked at as root.
    pub struct Temporary {
        pub host: Host,
        _folder: tempfile::TempDir,
    }

    impl Temporary {
        pub fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let host = Host {
                root: folder.path().to_owned(),
                release: "6.1.0".to_owned(),
                uid: 0,
                sudo_uid: None,
                kernel_config: None,
                data_dir: folder.path().join("var/lib/rancher/k3s"),
            };
            Self { host, _folder: folder }
        }

        pub fn write(&self, path: &str, text: &str) {
            let path = self.host.path(path);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
    }

    pub fn is_pass(finding: &Finding) -> bool {
        matches!(finding.outcome, Outcome::Pass(_))
    }

    pub fn is_warn(finding: &Finding, with: &str) -> bool {
        matches!(&finding.outcome, Outcome::Warn { mend, .. } if mend.contains(with))
    }

    pub fn is_fail(finding: &Finding, with: &str) -> bool {
        matches!(&finding.outcome, Outcome::Fail { mend, .. } if mend.contains(with))
    }

    #[test]
    fn every_line_that_fails_says_what_mends_it() {
        let host = Temporary::new();
        for section in examine(&host.host) {
            for finding in section.findings {
                if let Outcome::Fail { what, mend } = &finding.outcome {
                    assert!(!mend.is_empty() || what.contains(':'), "{finding:?}");
                }
            }
        }
    }
}
