//! The kernel's configuration.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

use super::{Finding, Host};

/// What nothing works without.
const REQUIRED: &[&str] = &[
    "NAMESPACES",
    "UTS_NS",
    "IPC_NS",
    "PID_NS",
    "NET_NS",
    "SECCOMP",
    "SECCOMP_FILTER",
    "KEYS",
    "POSIX_MQUEUE",
    "VETH",
    "BRIDGE",
    "NF_CONNTRACK",
    "NF_NAT",
    "NF_TABLES",
    "NFT_NAT",
    "NFT_MASQ",
    "NFT_CT",
];
/// What rootless clusters need, and an ordinary user therefore.
const ROOTLESS: &[&str] = &["USER_NS", "TUN"];
/// What something works without, less well.
const OPTIONAL: &[(&str, &str)] = &[
    ("OVERLAY_FS", "without it containers' files are copied"),
    ("CGROUPS", "without it there are no limits"),
    ("MEMCG", "without it there are no limits of memory"),
    ("CGROUP_PIDS", "without it there are no limits of processes"),
    ("CFS_BANDWIDTH", "without it there are no limits of CPU"),
    ("CPUSETS", "without it pods have no CPUs of their own"),
    ("BRIDGE_NETFILTER", "without it a pod does not reach itself through a service on some kernels"),
    ("VXLAN", "for several nodes"),
    ("WIREGUARD", "for several nodes with encryption"),
];

/// Options that are `y` or `m`, without `CONFIG_`.
pub struct Config {
    path: PathBuf,
    set: HashSet<String>,
    modules: HashSet<String>,
}

impl Config {
    /// The configuration of the running kernel, if it can be found and read.
    pub fn find(host: &Host) -> Option<Self> {
        let release = &host.release;
        let usual = [
            "/proc/config.gz".to_owned(),
            format!("/boot/config-{release}"),
            format!("/usr/lib/modules/{release}/config"),
            format!("/lib/modules/{release}/build/.config"),
            format!("/usr/src/linux-{release}/.config"),
        ];
        let candidates = match &host.kernel_config {
            Some(path) => vec![path.clone()],
            None => usual.iter().map(|path| host.path(path)).collect(),
        };
        candidates.into_iter().find_map(|path| Some(Self::parse(&read(&path)?, path)))
    }

    /// Whether an option is in the kernel itself, not in a module.
    pub fn has_built_in(&self, name: &str) -> bool {
        self.set.contains(name)
    }

    fn parse(text: &str, path: PathBuf) -> Self {
        let (mut set, mut modules) = (HashSet::new(), HashSet::new());
        for line in text.lines() {
            match line.strip_prefix("CONFIG_").and_then(|line| line.split_once('=')) {
                Some((name, "y")) => set.insert(name.to_owned()),
                Some((name, "m")) => modules.insert(name.to_owned()),
                _ => false,
            };
        }
        Self { path, set, modules }
    }
}

fn read(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(&bytes[..]).read_to_string(&mut text).ok()?;
        return Some(text);
    }
    String::from_utf8(bytes).ok()
}

/// The heading, with where it was found.
pub fn title(config: Option<&Config>) -> String {
    config
        .map_or_else(|| "Kernel configuration".to_owned(), |it| format!("Kernel configuration ({})", it.path.display()))
}

pub fn findings(host: &Host, config: Option<&Config>) -> Vec<Finding> {
    let Some(config) = config else {
        let what = "not found: /proc/config.gz and /boot have none for this kernel";
        return vec![Finding::warn("configuration", what, "sudo modprobe configs, or name it: k3s check-config FILE")];
    };
    let all = REQUIRED.iter().map(|name| required(host, config, name, true));
    let rootless = ROOTLESS.iter().map(|name| required(host, config, name, !host.is_root()));
    let optional = OPTIONAL.iter().map(|(name, why)| match is_set(config, name) {
        Some(how) => Finding::pass(format!("CONFIG_{name}"), how),
        None => Finding::warn(format!("CONFIG_{name}"), format!("missing; optional: {why}"), ""),
    });
    all.chain(rootless).chain(optional).collect()
}

fn required(host: &Host, config: &Config, name: &str, needed: bool) -> Finding {
    let option = format!("CONFIG_{name}");
    let mend = format!("boot a kernel of {} with {option}", host.release);
    match is_set(config, name) {
        Some(how) => Finding::pass(option, how),
        None if needed => Finding::fail(option, "missing", mend),
        None => Finding::warn(option, "missing; rootless clusters need it", mend),
    }
}

fn is_set(config: &Config, name: &str) -> Option<&'static str> {
    if config.set.contains(name) {
        return Some("enabled");
    }
    config.modules.contains(name).then_some("enabled (as module)")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::super::tests::{Temporary, is_fail, is_pass, is_warn};
    use super::*;

    fn full() -> String {
        let names = REQUIRED.iter().chain(ROOTLESS).copied().chain(OPTIONAL.iter().map(|(name, _)| *name));
        names.map(|name| format!("CONFIG_{name}=y\n")).collect()
    }

    #[test]
    fn a_kernel_with_everything_passes_compressed_or_not() {
        let host = Temporary::new();
        host.write("/boot/config-6.1.0", &full());
        let config = Config::find(&host.host).unwrap();
        assert!(findings(&host.host, Some(&config)).iter().all(is_pass));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(full().replace("CONFIG_VETH=y", "CONFIG_VETH=m").as_bytes()).unwrap();
        std::fs::create_dir_all(host.host.path("/proc")).unwrap();
        std::fs::write(host.host.path("/proc/config.gz"), gzip.finish().unwrap()).unwrap();
        let config = Config::find(&host.host).unwrap();
        assert!(title(Some(&config)).contains("/proc/config.gz"));
        let found = findings(&host.host, Some(&config));
        assert!(found.contains(&Finding::pass("CONFIG_VETH", "enabled (as module)")), "{found:?}");
    }

    #[test]
    fn what_is_missing_fails_or_warns_by_what_needs_it() {
        let mut host = Temporary::new();
        let text = full().replace("CONFIG_NF_TABLES=y", "# CONFIG_NF_TABLES is not set");
        host.write("/boot/config-6.1.0", &text.replace("CONFIG_TUN=y\n", "").replace("CONFIG_VXLAN=y\n", ""));
        let config = Config::find(&host.host).unwrap();
        let of = |found: &[Finding], name: &str| found.iter().find(|it| it.name == name).unwrap().clone();
        let as_root = findings(&host.host, Some(&config));
        assert!(is_fail(&of(&as_root, "CONFIG_NF_TABLES"), "CONFIG_NF_TABLES"));
        assert!(is_warn(&of(&as_root, "CONFIG_TUN"), "CONFIG_TUN"));
        assert!(is_warn(&of(&as_root, "CONFIG_VXLAN"), ""));
        host.host.uid = 1000;
        assert!(is_fail(&of(&findings(&host.host, Some(&config)), "CONFIG_TUN"), "CONFIG_TUN"));
    }

    #[test]
    fn a_configuration_that_is_nowhere_is_no_failure() {
        let host = Temporary::new();
        assert!(Config::find(&host.host).is_none());
        assert!(is_warn(&findings(&host.host, None)[0], "modprobe configs"));
    }
}
