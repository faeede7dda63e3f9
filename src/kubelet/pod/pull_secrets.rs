//! Credentials of a pod's `imagePullSecrets`, matched to images as Kubernetes' credential keyring does.

use std::collections::BTreeMap;

use k3s_cri::{Error, RegistryAuth};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use serde::Deserialize;

use crate::context::Context;

/// An entry of a Docker configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    identitytoken: String,
    registrytoken: String,
}

/// `config.json` of Docker.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DockerConfig {
    auths: BTreeMap<String, Entry>,
}

/// Pulls an image with each credential that fits it until one works; with none, if none fits.
pub(super) async fn pull(ctx: &Context, pod: &Pod, image: &str) -> Result<String, Error> {
    let fitting: Vec<RegistryAuth> =
        read(ctx, pod).await.into_iter().filter(|(key, _)| fits(key, image)).map(|(_, auth)| auth).collect();
    if fitting.is_empty() {
        return ctx.images.pull_image(image, None).await;
    }
    let mut last = None;
    for auth in &fitting {
        match ctx.images.pull_image(image, Some(auth)).await {
            Ok(id) => return Ok(id),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::NotFound { what: format!("image {image}") }))
}

/// The entries of all secrets, longest key first. A secret that is missing or damaged is left out, as in Kubernetes:
/// the image may be had without it.
async fn read(ctx: &Context, pod: &Pod) -> Vec<(String, RegistryAuth)> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let api: Api<Secret> = Api::namespaced(ctx.client.clone(), namespace);
    let mut entries = Vec::new();
    for reference in pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten()) {
        match api.get(&reference.name).await {
            Ok(secret) => match parse(&secret) {
                Ok(found) => entries.extend(found),
                Err(error) => tracing::warn!(namespace, secret = reference.name, error, "pull secret is damaged"),
            },
            Err(error) => tracing::warn!(namespace, secret = reference.name, %error, "cannot read pull secret"),
        }
    }
    entries.sort_by(|one, other| other.0.len().cmp(&one.0.len()).then_with(|| one.0.cmp(&other.0)));
    entries
}

fn parse(secret: &Secret) -> Result<Vec<(String, RegistryAuth)>, String> {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    let auths = if let Some(json) = data(".dockerconfigjson") {
        serde_json::from_slice::<DockerConfig>(&json.0).map_err(|error| error.to_string())?.auths
    } else if let Some(json) = data(".dockercfg") {
        serde_json::from_slice(&json.0).map_err(|error| error.to_string())?
    } else {
        return Err("it has neither .dockerconfigjson nor .dockercfg".to_owned());
    };
    let auth = |entry: Entry| RegistryAuth {
        username: entry.username,
        password: entry.password,
        auth: entry.auth,
        identity_token: entry.identitytoken,
        registry_token: entry.registrytoken,
        server_address: String::new(),
    };
    Ok(auths.into_iter().map(|(key, entry)| (normalize(&key), auth(entry))).collect())
}

/// A key without scheme and API version: `https://index.docker.io/v1/` is `index.docker.io`.
fn normalize(key: &str) -> String {
    let rest = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let rest = rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest);
    rest.trim_end_matches('/').to_owned()
}

/// Is a key for an image: the same host (`*` stands for part of a label), and the image's path below the key's.
fn fits(key: &str, image: &str) -> bool {
    let (host, path) = split(image);
    let (key_host, key_path) = key.split_once('/').unwrap_or((key, ""));
    let below = path
        .strip_prefix(key_path)
        .is_some_and(|rest| key_path.is_empty() || rest.is_empty() || rest.starts_with(['/', ':', '@']));
    let hub = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    let same = if hub.contains(&host) { hub.contains(&key_host) } else { host_fits(key_host, host) };
    same && below
}

fn split(image: &str) -> (&str, &str) {
    match image.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
        _ => ("docker.io", image),
    }
}

fn host_fits(pattern: &str, host: &str) -> bool {
    let (pattern, port) = pattern.split_once(':').map_or((pattern, None), |(name, port)| (name, Some(port)));
    let (host, host_port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
    if port != host_port {
        return false;
    }
    let (patterns, labels): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    patterns.len() == labels.len() && patterns.iter().zip(labels).all(|(pattern, label)| label_fits(pattern, label))
}

fn label_fits(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((before, after)) => label
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|cut| rest.get(cut..).is_some_and(|end| label_fits(after, end)))),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn keys_fit_images_of_their_registry_and_path() {
        for (key, image, expected) in [
            ("index.docker.io", "busybox", true),
            ("docker.io", "docker.io/team/app:1", true),
            ("ghcr.io", "ghcr.io/team/app", true),
            ("ghcr.io", "quay.io/team/app", false),
            ("ghcr.io/team", "ghcr.io/team/app:1", true),
            ("ghcr.io/team", "ghcr.io/teams/app", false),
            ("*.example.com", "eu.example.com/app", true),
            ("*.example.com", "example.com/app", false),
            ("r*.example.com", "registry.example.com/app", true),
            ("localhost:5000", "localhost:5000/app", true),
            ("localhost:5000", "localhost:5001/app", false),
        ] {
            assert_eq!(fits(key, image), expected, "{key} {image}");
        }
    }

    #[test]
    fn both_kinds_of_secrets_are_read() {
        let secret = |key: &str, json: &str| Secret {
            data: Some(BTreeMap::from([(key.to_owned(), ByteString(json.as_bytes().to_vec()))])),
            ..Secret::default()
        };
        let entry = r#"{"https://index.docker.io/v1/": {"username": "u", "password": "p"}}"#;
        for secret in [secret(".dockercfg", entry), secret(".dockerconfigjson", &format!("{{\"auths\": {entry}}}"))] {
            let parsed = parse(&secret).unwrap();
            assert_eq!((parsed[0].0.as_str(), parsed[0].1.username.as_str()), ("index.docker.io", "u"));
        }
        assert!(parse(&secret("other", entry)).is_err());
        assert!(parse(&secret(".dockercfg", "{")).is_err());
    }
}
