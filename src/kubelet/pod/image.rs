//! Having a container's image, by its pull policy.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k3s_cri::{Error, Image};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;

use super::backoff::Backoff;
use super::memory::Waiting;
use super::pull_secrets;
use super::spec::ContainerSpec;
use super::start::Failure;
use crate::context::Context;
use crate::events::Severity;

/// After a failed pull its error shows for so long, then the back-off.
const SHOW_ERROR: Duration = Duration::from_secs(2);

/// A container's failed pulls, by image: its own and those that are its volumes.
#[derive(Debug, Default)]
pub(super) struct Pulls(BTreeMap<String, Failed>);

/// Failed pulls of an image.
#[derive(Debug, Default)]
struct Failed {
    backoff: Backoff,
    /// What the last one failed with, as users are told.
    error: String,
}

/// The image of a container, pulled if its policy says so.
pub(super) async fn ensure(
    ctx: &Context,
    pod: &Pod,
    spec: &ContainerSpec,
    pulls: &Mutex<Pulls>,
) -> Result<Image, Failure> {
    let name = spec.container.image.clone().unwrap_or_default();
    let policy = policy(spec.container.image_pull_policy.as_deref(), &name);
    have(ctx, pod, Some(spec.field_path()), &name, policy, pulls).await
}

/// Ids of the images that are volumes of a container (KEP-4639), by the volumes' names.
pub(super) async fn of_volumes(
    ctx: &Context,
    pod: &Pod,
    spec: &ContainerSpec,
    pulls: &Mutex<Pulls>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut found = BTreeMap::new();
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        let mounted = spec.container.volume_mounts.iter().flatten().any(|mount| mount.name == volume.name);
        let Some(source) = volume.image.as_ref().filter(|_| mounted) else { continue };
        let name = source.reference.clone().unwrap_or_default();
        let policy = policy(source.pull_policy.as_deref(), &name);
        let image = have(ctx, pod, None, &name, policy, pulls).await?;
        found.insert(volume.name.clone(), image.id);
    }
    Ok(found)
}

async fn have(
    ctx: &Context,
    pod: &Pod,
    field_path: Option<String>,
    name: &str,
    policy: &str,
    pulls: &Mutex<Pulls>,
) -> Result<Image, Failure> {
    let event = |severity, reason, message: String| {
        ctx.recorder.pod(pod, field_path.clone(), severity, reason, message);
    };
    let present = match ctx.images.image_status(name).await {
        Ok(present) => present,
        Err(Error::InvalidArgument { detail }) => {
            let message = format!("Failed to apply default image tag \"{name}\": {detail}");
            event(Severity::Warning, "InspectFailed", message.clone());
            event(Severity::Warning, "Failed", "Error: InvalidImageName".into());
            return Err(Failure::new("InvalidImageName", message, Duration::from_secs(300)));
        }
        Err(error) => {
            let message = format!("Failed to inspect image \"{name}\": {error}");
            event(Severity::Warning, "InspectFailed", message.clone());
            return Err(Failure::new("ImageInspectError", message, Duration::from_secs(5)));
        }
    };
    match (policy, present) {
        ("IfNotPresent" | "Never", Some(image)) => {
            let message =
                format!("Container image \"{name}\" already present on machine and can be accessed by the pod");
            event(Severity::Normal, "Pulled", message);
            Ok(image)
        }
        ("Never", None) => {
            let message = format!("Container image \"{name}\" is not present with pull policy of Never");
            event(Severity::Warning, "ErrImageNeverPull", message.clone());
            event(Severity::Warning, "Failed", "Error: ErrImageNeverPull".into());
            Err(Failure::new("ErrImageNeverPull", message, Duration::from_secs(10)))
        }
        _ => pull(ctx, pod, name, pulls, event).await,
    }
}

/// The API server sets the policy; without one it is as there.
fn policy<'a>(given: Option<&'a str>, image: &str) -> &'a str {
    match given {
        Some(policy) if !policy.is_empty() => policy,
        _ => {
            let tagged = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
            if !tagged || image.ends_with(":latest") { "Always" } else { "IfNotPresent" }
        }
    }
}

async fn pull(
    ctx: &Context,
    pod: &Pod,
    name: &str,
    pulls: &Mutex<Pulls>,
    event: impl Fn(Severity, &'static str, String),
) -> Result<Image, Failure> {
    let waits = {
        let pulls = pulls.lock();
        pulls.0.get(name).and_then(|failed| {
            let left = failed.backoff.remaining_since_update(Timestamp::now())?;
            Some((left, failed.error.clone()))
        })
    };
    if let Some((left, error)) = waits {
        event(Severity::Normal, "BackOff", format!("Back-off pulling image \"{name}\""));
        let message = format!("Back-off pulling image \"{name}\": ErrImagePull: {error}");
        event(Severity::Warning, "Failed", "Error: ImagePullBackOff".into());
        return Err(Failure::new("ImagePullBackOff", message, left));
    }
    event(Severity::Normal, "Pulling", format!("Pulling image \"{name}\""));
    let began = Instant::now();
    let pulled = async {
        let id = pull_secrets::pull(ctx, pod, name).await?;
        match ctx.images.image_status(&id).await? {
            Some(image) => Ok(image),
            None => Err(Error::NotFound { what: format!("image {id} after it was pulled") }),
        }
    };
    match pulled.await {
        Ok(image) => {
            let took = began.elapsed().as_millis();
            let took = if took < 1000 { format!("{took}ms") } else { format!("{:.3}s", took as f64 / 1000.0) };
            let message = format!(
                "Successfully pulled image \"{name}\" in {took} ({took} including waiting). Image size: {} bytes.",
                image.size
            );
            event(Severity::Normal, "Pulled", message);
            Ok(image)
        }
        Err(error) => {
            let (now, error) = (Timestamp::now(), error.rpc());
            {
                let mut pulls = pulls.lock();
                let failed = pulls.0.entry(name.to_owned()).or_default();
                failed.backoff.count(now, now);
                failed.error.clone_from(&error);
            }
            event(Severity::Warning, "Failed", format!("Failed to pull image \"{name}\": {error}"));
            event(Severity::Warning, "Failed", "Error: ErrImagePull".into());
            Err(Failure::new("ErrImagePull", error, SHOW_ERROR))
        }
    }
}

impl Failure {
    /// The container waits for `reason`; it is tried again after `retry`.
    pub(super) fn new(reason: &'static str, message: String, retry: Duration) -> Self {
        Self { waiting: Waiting { reason, message }, retry }
    }
}
