//! The certificates of a server, under the names k3s gives them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

use crate::certificate::{Authority, Error, Pair, Usage};
use crate::file::{private_dir, write_atomically};

/// How the server and its node are called.
#[derive(Debug, Clone)]
pub struct Names {
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    /// First address of the service network: the `kubernetes` service.
    pub service_ip: IpAddr,
    pub cluster_domain: String,
    /// `--tls-san`: names or addresses.
    pub extra: Vec<String>,
}

/// Everything in `server/tls`, and the node's certificates in `agent`.
#[derive(Debug)]
pub struct Tls {
    pub server_ca: Authority,
    pub client_ca: Authority,
    pub request_header_ca: Authority,
    pub serving_kube_apiserver: Pair,
    pub serving_kubelet: Pair,
    pub client_admin: Pair,
    pub client_kube_apiserver: Pair,
    pub client_auth_proxy: Pair,
    /// Signs service account tokens; PKCS #8 PEM, ECDSA P-256.
    pub service_key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").finish_non_exhaustive()
    }
}

impl Tls {
    /// Takes what is in the folders and makes what is missing, expires or does not fit `names`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn load_or_create(server_tls: &Path, agent: &Path, names: &Names) -> Result<Self, Error> {
        private_dir(server_tls)?;
        private_dir(agent)?;
        let server_ca = Authority::load_or_create(server_tls, "server-ca")?;
        let client_ca = Authority::load_or_create(server_tls, "client-ca")?;
        let request_header_ca = Authority::load_or_create(server_tls, "request-header-ca")?;
        let client = |file: &str, name: &str, groups: &[&str]| {
            let organizations = groups.iter().map(|group| (*group).to_owned()).collect();
            client_ca.issue(&server_tls.join(file), name, &Usage::Client { organizations })
        };
        let node_user = format!("system:node:{}", names.node_name);
        let nodes = Usage::Client { organizations: vec!["system:nodes".to_owned()] };
        client_ca.issue(&agent.join("client-kubelet"), &node_user, &nodes)?;
        let kubelet = Usage::Server {
            names: vec![names.node_name.clone(), "localhost".to_owned()],
            addresses: names.node_ips.iter().copied().chain([IpAddr::V4(Ipv4Addr::LOCALHOST)]).collect(),
        };
        Ok(Self {
            serving_kube_apiserver: server_ca.issue(
                &server_tls.join("serving-kube-apiserver"),
                "kube-apiserver",
                &apiserver_usage(names),
            )?,
            serving_kubelet: server_ca.issue(&agent.join("serving-kubelet"), &names.node_name, &kubelet)?,
            client_admin: client("client-admin", "system:admin", &["system:masters"])?,
            client_kube_apiserver: client("client-kube-apiserver", "system:apiserver", &["system:masters"])?,
            client_auth_proxy: request_header_ca.issue(
                &server_tls.join("client-auth-proxy"),
                "system:auth-proxy",
                &Usage::Client { organizations: Vec::new() },
            )?,
            service_key: service_key(&server_tls.join("service.key"))?,
            server_ca,
            client_ca,
            request_header_ca,
        })
    }
}

fn apiserver_usage(names: &Names) -> Usage {
    let mut dns: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("kubernetes.default.svc.{}", names.cluster_domain), names.node_name.clone()])
        .collect();
    let mut addresses: Vec<IpAddr> =
        [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), names.service_ip]
            .into_iter()
            .chain(names.node_ips.iter().copied())
            .collect();
    for extra in &names.extra {
        match extra.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => dns.push(extra.clone()),
        }
    }
    Usage::Server { names: dns, addresses }
}

fn service_key(path: &Path) -> Result<String, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            KeyPair::from_pem(&text)
                .map_err(|error| Error::Damaged { path: path.to_owned(), detail: error.to_string() })?;
            Ok(text)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
                .map_err(|source| Error::Generate { name: "service".to_owned(), source })?
                .serialize_pem();
            write_atomically(path, key.as_bytes(), 0o600)?;
            Ok(key)
        }
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}
