//! What we know, as CRI's messages.

use k3s_cri::{
    ContainerEventKind, ContainerState, ContainerStatus, FilesystemUsage, Image, LinuxResources, NamespaceOptions,
    PidMode, PodSandboxConfig, PodSandboxStatus, SandboxState, Stats,
};
use k8s_cri::v1;

use crate::shim::clock;
use crate::stats::{Interface, PodUsage};

pub(super) fn image_spec(image: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: image.to_owned(), ..Default::default() }
}

fn sandbox_metadata(sandbox: &PodSandboxStatus) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: sandbox.name.clone(),
        uid: sandbox.uid.clone(),
        namespace: sandbox.namespace.clone(),
        attempt: sandbox.attempt,
    }
}

pub(super) fn sandbox_state(state: SandboxState) -> v1::PodSandboxState {
    match state {
        SandboxState::Ready => v1::PodSandboxState::SandboxReady,
        SandboxState::NotReady => v1::PodSandboxState::SandboxNotready,
    }
}

pub(super) fn sandbox(sandbox: &PodSandboxStatus) -> v1::PodSandbox {
    v1::PodSandbox {
        id: sandbox.id.clone(),
        metadata: Some(sandbox_metadata(sandbox)),
        state: sandbox_state(sandbox.state).into(),
        created_at: sandbox.created_at,
        labels: sandbox.labels.clone().into_iter().collect(),
        annotations: sandbox.annotations.clone().into_iter().collect(),
        runtime_handler: sandbox.runtime_handler.clone(),
    }
}

pub(super) fn sandbox_status(sandbox: &PodSandboxStatus, config: &PodSandboxConfig) -> v1::PodSandboxStatus {
    let mut ips = sandbox.ips.iter().map(ToString::to_string);
    let network = v1::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
    };
    let namespaces = v1::Namespace { options: Some(namespaces(config.namespaces)) };
    v1::PodSandboxStatus {
        id: sandbox.id.clone(),
        metadata: Some(sandbox_metadata(sandbox)),
        state: sandbox_state(sandbox.state).into(),
        created_at: sandbox.created_at,
        network: Some(network),
        linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(namespaces) }),
        labels: sandbox.labels.clone().into_iter().collect(),
        annotations: sandbox.annotations.clone().into_iter().collect(),
        runtime_handler: sandbox.runtime_handler.clone(),
    }
}

fn namespaces(options: NamespaceOptions) -> v1::NamespaceOption {
    let mode = |host| if host { v1::NamespaceMode::Node } else { v1::NamespaceMode::Pod };
    let pid = match options.pid {
        PidMode::Container => v1::NamespaceMode::Container,
        PidMode::Pod => v1::NamespaceMode::Pod,
        PidMode::Host => v1::NamespaceMode::Node,
    };
    v1::NamespaceOption {
        network: mode(options.host_network).into(),
        ipc: mode(options.host_ipc).into(),
        pid: pid.into(),
        userns_options: options.user.map(|user| v1::UserNamespace {
            mode: v1::NamespaceMode::Pod.into(),
            uids: vec![id_mapping(user.uids)],
            gids: vec![id_mapping(user.gids)],
        }),
        ..Default::default()
    }
}

fn id_mapping(mapping: k3s_cri::IdMapping) -> v1::IdMapping {
    v1::IdMapping { host_id: mapping.host_id, container_id: mapping.container_id, length: mapping.length }
}

fn container_metadata(container: &ContainerStatus) -> v1::ContainerMetadata {
    v1::ContainerMetadata { name: container.name.clone(), attempt: container.attempt }
}

pub(super) fn container_state(state: ContainerState) -> v1::ContainerState {
    match state {
        ContainerState::Created => v1::ContainerState::ContainerCreated,
        ContainerState::Running => v1::ContainerState::ContainerRunning,
        ContainerState::Exited => v1::ContainerState::ContainerExited,
        ContainerState::Unknown => v1::ContainerState::ContainerUnknown,
    }
}

pub(super) fn container(container: &ContainerStatus) -> v1::Container {
    v1::Container {
        id: container.id.clone(),
        pod_sandbox_id: container.sandbox_id.clone(),
        metadata: Some(container_metadata(container)),
        image: Some(image_spec(&container.image)),
        image_ref: container.image_ref.clone(),
        state: container_state(container.state).into(),
        created_at: container.created_at,
        labels: container.labels.clone().into_iter().collect(),
        annotations: container.annotations.clone().into_iter().collect(),
        image_id: container.image_id.clone(),
    }
}

pub(super) fn container_status(container: &ContainerStatus, config: &k3s_cri::ContainerConfig) -> v1::ContainerStatus {
    let user = container.user.as_ref().map(|user| v1::LinuxContainerUser {
        uid: user.uid.into(),
        gid: user.gid.into(),
        supplemental_groups: user.supplemental_groups.iter().copied().map(i64::from).collect(),
    });
    v1::ContainerStatus {
        id: container.id.clone(),
        metadata: Some(container_metadata(container)),
        state: container_state(container.state).into(),
        created_at: container.created_at,
        started_at: container.started_at,
        finished_at: container.finished_at,
        exit_code: container.exit_code,
        image: Some(image_spec(&container.image)),
        image_ref: container.image_ref.clone(),
        reason: container.reason.clone(),
        message: container.message.clone(),
        labels: container.labels.clone().into_iter().collect(),
        annotations: container.annotations.clone().into_iter().collect(),
        mounts: config.mounts.iter().map(mount).collect(),
        log_path: container.log_path.to_string_lossy().into_owned(),
        resources: container
            .resources
            .as_ref()
            .map(|limits| v1::ContainerResources { linux: Some(resources(limits)), windows: None }),
        image_id: container.image_id.clone(),
        user: user.map(|linux| v1::ContainerUser { linux: Some(linux) }),
    }
}

fn mount(mount: &k3s_cri::Mount) -> v1::Mount {
    let propagation = match mount.propagation {
        k3s_cri::Propagation::Private => v1::MountPropagation::PropagationPrivate,
        k3s_cri::Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        k3s_cri::Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    };
    v1::Mount {
        container_path: mount.container_path.to_string_lossy().into_owned(),
        host_path: mount.host_path.to_string_lossy().into_owned(),
        readonly: mount.readonly,
        recursive_read_only: mount.recursive_read_only,
        propagation: propagation.into(),
        uid_mappings: mount.id_mappings.iter().map(|mappings| id_mapping(mappings.uids)).collect(),
        gid_mappings: mount.id_mappings.iter().map(|mappings| id_mapping(mappings.gids)).collect(),
        image: mount.image.as_ref().map(|image| v1::ImageSpec { image: image.image_id.clone(), ..Default::default() }),
        ..Default::default()
    }
}

fn resources(limits: &LinuxResources) -> v1::LinuxContainerResources {
    let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    v1::LinuxContainerResources {
        cpu_period: signed(limits.cpu_period),
        cpu_quota: limits.cpu_quota,
        cpu_shares: signed(limits.cpu_shares),
        memory_limit_in_bytes: limits.memory_limit,
        memory_swap_limit_in_bytes: limits.memory_swap_limit,
        hugepage_limits: limits
            .hugepage_limits
            .iter()
            .map(|(page_size, limit)| v1::HugepageLimit { page_size: page_size.clone(), limit: *limit })
            .collect(),
        oom_score_adj: limits.oom_score_adj,
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        unified: limits.unified.clone().into_iter().collect(),
    }
}

pub(super) fn image(image: Image) -> v1::Image {
    v1::Image {
        spec: Some(image_spec(&image.id)),
        id: image.id,
        repo_tags: image.repo_tags,
        repo_digests: image.repo_digests,
        size: image.size,
        uid: image.uid.map(|uid| v1::Int64Value { value: uid.into() }),
        username: image.username,
        pinned: image.pinned,
    }
}

pub(super) fn filesystem(usage: FilesystemUsage) -> v1::FilesystemUsage {
    let mountpoint = usage.mountpoint.to_string_lossy().into_owned();
    v1::FilesystemUsage {
        timestamp: usage.timestamp,
        fs_id: Some(v1::FilesystemIdentifier { mountpoint }),
        used_bytes: Some(v1::UInt64Value { value: usage.used_bytes }),
        inodes_used: Some(v1::UInt64Value { value: usage.inodes_used }),
    }
}

fn number(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

fn cpu(stats: &Stats) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp: stats.timestamp,
        usage_core_nano_seconds: number(stats.cpu_nanos),
        usage_nano_cores: stats.cpu_nano_cores.and_then(number),
    }
}

fn memory(stats: &Stats) -> v1::MemoryUsage {
    v1::MemoryUsage {
        timestamp: stats.timestamp,
        working_set_bytes: number(stats.memory_working_set),
        available_bytes: stats.memory_available.and_then(number),
        usage_bytes: number(stats.memory_usage),
        rss_bytes: number(stats.memory_rss),
        page_faults: number(stats.page_faults),
        major_page_faults: number(stats.major_page_faults),
    }
}

fn swap(stats: &Stats) -> Option<v1::SwapUsage> {
    let used = stats.swap_usage?;
    Some(v1::SwapUsage {
        timestamp: stats.timestamp,
        swap_available_bytes: stats.swap_available.and_then(number),
        swap_usage_bytes: number(used),
    })
}

pub(super) fn container_stats(container: &ContainerStatus, stats: &Stats) -> v1::ContainerStats {
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: container.id.clone(),
            metadata: Some(container_metadata(container)),
            labels: container.labels.clone().into_iter().collect(),
            annotations: container.annotations.clone().into_iter().collect(),
        }),
        cpu: Some(cpu(stats)),
        memory: Some(memory(stats)),
        writable_layer: stats.writable_layer.clone().map(filesystem),
        swap: swap(stats),
    }
}

pub(super) fn sandbox_stats(
    sandbox: &PodSandboxStatus,
    usage: &PodUsage,
    containers: &[(ContainerStatus, Stats)],
) -> v1::PodSandboxStats {
    let total = &usage.stats;
    let process = v1::ProcessUsage { timestamp: total.timestamp, process_count: number(total.processes) };
    v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: sandbox.id.clone(),
            metadata: Some(sandbox_metadata(sandbox)),
            labels: sandbox.labels.clone().into_iter().collect(),
            annotations: sandbox.annotations.clone().into_iter().collect(),
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: Some(cpu(total)),
            memory: Some(memory(total)),
            network: network(&usage.interfaces),
            process: Some(process),
            containers: containers.iter().map(|(container, stats)| container_stats(container, stats)).collect(),
        }),
        windows: None,
    }
}

/// The first interface is the pod's own; there is none on the host's network.
fn network(interfaces: &[Interface]) -> Option<v1::NetworkUsage> {
    let usage = |interface: &Interface| v1::NetworkInterfaceUsage {
        name: interface.name.clone(),
        rx_bytes: number(interface.received.bytes),
        rx_errors: number(interface.received.errors),
        tx_bytes: number(interface.sent.bytes),
        tx_errors: number(interface.sent.errors),
    };
    let (first, others) = interfaces.split_first()?;
    Some(v1::NetworkUsage {
        timestamp: clock::now(),
        default_interface: Some(usage(first)),
        interfaces: others.iter().map(usage).collect(),
    })
}

pub(super) fn event_type(kind: ContainerEventKind) -> v1::ContainerEventType {
    match kind {
        ContainerEventKind::Created => v1::ContainerEventType::ContainerCreatedEvent,
        ContainerEventKind::Started => v1::ContainerEventType::ContainerStartedEvent,
        ContainerEventKind::Stopped => v1::ContainerEventType::ContainerStoppedEvent,
        ContainerEventKind::Deleted => v1::ContainerEventType::ContainerDeletedEvent,
    }
}
