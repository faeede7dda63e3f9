//! projected volumes: several sources in one folder.

use k8s_openapi::api::core::v1::ProjectedVolumeSource;

use super::payload::{self, File, Payload};
use super::token::Tokens;
use super::{Error, Request, config_map, downward_api, secret};

/// The files of a projected volume; where two sources give a path, the later one counts.
pub(super) async fn volume(
    request: &Request<'_>,
    source: &ProjectedVolumeSource,
    tokens: &mut Tokens,
) -> Result<Payload, Error> {
    let mode = payload::mode(source.default_mode);
    let mut all = Payload::new();
    for projection in source.sources.iter().flatten() {
        if let Some(source) = &projection.config_map {
            let optional = source.optional == Some(true);
            all.extend(config_map::files(request, &source.name, source.items.as_deref(), mode, optional).await?);
        }
        if let Some(source) = &projection.secret {
            let optional = source.optional == Some(true);
            all.extend(secret::files(request, &source.name, source.items.as_deref(), mode, optional).await?);
        }
        if let Some(source) = &projection.downward_api {
            all.extend(downward_api::files(request, source.items.as_deref(), mode)?);
        }
        if let Some(source) = &projection.service_account_token {
            let token = tokens.get(request, source).await?;
            // With a group of the pod's own the token is for that group; with one user for all containers it is for
            // that user alone; else everybody in the pod may read it.
            let uid = sole_user(request);
            let mode = match (request.fs_group(), uid) {
                (Some(_), _) | (None, Some(_)) => 0o600,
                (None, None) => mode,
            };
            all.insert(payload::relative(&source.path)?, File { data: token.into_bytes(), mode, uid });
        }
        if projection.cluster_trust_bundle.is_some() {
            return Err(Error::Unsupported { what: "projected clusterTrustBundle".into() });
        }
        if projection.pod_certificate.is_some() {
            return Err(Error::Unsupported { what: "projected podCertificate".into() });
        }
    }
    Ok(all)
}

/// The user that all containers run as, if the pod says so.
fn sole_user(request: &Request<'_>) -> Option<u32> {
    let spec = request.pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|security| security.run_as_user);
    let mut users = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|container| container.security_context.as_ref().and_then(|security| security.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}
