//! What this machine is and has.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::NodeSystemInfo;

use crate::quantity::{self, ResourceList};

/// What does not change while the kubelet runs.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    cpus: u64,
    memory_bytes: u64,
    disk_bytes: u64,
    max_pods: u32,
    machine_id: String,
    boot_id: String,
    system_uuid: String,
    kernel: String,
    os_image: String,
}

impl Facts {
    /// Reads them from /proc, /etc and the file system that holds `root_dir`.
    pub fn read(root_dir: &Path, max_pods: u32) -> std::io::Result<Self> {
        let meminfo = std::fs::read_to_string("/proc/meminfo")?;
        let disk = nix::sys::statvfs::statvfs(&existing_ancestor(root_dir))?;
        let machine_id = first_line(&["/etc/machine-id", "/var/lib/dbus/machine-id"]);
        let os_release = std::fs::read_to_string("/etc/os-release")
            .or_else(|_| std::fs::read_to_string("/usr/lib/os-release"))
            .unwrap_or_default();
        Ok(Self {
            cpus: std::thread::available_parallelism()?.get() as u64,
            memory_bytes: meminfo_bytes(&meminfo, "MemTotal").unwrap_or(0),
            disk_bytes: disk.blocks() * disk.fragment_size(),
            max_pods,
            // Readable by root only; others know the machine by its id.
            system_uuid: match first_line(&["/sys/class/dmi/id/product_uuid"]) {
                uuid if uuid.is_empty() => machine_id.clone(),
                uuid => uuid,
            },
            machine_id,
            boot_id: first_line(&["/proc/sys/kernel/random/boot_id"]),
            kernel: first_line(&["/proc/sys/kernel/osrelease"]),
            os_image: os_release_value(&os_release, "PRETTY_NAME").unwrap_or_else(|| "Linux".into()),
        })
    }

    /// Memory of the node in bytes.
    pub fn memory_bytes(&self) -> i64 {
        i64::try_from(self.memory_bytes).unwrap_or(i64::MAX)
    }

    /// What the node has.
    pub fn capacity(&self) -> ResourceList {
        let kibibytes = |bytes: u64| quantity_text(format!("{}Ki", bytes / 1024));
        ResourceList::from([
            ("cpu".into(), quantity_text(self.cpus.to_string())),
            ("memory".into(), kibibytes(self.memory_bytes)),
            ("ephemeral-storage".into(), kibibytes(self.disk_bytes)),
            ("pods".into(), quantity_text(self.max_pods.to_string())),
            ("hugepages-2Mi".into(), quantity_text("0".into())),
            ("hugepages-1Gi".into(), quantity_text("0".into())),
        ])
    }

    /// What pods can have of it. k3s keeps back a twentieth of the disk, where pods would be evicted.
    pub fn allocatable(&self) -> ResourceList {
        let mut list = self.capacity();
        let disk = i64::try_from(self.disk_bytes / 1024 * 1024 / 100 * 95).unwrap_or(i64::MAX);
        list.insert("ephemeral-storage".into(), quantity::of(disk));
        list
    }

    /// `status.nodeInfo`.
    pub fn node_info(&self, version: &str) -> NodeSystemInfo {
        NodeSystemInfo {
            architecture: architecture().into(),
            boot_id: self.boot_id.clone(),
            container_runtime_version: format!("k3s://{}", version.trim_start_matches('v')),
            kernel_version: self.kernel.clone(),
            kubelet_version: version.into(),
            machine_id: self.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: self.os_image.clone(),
            system_uuid: self.system_uuid.clone(),
            ..Default::default()
        }
    }

    #[cfg(test)]
    pub fn for_tests() -> Self {
        Self {
            cpus: 4,
            memory_bytes: 8 << 30,
            disk_bytes: 100 << 30,
            max_pods: 110,
            machine_id: "m".into(),
            boot_id: "b".into(),
            system_uuid: "s".into(),
            kernel: "6.1".into(),
            os_image: "Test".into(),
        }
    }
}

/// GOARCH's name of this machine's architecture.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn quantity_text(text: String) -> k8s_openapi::apimachinery::pkg::api::resource::Quantity {
    k8s_openapi::apimachinery::pkg::api::resource::Quantity(text)
}

fn existing_ancestor(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn first_line(paths: &[&str]) -> String {
    paths
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .map(|text| text.lines().next().unwrap_or_default().trim().to_owned())
        .find(|line| !line.is_empty())
        .unwrap_or_default()
}

/// A line of /proc/meminfo in bytes.
pub(crate) fn meminfo_bytes(meminfo: &str, field: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

fn os_release_value(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory_cpus_and_a_kernel() {
        let facts = Facts::read(Path::new("/does/not/exist/yet"), 110).unwrap();
        assert!(facts.memory_bytes > 0 && facts.cpus > 0 && facts.disk_bytes > 0);
        assert!(!facts.node_info("v1.36.2+k3s1").kernel_version.is_empty());
        assert_eq!(facts.node_info("v1.36.2+k3s1").container_runtime_version, "k3s://1.36.2+k3s1");
    }

    #[test]
    fn files_are_read_by_field() {
        assert_eq!(meminfo_bytes("MemTotal:       16 kB\nMemFree: 1 kB\n", "MemTotal"), Some(16384));
        assert_eq!(os_release_value("NAME=x\nPRETTY_NAME=\"A B\"\n", "PRETTY_NAME").as_deref(), Some("A B"));
    }
}
