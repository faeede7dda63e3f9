//! Claims bound to volumes that are paths of this node (hostPath and local).

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;

use super::{Error, Mounted, Request, fs_group, host_path};

/// The path of the volume a claim is bound to.
pub(super) async fn set_up(request: &Request<'_>, claim: &str, readonly: bool) -> Result<Mounted, Error> {
    let api = |what: String| move |source| Error::Api { what, source: Box::new(source) };
    let client = &request.ctx.client;
    let found = Api::<PersistentVolumeClaim>::namespaced(client.clone(), request.namespace)
        .get_opt(claim)
        .await
        .map_err(api(format!("persistentvolumeclaim {claim}")))?
        .ok_or_else(|| Error::NotFound { kind: "persistentvolumeclaim", name: claim.into() })?;
    let bound = found.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let volume = found.spec.and_then(|spec| spec.volume_name).filter(|name| bound && !name.is_empty());
    let Some(volume) = volume else { return Err(Error::Unbound { claim: claim.into() }) };
    let spec = Api::<PersistentVolume>::all(client.clone())
        .get_opt(&volume)
        .await
        .map_err(api(format!("persistentvolume {volume}")))?
        .and_then(|volume| volume.spec)
        .ok_or_else(|| Error::NotFound { kind: "persistentvolume", name: volume.clone() })?;
    let mounted = if let Some(source) = &spec.host_path {
        host_path::set_up(source)?
    } else if let Some(source) = &spec.local {
        let path = PathBuf::from(&source.path);
        if !path.exists() {
            return Err(Error::NotFound { kind: "local volume path", name: source.path.clone() });
        }
        Mounted { path, readonly: false }
    } else {
        return Err(Error::Unsupported { what: format!("persistentVolumeClaim on volume {volume}") });
    };
    if spec.local.is_some()
        && !readonly
        && let Some(group) = request.fs_group()
    {
        fs_group::apply(&mounted.path, group, only_on_mismatch(request))?;
    }
    Ok(Mounted { readonly, ..mounted })
}

fn only_on_mismatch(request: &Request<'_>) -> bool {
    let security = request.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    security.and_then(|security| security.fs_group_change_policy.as_deref()) == Some("OnRootMismatch")
}
