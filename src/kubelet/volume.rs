//! Volumes of pods: made before the pod's containers, kept up to date while they run, taken away after them.
//!
//! A volume is a folder below `<root>/pods/<uid>/volumes`, or a path of the node. What is made from API objects
//! (configMap, secret, downwardAPI, projected) is a [`payload`], written atomically and refreshed.
//!
//! Secrets lie on the disk, mode 0600 below folders of the kubelet's own, not on a tmpfs as with the upstream kubelet:
//! a tmpfs belongs to a mount namespace, and running containers must see a refreshed token after k3s was started again
//! in a new one.

mod atomic_writer;
mod config_map;
mod downward_api;
mod empty_dir;
pub(crate) mod fs_group;
mod host_path;
mod mounts;
mod payload;
mod persistent_volume_claim;
mod projected;
mod secret;
pub(crate) mod sub_path;
mod token;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Pod, Volume};

use crate::context::Context;
use crate::pod::field_path::Addresses;
use payload::Payload;
use token::Tokens;

/// Why a volume can't be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{kind} \"{name}\" not found")]
    NotFound { kind: &'static str, name: String },
    #[error("{kind} \"{name}\" references non-existent key: {key}")]
    NoKey { kind: &'static str, name: String, key: String },
    #[error("invalid path {path:?} in volume: {detail}")]
    InvalidPath { path: String, detail: &'static str },
    #[error("hostPath type check failed: {path} is not {expected}", path = path.display())]
    HostPathType { path: PathBuf, expected: &'static str },
    #[error("PersistentVolumeClaim is not bound: \"{claim}\"")]
    Unbound { claim: String },
    #[error("{0}")]
    Field(#[from] crate::pod::field_path::Error),
    #[error("volume type {what} is not supported by this kubelet")]
    Unsupported { what: String },
    #[error("failed to fetch token of service account {service_account}: {source}")]
    Token { service_account: String, source: Box<kube::Error> },
    #[error("the API answered the token request for service account {service_account} without a token")]
    NoToken { service_account: String },
    #[error("cannot read {what}: {source}")]
    Api { what: String, source: Box<kube::Error> },
    #[error("cannot {doing} {path}: {source}", path = path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("volume task ended early: {0}")]
    Join(#[from] tokio::task::JoinError),
}

impl Error {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source }
    }
}

/// A volume that containers can use.
#[derive(Debug, Clone)]
pub(crate) struct Mounted {
    pub path: PathBuf,
    /// Whatever the containers ask for.
    pub readonly: bool,
}

/// The volumes of one pod.
#[derive(Default)]
pub(crate) struct Volumes {
    mounted: BTreeMap<String, Mounted>,
    tokens: Tokens,
}

/// What a volume is made for.
pub(super) struct Request<'a> {
    ctx: &'a Context,
    pod: &'a Pod,
    addresses: &'a Addresses,
    namespace: &'a str,
    /// `pods/<uid>` below the root.
    pod_dir: PathBuf,
}

impl Request<'_> {
    fn dir(&self, plugin: &str, volume: &str) -> PathBuf {
        self.pod_dir.join("volumes").join(format!("kubernetes.io~{plugin}")).join(volume)
    }

    fn fs_group(&self) -> Option<u32> {
        let group = self.pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
        u32::try_from(group).ok()
    }
}

impl Volumes {
    /// Volumes by name.
    pub fn mounted(&self) -> &BTreeMap<String, Mounted> {
        &self.mounted
    }

    /// Makes every volume that is not there yet. The first that fails is named.
    pub async fn set_up(&mut self, ctx: &Context, pod: &Pod, addresses: &Addresses) -> Result<(), (String, Error)> {
        let request = request(ctx, pod, addresses);
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            if self.mounted.contains_key(&volume.name) {
                continue;
            }
            let mounted = self.set_up_one(&request, volume).await.map_err(|error| (volume.name.clone(), error))?;
            self.mounted.insert(volume.name.clone(), mounted);
        }
        Ok(())
    }

    /// Brings volumes made from API objects up to date. Those that can't be now are named; they stay as they were.
    pub async fn refresh(&mut self, ctx: &Context, pod: &Pod, addresses: &Addresses) -> Vec<(String, Error)> {
        let request = request(ctx, pod, addresses);
        let mut failed = Vec::new();
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            if !self.mounted.contains_key(&volume.name) {
                continue;
            }
            let written = match self.payload(&request, volume).await {
                Ok(Some((plugin, payload))) => write_payload(&request, volume, plugin, payload).await.map(|_| ()),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                failed.push((volume.name.clone(), error));
            }
        }
        failed
    }

    async fn set_up_one(&mut self, request: &Request<'_>, volume: &Volume) -> Result<Mounted, Error> {
        if let Some((plugin, payload)) = self.payload(request, volume).await? {
            // Containers can't write what is made from API objects.
            return Ok(Mounted { path: write_payload(request, volume, plugin, payload).await?, readonly: true });
        }
        if let Some(source) = &volume.empty_dir {
            return empty_dir::set_up(request, &volume.name, source);
        }
        if let Some(source) = &volume.host_path {
            return host_path::set_up(source);
        }
        if let Some(source) = &volume.persistent_volume_claim {
            return persistent_volume_claim::set_up(request, &source.claim_name, source.read_only == Some(true)).await;
        }
        if volume.image.is_some() {
            // The runtime mounts it; the kubelet has it pulled when a container that mounts it starts.
            return Ok(Mounted { path: PathBuf::new(), readonly: true });
        }
        if volume.ephemeral.is_some() {
            let claim = format!("{}-{}", request.pod.metadata.name.as_deref().unwrap_or_default(), volume.name);
            return persistent_volume_claim::set_up(request, &claim, false).await;
        }
        Err(Error::Unsupported { what: type_name(volume) })
    }

    /// The contents of a volume made from API objects, and the plug-in's name; `None` for any other volume.
    async fn payload(
        &mut self,
        request: &Request<'_>,
        volume: &Volume,
    ) -> Result<Option<(&'static str, Payload)>, Error> {
        if let Some(source) = &volume.config_map {
            let payload = config_map::volume(request, source).await?;
            return Ok(Some(("configmap", payload)));
        }
        if let Some(source) = &volume.secret {
            let payload = secret::volume(request, source).await?;
            return Ok(Some(("secret", payload)));
        }
        if let Some(source) = &volume.downward_api {
            let mode = payload::mode(source.default_mode);
            let payload = downward_api::files(request, source.items.as_deref(), mode)?;
            return Ok(Some(("downward-api", payload)));
        }
        if let Some(source) = &volume.projected {
            let payload = projected::volume(request, source, &mut self.tokens).await?;
            return Ok(Some(("projected", payload)));
        }
        Ok(None)
    }
}

fn request<'a>(ctx: &'a Context, pod: &'a Pod, addresses: &'a Addresses) -> Request<'a> {
    Request {
        ctx,
        pod,
        addresses,
        namespace: pod.metadata.namespace.as_deref().unwrap_or_default(),
        pod_dir: ctx.config.pod_dir(pod.metadata.uid.as_deref().unwrap_or_default()),
    }
}

async fn write_payload(
    request: &Request<'_>,
    volume: &Volume,
    plugin: &str,
    payload: Payload,
) -> Result<PathBuf, Error> {
    let dir = request.dir(plugin, &volume.name);
    let group = request.fs_group();
    tokio::task::spawn_blocking(move || atomic_writer::write(&dir, &payload, group).map(|_| dir)).await?
}

/// The name of a volume's source as it stands in the pod.
fn type_name(volume: &Volume) -> String {
    match serde_json::to_value(volume) {
        Ok(serde_json::Value::Object(fields)) => {
            fields.keys().find(|key| *key != "name").cloned().unwrap_or_else(|| "unknown".into())
        }
        _ => "unknown".into(),
    }
}

/// Takes away everything a pod had on this node but its logs.
pub(crate) async fn tear_down(pod_dir: PathBuf) -> Result<(), Error> {
    tokio::task::spawn_blocking(move || {
        // What is mounted below must go first, or its contents would be removed with the folder.
        mounts::unmount_below(&pod_dir)?;
        match std::fs::remove_dir_all(&pod_dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &pod_dir)(error)),
            _ => Ok(()),
        }
    })
    .await?
}
