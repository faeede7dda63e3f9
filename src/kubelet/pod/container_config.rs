//! What a container is started with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k3s_cri::{ContainerConfig, IdMappings, Image, ImageMount, Mount, Propagation};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::expansion::expand;
use super::field_path::Addresses;
use super::{env, hosts, resources, security, termination_message};
use crate::context::Context;
use crate::labels;
use crate::volume::{self, Mounted, sub_path};

/// Why a container's configuration can't be made: `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Env(#[from] env::Error),
    #[error(transparent)]
    Security(#[from] security::Error),
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\": {source}")]
    SubPath { volume: String, container: String, source: volume::Error },
    #[error("volume \"{volume}\" of container \"{container}\" is not mounted")]
    NoVolume { volume: String, container: String },
    #[error("subPathExpr {expression:?} of container \"{container}\" names an unknown variable")]
    SubPathVariable { expression: String, container: String },
    #[error("cannot write {what}: {source}")]
    Io { what: &'static str, source: std::io::Error },
}

/// What a container is made from.
pub(super) struct Making<'a> {
    pub ctx: &'a Context,
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub attempt: u32,
    pub image: &'a Image,
    pub volumes: &'a BTreeMap<String, Mounted>,
    /// Ids of the images that are volumes, by the volumes' names.
    pub image_volumes: &'a BTreeMap<String, String>,
    /// Ids of the pod's user namespace, if it has one of its own.
    pub users: Option<IdMappings>,
    pub addresses: &'a Addresses,
}

/// The configuration of a container. Makes the files of the node that it needs.
pub(super) async fn make(making: &Making<'_>) -> Result<ContainerConfig, Error> {
    let Making { ctx, pod, container, attempt, image, .. } = *making;
    security::verify_non_root(pod, container, image)?;
    let security = security::context(&ctx.config, pod, container)?;
    let env = env::of_container(ctx, pod, container, making.addresses).await?;
    let lookup = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let expand_all = |words: &Option<Vec<String>>| -> Vec<String> {
        words.iter().flatten().map(|word| expand(word, lookup)).collect()
    };
    let mut mounts = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        mounts.push(volume_mount(making, index, mount, lookup)?);
    }
    own_mounts(making, &mut mounts)?;
    Ok(ContainerConfig {
        name: container.name.clone(),
        attempt,
        image_id: image.id.clone(),
        image: container.image.clone().unwrap_or_default(),
        command: expand_all(&container.command),
        args: expand_all(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts,
        devices: Vec::new(),
        labels: labels::of_container(pod, container),
        annotations: labels::annotations(pod, container, attempt),
        log_path: Path::new(&container.name).join(format!("{attempt}.log")),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        security,
        target: None,
        stop_signal: container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
        resources: resources::of_container(pod, container, ctx.facts.memory_bytes()),
        env,
    })
}

fn volume_mount(
    making: &Making<'_>,
    index: usize,
    mount: &VolumeMount,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Mount, Error> {
    let container = &making.container.name;
    let Some(mounted) = making.volumes.get(&mount.name) else {
        return Err(Error::NoVolume { volume: mount.name.clone(), container: container.clone() });
    };
    let sub_path = match (mount.sub_path.as_deref(), mount.sub_path_expr.as_deref()) {
        (Some(path), _) if !path.is_empty() => path.to_owned(),
        (_, Some(expression)) if !expression.is_empty() => {
            let unknown = std::cell::Cell::new(false);
            let expanded = expand(expression, |name| {
                let value = lookup(name);
                unknown.set(unknown.get() || value.is_none());
                value
            });
            if unknown.get() {
                let (expression, container) = (expression.to_owned(), container.clone());
                return Err(Error::SubPathVariable { expression, container });
            }
            expanded
        }
        _ => String::new(),
    };
    let container_path = PathBuf::from(&mount.mount_path);
    // Kubernetes takes a relative path as one below the root.
    let container_path =
        if container_path.is_absolute() { container_path } else { Path::new("/").join(container_path) };
    if let Some(image_id) = making.image_volumes.get(&mount.name) {
        let image = ImageMount { image_id: image_id.clone(), sub_path: sub_path.into() };
        return Ok(Mount { container_path, readonly: true, image: Some(image), ..Mount::default() });
    }
    let host_path = if sub_path.is_empty() {
        mounted.path.clone()
    } else {
        let uid = making.pod.metadata.uid.as_deref().unwrap_or_default();
        let target = making.ctx.config.pod_dir(uid).join("volume-subpaths").join(&mount.name);
        let target = target.join(container).join(index.to_string());
        sub_path::bind(&mounted.path, &sub_path, &target).map_err(|source| Error::SubPath {
            volume: mount.name.clone(),
            container: container.clone(),
            source,
        })?
    };
    Ok(Mount {
        container_path,
        host_path,
        readonly: mounted.readonly || mount.read_only == Some(true),
        recursive_read_only: matches!(mount.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible")),
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
        id_mappings: making.users,
        image: None,
    })
}

/// /etc/hosts and the termination message, unless the pod mounts something of its own there.
fn own_mounts(making: &Making<'_>, mounts: &mut Vec<Mount>) -> Result<(), Error> {
    let Making { ctx, pod, container, attempt, .. } = *making;
    let mut add = |container_path: &str, host_path: PathBuf| {
        if !mounts.iter().any(|mount| mount.container_path == Path::new(container_path)) {
            mounts.push(Mount {
                container_path: container_path.into(),
                host_path,
                id_mappings: making.users,
                ..Mount::default()
            });
        }
    };
    let hosts = hosts::write(&ctx.config, pod, &making.addresses.pod_ips)
        .map_err(|source| Error::Io { what: "the pod's hosts file", source })?;
    add("/etc/hosts", hosts);
    let message = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    if !message.is_empty() {
        let path = termination_message::path(&ctx.config, pod, &container.name, attempt);
        make_message_file(&path).map_err(|source| Error::Io { what: "the termination message file", source })?;
        add(message, path);
    }
    Ok(())
}

/// Any user of the container may write it.
fn make_message_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(path, "")?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
}
