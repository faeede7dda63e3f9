//! From CRI's configuration and the image's to the OCI runtime specification.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use k3s_cri::{
    ContainerConfig, Error, PodSandboxConfig, Propagation, SecurityContext, SecurityProfile, SupplementalGroupsPolicy,
};
use oci_spec::OciSpecError;
use oci_spec::image::ImageConfiguration;
use oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxSeccomp, Mount, MountBuilder, Process, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use crate::executor::{self, ALL_CAPABILITIES};
use crate::image_volume::ImageVolume;
use crate::{devices, seccomp_default};

/// Where programs are looked for if the image does not say.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// containerd's default capabilities.
const DEFAULT_CAPABILITIES: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// containerd's default masked paths.
const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/interrupts",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// containerd's default read-only paths.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Files that the sandbox gives its containers.
pub(crate) struct SandboxFiles {
    pub hostname: PathBuf,
    pub resolv_conf: PathBuf,
    /// The pod's shared memory; the node's for pods in its IPC namespace.
    pub shm: PathBuf,
}

/// Builds the specification.
pub(crate) fn build(
    sandbox: &PodSandboxConfig,
    files: &SandboxFiles,
    config: &ContainerConfig,
    image: &ImageConfiguration,
    volumes: &HashMap<String, ImageVolume>,
) -> Result<Spec, Error> {
    let security = &config.security;
    if !security.privileged
        && let SecurityProfile::Localhost(profile) = &security.apparmor
        && !Path::new("/sys/module/apparmor").exists()
    {
        return Err(Error::FailedPrecondition {
            detail: format!("AppArmor profile {profile:?} asked for, but this host has no AppArmor"),
        });
    }
    let ambient = security.ambient_capabilities.iter().map(|name| capability(name)).collect::<Result<_, _>>()?;
    let capabilities = capabilities(security)?;
    let seccomp = seccomp(security, &capabilities)?;
    let process = process(sandbox, config, image, capabilities, ambient)?;
    let paths = |given: &Option<Vec<String>>, default: &[&str]| match given {
        Some(paths) => paths.clone(),
        None if security.privileged => Vec::new(),
        None => default.iter().map(|path| (*path).to_owned()).collect(),
    };
    let build = || -> Result<Spec, OciSpecError> {
        let mut linux = LinuxBuilder::default()
            .masked_paths(paths(&security.masked_paths, &MASKED_PATHS))
            .readonly_paths(paths(&security.readonly_paths, &READONLY_PATHS))
            .build()?;
        linux.set_seccomp(seccomp);
        let root = RootBuilder::default().path("rootfs").readonly(security.readonly_rootfs).build()?;
        let mut spec = SpecBuilder::default()
            .process(process)
            .root(root)
            .mounts(mounts(sandbox, files, config, volumes)?)
            .linux(linux)
            .build()?;
        spec.set_hostname(None);
        Ok(spec)
    };
    build().map_err(internal)
}

fn internal(error: OciSpecError) -> Error {
    Error::Internal { doing: "build runtime specification".to_owned(), detail: error.to_string() }
}

fn process(
    sandbox: &PodSandboxConfig,
    config: &ContainerConfig,
    image: &ImageConfiguration,
    mut capabilities: HashSet<Capability>,
    ambient: HashSet<Capability>,
) -> Result<Process, Error> {
    capabilities.extend(&ambient);
    let image = image.config().clone().unwrap_or_default();
    let mut args =
        if config.command.is_empty() { image.entrypoint().clone().unwrap_or_default() } else { config.command.clone() };
    if !config.args.is_empty() {
        args.extend(config.args.iter().cloned());
    } else if config.command.is_empty() {
        args.extend(image.cmd().clone().unwrap_or_default());
    }
    if args.is_empty() {
        return Err(Error::InvalidArgument { detail: "no command specified".to_owned() });
    }
    let working_dir = match (config.working_dir.as_str(), image.working_dir().as_deref()) {
        ("", None | Some("")) => "/",
        ("", Some(directory)) => directory,
        (directory, _) => directory,
    };
    if !working_dir.starts_with('/') {
        return Err(Error::InvalidArgument { detail: format!("working directory {working_dir:?} is not absolute") });
    }
    let security = &config.security;
    let default = match security.run_as_username.as_str() {
        "" => image.user().clone().filter(|user| !user.is_empty()).unwrap_or_else(|| "0".to_owned()),
        name => name.to_owned(),
    };
    let user = match (security.run_as_user, security.run_as_group) {
        (Some(uid), Some(gid)) => format!("{uid}:{gid}"),
        (Some(uid), None) => uid.to_string(),
        (None, Some(gid)) => {
            let name = default.split(':').next().filter(|name| !name.is_empty()).unwrap_or("0");
            format!("{name}:{gid}")
        }
        (None, None) => default,
    };
    let user = match security.supplemental_groups_policy {
        SupplementalGroupsPolicy::Merge => user,
        SupplementalGroupsPolicy::Strict => format!("{}{user}", executor::ONLY_GIVEN_GROUPS),
    };
    let build = || -> Result<Process, OciSpecError> {
        let user =
            UserBuilder::default().username(user).additional_gids(security.supplemental_groups.clone()).build()?;
        // For a user other than root the kernel takes them away at execve, as it should: they are the limit then.
        let sets = LinuxCapabilitiesBuilder::default()
            .bounding(capabilities.clone())
            .effective(capabilities.clone())
            .permitted(capabilities)
            .inheritable(ambient.clone())
            .ambient(ambient)
            .build()?;
        ProcessBuilder::default()
            .terminal(config.tty)
            .user(user)
            .args(args)
            .env(environment(sandbox, config, image.env().as_deref().unwrap_or_default()))
            .cwd(working_dir)
            .capabilities(sets)
            .rlimits(Vec::new())
            .no_new_privileges(security.no_new_privs)
            .oom_score_adj(i32::try_from(config.resources.oom_score_adj).unwrap_or(0))
            .build()
    };
    let mut process = build().map_err(internal)?;
    process.set_apparmor_profile(apparmor(security));
    Ok(process)
}

/// The AppArmor profile of a container, by its name in the kernel. Of `RuntimeDefault` there is none to load.
fn apparmor(security: &SecurityContext) -> Option<String> {
    match &security.apparmor {
        // Older clients put the kind before the name.
        SecurityProfile::Localhost(name) if !security.privileged => {
            Some(name.strip_prefix("localhost/").unwrap_or(name).to_owned())
        }
        _ => None,
    }
}

/// The image's environment and the pod's; what comes later wins.
fn environment(sandbox: &PodSandboxConfig, config: &ContainerConfig, image: &[String]) -> Vec<String> {
    let mut environment = vec![DEFAULT_PATH.to_owned()];
    if !sandbox.hostname.is_empty() {
        environment.push(format!("HOSTNAME={}", sandbox.hostname));
    }
    if config.tty {
        environment.push("TERM=xterm".to_owned());
    }
    let given = config.env.iter().map(|(name, value)| format!("{name}={value}"));
    for entry in image.iter().cloned().chain(given) {
        let name = entry.split_once('=').map_or(entry.as_str(), |(name, _)| name);
        environment.retain(|known| known.split_once('=').is_none_or(|(known, _)| known != name));
        environment.push(entry);
    }
    environment
}

/// The default set, with what is added and dropped; everything for privileged containers.
fn capabilities(security: &SecurityContext) -> Result<HashSet<Capability>, Error> {
    let all = || ALL_CAPABILITIES.into_iter().collect::<HashSet<_>>();
    if security.privileged {
        return Ok(all());
    }
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut capabilities: HashSet<Capability> = DEFAULT_CAPABILITIES.into_iter().collect();
    if security.add_capabilities.iter().any(is_all) {
        capabilities = all();
    }
    if security.drop_capabilities.iter().any(is_all) {
        capabilities.clear();
    }
    for name in security.add_capabilities.iter().filter(|name| !is_all(name)) {
        capabilities.insert(capability(name)?);
    }
    for name in security.drop_capabilities.iter().filter(|name| !is_all(name)) {
        capabilities.remove(&capability(name)?);
    }
    Ok(capabilities)
}

fn capability(name: &str) -> Result<Capability, Error> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    bare.parse().map_err(|_| Error::InvalidArgument { detail: format!("unknown capability {name:?}") })
}

fn seccomp(security: &SecurityContext, capabilities: &HashSet<Capability>) -> Result<Option<LinuxSeccomp>, Error> {
    match &security.seccomp {
        _ if security.privileged => Ok(None),
        SecurityProfile::Unconfined => Ok(None),
        SecurityProfile::RuntimeDefault => {
            seccomp_default::profile(|capability| capabilities.contains(&capability)).map(Some).map_err(internal)
        }
        SecurityProfile::Localhost(path) => {
            let bad = |error: String| Error::InvalidArgument { detail: format!("seccomp profile {path:?}: {error}") };
            let bytes = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
            serde_json::from_slice(&bytes).map(Some).map_err(|error| bad(error.to_string()))
        }
    }
}

fn mounts(
    sandbox: &PodSandboxConfig,
    files: &SandboxFiles,
    config: &ContainerConfig,
    volumes: &HashMap<String, ImageVolume>,
) -> Result<Vec<Mount>, OciSpecError> {
    // What is the sandbox's own belongs to the pod's users.
    let own = |source: &Path, destination: &Path, options: &[&str]| {
        let mapped: &[&str] = if sandbox.namespaces.user.is_some() { &["idmap"] } else { &[] };
        bind(source, destination, &[options, mapped].concat())
    };
    let privileged = config.security.privileged;
    let system = |kind: &str, destination: &str, options: &[&str]| {
        MountBuilder::default()
            .typ(kind)
            .source(kind)
            .destination(destination)
            .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
            .build()
    };
    let access = if privileged { "rw" } else { "ro" };
    let devices = if privileged { "dev" } else { "nodev" };
    let mut mounts = vec![
        system("proc", "/proc", &["nosuid", "noexec", "nodev"])?,
        system("tmpfs", "/dev", &["nosuid", devices, "mode=755", "size=65536k"])?,
        system("devpts", "/dev/pts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"])?,
        system("mqueue", "/dev/mqueue", &["nosuid", "noexec", "nodev"])?,
        system("sysfs", "/sys", &["nosuid", "noexec", "nodev", access])?,
        system("cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", access])?,
        own(&files.shm, Path::new("/dev/shm"), &["bind", "nosuid", "nodev", "noexec"])?,
    ];
    for (host, container, permissions) in devices::list(config) {
        let access = if permissions.contains('w') { "rw" } else { "ro" };
        mounts.push(bind(&host, &container, &["bind", "nosuid", "noexec", access])?);
    }
    let access = if config.security.readonly_rootfs { "ro" } else { "rw" };
    for (source, destination) in [(&files.hostname, "/etc/hostname"), (&files.resolv_conf, "/etc/resolv.conf")] {
        if !config.mounts.iter().any(|mount| mount.container_path == Path::new(destination)) {
            mounts.push(own(source, Path::new(destination), &["bind", "nosuid", "nodev", access])?);
        }
    }
    let mut given: Vec<_> = config.mounts.iter().collect();
    // A mount on a directory hides what was mounted below it before.
    given.sort_by_key(|mount| mount.container_path.components().count());
    for mount in given {
        if let Some(image) = &mount.image {
            let lower = volumes.get(&image.image_id).map(|volume| volume.lower.as_slice()).unwrap_or_default();
            mounts.push(image_mount(&mount.container_path, lower, &image.sub_path)?);
            continue;
        }
        let propagation = match mount.propagation {
            Propagation::Private => "rprivate",
            Propagation::HostToContainer => "rslave",
            Propagation::Bidirectional => "rshared",
        };
        let access = match (mount.readonly, mount.recursive_read_only) {
            (_, true) => "rro",
            (true, false) => "ro",
            (false, false) => "rw",
        };
        // Without a device controller, a node in a volume would be a way to the host's devices.
        let devices = if privileged || mount.host_path.starts_with("/dev") { "dev" } else { "nodev" };
        let mut options = vec!["rbind", propagation, access, devices];
        options.extend(mount.id_mappings.map(|_| "idmap"));
        mounts.push(bind(&mount.host_path, &mount.container_path, &options)?);
    }
    Ok(mounts)
}

/// An image, read-only, for the executor.
fn image_mount(destination: &Path, lower: &[PathBuf], sub_path: &Path) -> Result<Mount, OciSpecError> {
    let mut options = vec!["ro".to_owned(), "nodev".to_owned()];
    options.extend(lower.iter().map(|path| format!("{}{}", executor::LAYER, path.display())));
    if !sub_path.as_os_str().is_empty() {
        options.push(format!("{}{}", executor::SUB_PATH, sub_path.display()));
    }
    let mount = MountBuilder::default().typ(executor::IMAGE).source(executor::IMAGE).destination(destination);
    mount.options(options).build()
}

fn bind(source: &Path, destination: &Path, options: &[&str]) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .typ("bind")
        .source(source)
        .destination(destination)
        .options(options.iter().map(|option| (*option).to_owned()).collect::<Vec<_>>())
        .build()
}

/// Number of a signal by name (`SIGTERM`, `TERM`, `SIGRTMIN+3`) or number.
pub(crate) fn signal(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = bare.strip_prefix("RTMIN+") {
        return offset.parse().ok().filter(|offset| (0..=30).contains(offset)).map(|offset: i32| 34 + offset);
    }
    format!("SIG{bare}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_environment_wins_and_path_has_a_default() {
        let config = ContainerConfig { env: vec![("A".into(), "pod".into())], ..ContainerConfig::default() };
        let sandbox = PodSandboxConfig { hostname: "web".into(), ..PodSandboxConfig::default() };
        let image = ["A=image".to_owned(), "B=image".to_owned()];
        assert_eq!(environment(&sandbox, &config, &image), [DEFAULT_PATH, "HOSTNAME=web", "B=image", "A=pod"]);
    }

    #[test]
    fn capabilities_are_added_and_dropped() {
        let got = |add: &[&str], drop: &[&str]| {
            let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            capabilities(&SecurityContext {
                add_capabilities: list(add),
                drop_capabilities: list(drop),
                ..SecurityContext::default()
            })
        };
        assert_eq!(got(&[], &[]).unwrap().len(), 14);
        assert_eq!(got(&["CAP_NET_BIND_SERVICE"], &["ALL"]).unwrap(), HashSet::from([Capability::NetBindService]));
        assert!(!got(&["ALL"], &["sys_admin"]).unwrap().contains(&Capability::SysAdmin));
        assert!(got(&["NONSENSE"], &[]).is_err());
    }

    #[test]
    fn an_apparmor_profile_of_the_host_is_carried_to_the_process() {
        let named = |name: &str, privileged| {
            let apparmor = SecurityProfile::Localhost(name.to_owned());
            apparmor_of(SecurityContext { apparmor, privileged, ..SecurityContext::default() })
        };
        fn apparmor_of(security: SecurityContext) -> Option<String> {
            let config = ContainerConfig { security, command: vec!["true".into()], ..ContainerConfig::default() };
            let image = ImageConfiguration::default();
            let none = HashSet::new;
            let made = process(&PodSandboxConfig::default(), &config, &image, none(), none()).unwrap();
            made.apparmor_profile().clone()
        }
        assert_eq!(named("k8s-nginx", false).as_deref(), Some("k8s-nginx"));
        assert_eq!(named("localhost/k8s-nginx", false).as_deref(), Some("k8s-nginx"));
        assert_eq!(named("k8s-nginx", true), None);
        assert_eq!(apparmor_of(SecurityContext::default()), None);
    }

    #[test]
    fn ambient_capabilities_are_held_and_passed_on() {
        let security = SecurityContext { ambient_capabilities: vec!["NET_ADMIN".into()], ..SecurityContext::default() };
        let config = ContainerConfig { security, command: vec!["true".into()], ..ContainerConfig::default() };
        let ambient = HashSet::from([Capability::NetAdmin]);
        let image = ImageConfiguration::default();
        let made = process(&PodSandboxConfig::default(), &config, &image, HashSet::new(), ambient.clone()).unwrap();
        let sets = made.capabilities().clone().unwrap();
        for set in [sets.ambient(), sets.inheritable(), sets.permitted(), sets.effective(), sets.bounding()] {
            assert_eq!(set.as_ref(), Some(&ambient));
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(signal("SIGTERM"), Some(15));
        assert_eq!(signal("quit"), Some(3));
        assert_eq!(signal("9"), Some(9));
        assert_eq!(signal("SIGRTMIN+3"), Some(37));
        assert_eq!(signal("SIGNONSENSE"), None);
    }
}
