//! Reading a bundle's configuration: what is wrong or can't be done is refused before anything is made.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespaceType as Kind, Spec};

use super::error::{Doing, Error};
use super::namespaces::Namespaces;
use crate::executor::default_devices;

/// Reads `config.json` of a bundle, and makes its relative paths absolute.
pub(super) fn read(bundle: &Path) -> Result<Spec, Error> {
    let path = bundle.join("config.json");
    let bytes = std::fs::read(&path).doing(format!("read {}", path.display()))?;
    let mut spec: Spec = serde_json::from_slice(&bytes).map_err(|error| Error::damaged(&path, &error))?;
    check(&spec, bundle)?;
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let is_bind = mount.typ().as_deref() == Some("bind")
            || mount.options().iter().flatten().any(|option| option == "bind" || option == "rbind");
        if let (true, Some(source)) = (is_bind, mount.source_mut()) {
            *source = bundle.join(&*source);
        }
    }
    if let Some(linux) = spec.linux_mut() {
        let mut devices = default_devices();
        let given = linux.devices().clone().unwrap_or_default();
        devices.retain(|device| given.iter().all(|other| other.path() != device.path()));
        devices.extend(given);
        linux.set_devices(Some(devices));
    }
    Ok(spec)
}

fn check(spec: &Spec, bundle: &Path) -> Result<(), Error> {
    let supported = spec.version().split('.').next() == Some("1");
    if !supported {
        return Err(Error::config(format!("ociVersion {:?} is none of 1.x", spec.version())));
    }
    let root = spec.root().as_ref().ok_or_else(|| Error::config("root is missing"))?;
    let rootfs: PathBuf = bundle.join(root.path());
    if !rootfs.is_dir() {
        return Err(Error::config(format!("root.path {} is not a directory", rootfs.display())));
    }
    if let Some(process) = spec.process() {
        check_process(process)?;
    }
    let linux = spec.linux().as_ref().ok_or_else(|| Error::config("linux is missing"))?;
    let namespaces = Namespaces::of(linux)?;
    if !namespaces.has(Kind::Mount) {
        return Err(Error::config("linux.namespaces has no mount namespace; the container's root needs one"));
    }
    for (what, is_set) in [("hostname", spec.hostname().is_some()), ("domainname", spec.domainname().is_some())] {
        if is_set && !namespaces.has(Kind::Uts) {
            return Err(Error::config(format!("{what} needs a uts namespace in linux.namespaces")));
        }
    }
    for name in linux.sysctl().iter().flatten().map(|(name, _)| name) {
        check_sysctl(name, &namespaces)?;
    }
    check_linux(linux)?;
    for mount in spec.mounts().iter().flatten() {
        if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
            let path = mount.destination().display();
            return Err(Error::config(format!("mount {path}: mappings of ids of a mount are not available")));
        }
    }
    Ok(())
}

/// What a process of a container must be, the first one or a further one.
pub(super) fn check_process(process: &oci_spec::runtime::Process) -> Result<(), Error> {
    if process.args().as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::config("process.args is empty"));
    }
    if !process.cwd().is_absolute() {
        return Err(Error::config(format!("process.cwd {:?} is not absolute", process.cwd())));
    }
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    if given(process.apparmor_profile()) && !Path::new("/sys/module/apparmor").exists() {
        return Err(Error::config("process.apparmorProfile is set, but this host has no AppArmor"));
    }
    for (field, is_set) in [
        ("selinuxLabel", given(process.selinux_label())),
        ("scheduler", process.scheduler().is_some()),
        ("execCPUAffinity", process.exec_cpu_affinity().is_some()),
    ] {
        if is_set {
            return Err(Error::config(format!("process.{field} is not available")));
        }
    }
    Ok(())
}

fn check_linux(linux: &Linux) -> Result<(), Error> {
    let listener = linux.seccomp().as_ref().is_some_and(|seccomp| seccomp.listener_path().is_some());
    for (field, is_set) in [
        ("mountLabel", linux.mount_label().as_ref().is_some_and(|label| !label.is_empty())),
        ("intelRdt", linux.intel_rdt().is_some()),
        ("memoryPolicy", linux.memory_policy().is_some()),
        ("personality", linux.personality().is_some()),
        ("netDevices", linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty())),
        ("seccomp.listenerPath", listener),
    ] {
        if is_set {
            return Err(Error::config(format!("linux.{field} is not available")));
        }
    }
    Ok(())
}

/// A parameter that is not of a namespace of the container's own is the host's.
fn check_sysctl(name: &str, namespaces: &Namespaces) -> Result<(), Error> {
    const IPC: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.msg_next_id",
    ];
    let dotted = name.replace('/', ".");
    let of = if dotted.starts_with("net.") {
        Kind::Network
    } else if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        Kind::Ipc
    } else if dotted == "kernel.domainname" {
        Kind::Uts
    } else {
        return Err(Error::config(format!("sysctl {name:?} is not in a separate kernel namespace")));
    };
    if namespaces.has(of) {
        return Ok(());
    }
    Err(Error::config(format!("sysctl {name:?} is not allowed in the host's {of} namespace")))
}
