//! Which endpoints to ask for an image, in which order and how: k3s's rules over containerd's.

use std::collections::HashSet;

use http::Uri;
use k3s_cri::RegistryAuth;

use super::config::{HostConfig, Mirror, Registries, Tls};
use crate::image::Reference;

/// One place to ask for an image.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// Scheme, host and path below which the API is, without a slash at the end: `https://registry-1.docker.io/v2`.
    pub base: String,
    /// Host and port.
    pub host: String,
    /// The repository as this endpoint calls it.
    pub repository: String,
    /// The registry it stands for, if it is another one's mirror.
    pub namespace: Option<String>,
    /// From `registries.yaml`.
    pub auth: Option<RegistryAuth>,
    pub(super) tls: Option<Tls>,
}

impl Endpoint {
    pub(super) fn manifest_url(&self, reference: &str) -> String {
        self.url(&format!("manifests/{reference}"))
    }

    pub(super) fn blob_url(&self, digest: &str) -> String {
        self.url(&format!("blobs/{digest}"))
    }

    /// What to show here: what the caller brought, if it is for this host, else what `registries.yaml` has.
    pub(crate) fn credentials<'a>(&'a self, given: Option<&'a RegistryAuth>) -> Option<&'a RegistryAuth> {
        let fits = |auth: &&RegistryAuth| {
            let server = auth.server_address.split("://").last().and_then(|rest| rest.split('/').next());
            server.is_none_or(|server| server.is_empty() || default_host(server) == self.host)
        };
        given.filter(fits).or(self.auth.as_ref())
    }

    fn url(&self, rest: &str) -> String {
        let namespace = self.namespace.as_ref().map(|name| format!("?ns={name}")).unwrap_or_default();
        format!("{}/{}/{rest}{namespace}", self.base, self.repository)
    }
}

impl Registries {
    /// The endpoints for an image, first to last.
    pub(crate) fn endpoints(&self, reference: &Reference) -> Vec<Endpoint> {
        let registry = reference.registry();
        let mirror = self.mirrors.get(registry).or_else(|| self.mirrors.get("*"));
        let mut endpoints: Vec<Endpoint> = Vec::new();
        let mut seen = HashSet::new();
        for address in mirror.iter().flat_map(|mirror| &mirror.endpoints) {
            let Some((base, host)) = normalize(address) else {
                tracing::warn!(registry, endpoint = address, "ignoring an invalid endpoint of registries.yaml");
                continue;
            };
            if seen.insert(base.clone()) {
                let repository = mirror.map_or_else(String::new, |mirror| rewrite(mirror, reference.repository()));
                endpoints.push(self.endpoint(base, host, repository, registry));
            }
        }
        let Some((base, host)) = normalize(registry) else { return endpoints };
        let keep = mirror.is_none() || !self.no_default_endpoint;
        if keep && !seen.contains(&base) {
            endpoints.push(self.endpoint(base, host, reference.repository().to_owned(), registry));
        }
        endpoints
    }

    fn endpoint(&self, base: String, host: String, repository: String, registry: &str) -> Endpoint {
        let config = self.config(&host);
        let namespace = (host != default_host(registry)).then(|| registry.to_owned());
        Endpoint {
            auth: config.and_then(|config| config.auth.as_ref()).map(RegistryAuth::from),
            tls: config.or_else(|| self.configs.get("*")).and_then(|config| config.tls.clone()),
            base,
            host,
            repository,
            namespace,
        }
    }

    fn config(&self, host: &str) -> Option<&HostConfig> {
        let name = if host == DOCKER_HOST { "docker.io" } else { host };
        self.configs.get(host).or_else(|| self.configs.get(name))
    }
}

/// Where Docker Hub's API is.
const DOCKER_HOST: &str = "registry-1.docker.io";

fn default_host(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HOST } else { registry }
}

/// Base and host of an endpoint as it is written: scheme and path are optional.
fn normalize(address: &str) -> Option<(String, String)> {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
        Some(_) => return None,
        None => (None, address),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = default_host(authority).to_owned();
    let uri: Uri = format!("https://{host}/").parse().ok()?;
    let port = uri.port_u16();
    let plain = is_localhost(uri.host()?) && port.is_some_and(|port| port != 443);
    let scheme = scheme.unwrap_or(if plain { "http" } else { "https" });
    let path = match path.trim_end_matches('/') {
        "" | "v2" => "v2",
        // As it is: the user knows where the API is.
        path => path,
    };
    Some((format!("{scheme}://{host}/{path}"), host))
}

/// Registries on this very machine speak HTTP unless they are told to, as with containerd.
fn is_localhost(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The repository's name in a mirror, by the first rewrite that fits.
fn rewrite(mirror: &Mirror, repository: &str) -> String {
    for (pattern, replacement) in &mirror.rewrites {
        // It was compiled once when the file was read.
        let Ok(pattern) = regex::Regex::new(pattern) else { continue };
        if pattern.is_match(repository) {
            return pattern.replace_all(repository, replacement.as_str()).into_owned();
        }
    }
    repository.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(registries: &Registries, image: &str) -> Vec<String> {
        let reference = Reference::parse(image).unwrap();
        registries.endpoints(&reference).iter().map(|endpoint| endpoint.manifest_url("t")).collect()
    }

    #[test]
    fn without_configuration_the_registry_itself_is_asked() {
        let none = Registries::default();
        for (image, url) in [
            ("busybox", "https://registry-1.docker.io/v2/library/busybox/manifests/t"),
            ("ghcr.io/a/b", "https://ghcr.io/v2/a/b/manifests/t"),
            ("localhost:5000/a", "http://localhost:5000/v2/a/manifests/t"),
            ("127.0.0.1:5000/a", "http://127.0.0.1:5000/v2/a/manifests/t"),
            ("localhost/a", "https://localhost/v2/a/manifests/t"),
        ] {
            assert_eq!(urls(&none, image), [url]);
        }
    }

    #[test]
    fn mirrors_come_first_in_order_with_names_rewritten() {
        let mut registries = Registries::from_text(
            r#"
mirrors:
  docker.io:
    endpoint: ["http://m1:5000", "m2", "m3/custom/v2", "http://m1:5000/v2"]
    rewrite: {"^rancher/(.*)": "mirror/$1"}
  "*":
    endpoint: ["http://wild"]
configs:
  m2: {auth: {username: u}}
"#,
        );
        let all = [
            "http://m1:5000/v2/mirror/k3s/manifests/t?ns=docker.io",
            "https://m2/v2/mirror/k3s/manifests/t?ns=docker.io",
            "https://m3/custom/v2/mirror/k3s/manifests/t?ns=docker.io",
            "https://registry-1.docker.io/v2/rancher/k3s/manifests/t",
        ];
        assert_eq!(urls(&registries, "rancher/k3s"), all);
        let other = ["http://wild/v2/a/manifests/t?ns=quay.io", "https://quay.io/v2/a/manifests/t"];
        assert_eq!(urls(&registries, "quay.io/a"), other);
        registries.no_default_endpoint = true;
        assert_eq!(urls(&registries, "rancher/k3s"), all[..3]);
        assert_eq!(urls(&registries, "quay.io/a"), other[..1]);
        let endpoints = registries.endpoints(&Reference::parse("rancher/k3s").unwrap());
        assert_eq!(endpoints[1].auth.as_ref().unwrap().username, "u");
        assert!(endpoints[0].auth.is_none());
    }

    #[test]
    fn a_mirror_that_is_the_registry_itself_is_asked_once() {
        let registries = Registries::from_text("mirrors: {docker.io: {endpoint: [\"https://docker.io\"]}}");
        assert_eq!(urls(&registries, "busybox").len(), 1);
    }
}
