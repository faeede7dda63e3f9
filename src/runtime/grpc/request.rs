//! CRI's messages as our configurations. What can't be honoured is refused, never left out.

use std::time::Duration;

use k3s_cri::{
    ContainerConfig, Device, DnsConfig, Error, IdMapping, IdMappings, ImageMount, LinuxResources, Mount,
    NamespaceOptions, PidMode, PodSandboxConfig, PortMapping, Propagation, Protocol, RegistryAuth, SecurityContext,
    SecurityProfile, SupplementalGroupsPolicy,
};
use k8s_cri::v1;

fn invalid(detail: impl Into<String>) -> Error {
    Error::InvalidArgument { detail: detail.into() }
}

fn id(value: i64, what: &str) -> Result<u32, Error> {
    u32::try_from(value).map_err(|_| invalid(format!("{what} {value} is out of range")))
}

pub(super) fn sandbox(config: v1::PodSandboxConfig, runtime_handler: String) -> Result<PodSandboxConfig, Error> {
    let metadata = config.metadata.ok_or_else(|| invalid("sandbox config must include metadata"))?;
    let linux = config.linux.unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    Ok(PodSandboxConfig {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        attempt: metadata.attempt,
        runtime_handler,
        hostname: config.hostname,
        log_directory: config.log_directory.into(),
        dns: config.dns_config.map(|dns| DnsConfig {
            servers: dns.servers,
            searches: dns.searches,
            options: dns.options,
        }),
        port_mappings: config.port_mappings.into_iter().map(port).collect::<Result<_, _>>()?,
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        namespaces: namespaces(security.namespace_options.unwrap_or_default())?,
        sysctls: linux.sysctls.into_iter().collect(),
        cgroup_parent: linux.cgroup_parent,
        resources: resources(linux.resources.unwrap_or_default())?,
    })
}

fn port(mapping: v1::PortMapping) -> Result<PortMapping, Error> {
    let number = |port: i32| u16::try_from(port).map_err(|_| invalid(format!("port {port} is out of range")));
    Ok(PortMapping {
        protocol: match mapping.protocol() {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        },
        container_port: number(mapping.container_port)?,
        host_port: number(mapping.host_port)?,
        host_ip: mapping.host_ip,
    })
}

fn namespaces(options: v1::NamespaceOption) -> Result<NamespaceOptions, Error> {
    let user = match options.userns_options.as_ref().filter(|user| user.mode() != v1::NamespaceMode::Node) {
        Some(user) if user.mode() == v1::NamespaceMode::Pod => mappings(&user.uids, &user.gids)?,
        Some(user) => return Err(invalid(format!("unsupported user namespace mode: {:?}", user.mode()))),
        None => None,
    };
    let host = |mode| mode == v1::NamespaceMode::Node;
    Ok(NamespaceOptions {
        host_network: host(options.network()),
        host_ipc: host(options.ipc()),
        pid: match options.pid() {
            v1::NamespaceMode::Pod => PidMode::Pod,
            v1::NamespaceMode::Container => PidMode::Container,
            v1::NamespaceMode::Node => PidMode::Host,
            // Of one container, which names it; a pod has none.
            v1::NamespaceMode::Target => PidMode::Container,
        },
        user,
    })
}

/// One range each, as with containerd.
fn mappings(uids: &[v1::IdMapping], gids: &[v1::IdMapping]) -> Result<Option<IdMappings>, Error> {
    let one = |mappings: &[v1::IdMapping]| match mappings {
        [one] => Ok(IdMapping { host_id: one.host_id, container_id: one.container_id, length: one.length }),
        several => Err(invalid(format!("only one id mapping is supported, not {}", several.len()))),
    };
    if uids.is_empty() && gids.is_empty() {
        return Ok(None);
    }
    Ok(Some(IdMappings { uids: one(uids)?, gids: one(gids)? }))
}

pub(super) fn resources(resources: v1::LinuxContainerResources) -> Result<LinuxResources, Error> {
    let positive =
        |value: i64, what: &str| u64::try_from(value).map_err(|_| invalid(format!("{what} {value} is out of range")));
    Ok(LinuxResources {
        cpu_period: positive(resources.cpu_period, "cpu_period")?,
        cpu_quota: resources.cpu_quota,
        cpu_shares: positive(resources.cpu_shares, "cpu_shares")?,
        memory_limit: resources.memory_limit_in_bytes,
        memory_swap_limit: resources.memory_swap_limit_in_bytes,
        oom_score_adj: resources.oom_score_adj,
        pids_limit: 0,
        cpuset_cpus: resources.cpuset_cpus,
        cpuset_mems: resources.cpuset_mems,
        hugepage_limits: resources.hugepage_limits.into_iter().map(|limit| (limit.page_size, limit.limit)).collect(),
        unified: resources.unified.into_iter().collect(),
    })
}

pub(super) fn container(config: v1::ContainerConfig) -> Result<ContainerConfig, Error> {
    let metadata = config.metadata.ok_or_else(|| invalid("container config must include metadata"))?;
    let image = config.image.ok_or_else(|| invalid("container config must include an image"))?;
    let linux = config.linux.unwrap_or_default();
    let security_context = linux.security_context.unwrap_or_default();
    if !config.cdi_devices.is_empty() {
        return Err(Error::Unimplemented { detail: "CDI devices are not available".to_owned() });
    }
    Ok(ContainerConfig {
        name: metadata.name,
        attempt: metadata.attempt,
        image: if image.user_specified_image.is_empty() { image.image.clone() } else { image.user_specified_image },
        image_id: image.image,
        command: config.command,
        args: config.args,
        working_dir: config.working_dir,
        env: config.envs.into_iter().map(|variable| (variable.key, variable.value)).collect(),
        mounts: config.mounts.into_iter().map(mount).collect::<Result<_, _>>()?,
        devices: config.devices.into_iter().map(device).collect(),
        labels: config.labels.into_iter().collect(),
        annotations: config.annotations.into_iter().collect(),
        log_path: config.log_path.into(),
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        tty: config.tty,
        target: target(security_context.namespace_options.as_ref()),
        stop_signal: None,
        security: security(security_context)?,
        resources: resources(linux.resources.unwrap_or_default())?,
    })
}

fn mount(mount: v1::Mount) -> Result<Mount, Error> {
    let image = mount.image.as_ref().map(|image| image.image.clone()).filter(|image| !image.is_empty());
    if image.is_some() && !mount.host_path.is_empty() {
        return Err(invalid("mount has both an image and a host path"));
    }
    Ok(Mount {
        id_mappings: mappings(&mount.uid_mappings, &mount.gid_mappings)?,
        image: image.map(|image_id| ImageMount { image_id, ..Default::default() }),
        propagation: match mount.propagation() {
            v1::MountPropagation::PropagationPrivate => Propagation::Private,
            v1::MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
            v1::MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
        },
        container_path: mount.container_path.into(),
        host_path: mount.host_path.into(),
        readonly: mount.readonly,
        recursive_read_only: mount.recursive_read_only,
    })
}

fn device(device: v1::Device) -> Device {
    Device {
        container_path: device.container_path.into(),
        host_path: device.host_path.into(),
        permissions: device.permissions,
    }
}

fn security(context: v1::LinuxContainerSecurityContext) -> Result<SecurityContext, Error> {
    let supplemental_groups_policy = match context.supplemental_groups_policy() {
        v1::SupplementalGroupsPolicy::Merge => SupplementalGroupsPolicy::Merge,
        v1::SupplementalGroupsPolicy::Strict => SupplementalGroupsPolicy::Strict,
    };
    // The pod's namespaces hold for all of its containers; this only refuses what no pod can have.
    namespaces(context.namespace_options.unwrap_or_default())?;
    let capabilities = context.capabilities.unwrap_or_default();
    let paths = |paths: Vec<String>| (!paths.is_empty()).then_some(paths);
    let groups = context.supplemental_groups.into_iter().map(|group| id(group, "supplemental group"));
    Ok(SecurityContext {
        privileged: context.privileged,
        add_capabilities: capabilities.add_capabilities,
        drop_capabilities: capabilities.drop_capabilities,
        ambient_capabilities: capabilities.add_ambient_capabilities,
        run_as_user: context.run_as_user.map(|user| id(user.value, "user")).transpose()?,
        run_as_group: context.run_as_group.map(|group| id(group.value, "group")).transpose()?,
        run_as_username: context.run_as_username,
        supplemental_groups: groups.collect::<Result<_, _>>()?,
        supplemental_groups_policy,
        readonly_rootfs: context.readonly_rootfs,
        no_new_privs: context.no_new_privs,
        masked_paths: paths(context.masked_paths),
        readonly_paths: paths(context.readonly_paths),
        seccomp: profile(context.privileged, context.seccomp),
        apparmor: profile(context.privileged, context.apparmor),
    })
}

/// The container whose pid namespace is joined.
fn target(options: Option<&v1::NamespaceOption>) -> Option<String> {
    let options = options.filter(|options| options.pid() == v1::NamespaceMode::Target)?;
    Some(options.target_id.clone())
}

/// What is not said is the runtime's default for AppArmor and seccomp alike. Privileged containers are not confined.
fn profile(privileged: bool, profile: Option<v1::SecurityProfile>) -> SecurityProfile {
    use v1::security_profile::ProfileType;
    if privileged {
        return SecurityProfile::Unconfined;
    }
    let Some(profile) = profile else { return SecurityProfile::default() };
    match profile.profile_type() {
        ProfileType::RuntimeDefault => SecurityProfile::RuntimeDefault,
        ProfileType::Unconfined => SecurityProfile::Unconfined,
        ProfileType::Localhost => SecurityProfile::Localhost(profile.localhost_ref),
    }
}

pub(super) fn auth(auth: v1::AuthConfig) -> RegistryAuth {
    RegistryAuth {
        username: auth.username,
        password: auth.password,
        auth: auth.auth,
        server_address: auth.server_address,
        identity_token: auth.identity_token,
        registry_token: auth.registry_token,
    }
}

/// Whole seconds; less than none is none.
pub(super) fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_honoured_is_refused() {
        let metadata = Some(v1::ContainerMetadata { name: "a".into(), attempt: 0 });
        let image = Some(v1::ImageSpec { image: "busybox".into(), ..Default::default() });
        let whole = v1::ContainerConfig { metadata, image, ..Default::default() };
        assert_eq!(container(whole.clone()).unwrap().image, "busybox");
        assert!(matches!(
            container(v1::ContainerConfig { metadata: None, ..whole.clone() }),
            Err(Error::InvalidArgument { .. })
        ));
        let with = |security| {
            let linux = v1::LinuxContainerConfig { security_context: Some(security), resources: None };
            container(v1::ContainerConfig { linux: Some(linux), ..whole.clone() })
        };
        let user = |value| v1::LinuxContainerSecurityContext {
            run_as_user: Some(v1::Int64Value { value }),
            ..Default::default()
        };
        assert_eq!(with(user(7)).unwrap().security.run_as_user, Some(7));
        assert!(matches!(with(user(-1)), Err(Error::InvalidArgument { .. })));
        let strict = v1::LinuxContainerSecurityContext { supplemental_groups_policy: 1, ..Default::default() };
        assert_eq!(with(strict).unwrap().security.supplemental_groups_policy, SupplementalGroupsPolicy::Strict);
        let target = v1::NamespaceOption {
            pid: v1::NamespaceMode::Target.into(),
            target_id: "other".into(),
            ..Default::default()
        };
        let target = v1::LinuxContainerSecurityContext { namespace_options: Some(target), ..Default::default() };
        assert_eq!(with(target).unwrap().target.as_deref(), Some("other"));
    }

    #[test]
    fn a_user_namespace_has_one_range_of_ids() {
        let range = |host_id| v1::IdMapping { host_id, container_id: 0, length: 65536 };
        let with = |uids: Vec<v1::IdMapping>, mode: v1::NamespaceMode| {
            let user = v1::UserNamespace { mode: mode.into(), gids: uids.clone(), uids };
            namespaces(v1::NamespaceOption { userns_options: Some(user), ..Default::default() }).map(|got| got.user)
        };
        let of_pod = with(vec![range(131_072)], v1::NamespaceMode::Pod).unwrap().unwrap();
        assert_eq!(of_pod.uids.on_host(5), Some(131_077));
        assert_eq!(of_pod.gids.on_host(65536), None);
        assert_eq!(with(vec![range(131_072)], v1::NamespaceMode::Node).unwrap(), None);
        assert!(with(vec![range(65536), range(131_072)], v1::NamespaceMode::Pod).is_err());
        assert!(with(vec![range(65536)], v1::NamespaceMode::Container).is_err());
    }
}
