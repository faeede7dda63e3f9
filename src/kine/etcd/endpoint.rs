//! `https://a:2379,https://b:2379`: the members of a cluster, as etcd's own clients take them.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tonic::codegen::http::Uri;

use crate::{endpoint::Error, tls::Files};

/// etcd's port for clients.
const PORT: u16 = 2379;

/// Where an etcd cluster is, and how to get there.
pub struct Endpoint {
    pub(super) members: Vec<Address>,
    /// For people.
    pub(super) server: String,
}

/// Where one member is.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    /// With `https://`.
    pub(super) tls: Option<Tls>,
}

/// How a member proves who it is, and this server to it.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl Endpoint {
    /// Reads URLs that are separated by commas. Without `--datastore-cafile` members with `https://` are verified by
    /// the authorities that this machine trusts.
    ///
    /// # Errors
    /// What is wrong with it, or with a file of the TLS options.
    pub fn parse(urls: &str, files: &Files) -> Result<Self, Error> {
        let urls: Vec<&str> = urls.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
        let secure = urls.iter().any(|url| url.starts_with("https://"));
        let config = match secure {
            true => {
                let mut config = files.config_or_native()?;
                config.alpn_protocols = vec![b"h2".to_vec()];
                Some(Arc::new(config))
            }
            false if files.any() => {
                tracing::warn!("files for TLS to the datastore have no effect: no member of it is https://…");
                None
            }
            false => None,
        };
        let members = urls.iter().map(|url| address(url, config.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err(malformed("", "it names no member".into()));
        }
        Ok(Self { members, server: urls.join(",") })
    }
}

fn malformed(url: &str, detail: String) -> Error {
    // What is before an @ may be a password.
    let shown = match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    };
    Error::Malformed { endpoint: shown, detail }
}

fn address(url: &str, config: Option<&Arc<ClientConfig>>) -> Result<Address, Error> {
    let bad = |detail: &str| malformed(url, detail.to_owned());
    if !url.contains("://") {
        return Err(bad("each member of etcd begins with http:// or https://, as in https://a:2379,https://b:2379"));
    }
    let uri: Uri = url.parse().map_err(|error| malformed(url, format!("this is no URL: {error}")))?;
    let authority = uri.authority().ok_or_else(|| bad("there is no host in it"))?;
    if authority.as_str().contains('@') {
        return Err(bad("etcd is not logged into by user and password here; give client certificates instead"));
    }
    if uri.path_and_query().is_some_and(|path| path.as_str() != "/" && !path.as_str().is_empty()) {
        return Err(bad("a member of etcd has no path"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => PORT,
        _ => authority.port_u16().ok_or_else(|| bad("its port is no number up to 65535"))?,
    };
    if host.is_empty() {
        return Err(bad("there is no host in it"));
    }
    let tls = match (uri.scheme_str(), config) {
        (Some("http"), _) => None,
        (Some("https"), Some(config)) => {
            let name = ServerName::try_from(host.clone()).map_err(|_| bad("its host can't be in a certificate"))?;
            Some(Tls { config: Arc::clone(config), name })
        }
        _ => return Err(bad("each member of etcd begins with http:// or https://")),
    };
    Ok(Address { host, port, tls })
}

impl Address {
    /// Its URL, whose scheme is for etcd.
    pub(super) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    /// Host and port, as they stand in a URL.
    pub(super) fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_separated_by_commas() {
        let endpoint = Endpoint::parse("http://a:2379, http://[::1]:1/,http://c", &Files::default()).unwrap();
        let members: Vec<_> = endpoint.members.iter().map(Address::url).collect();
        assert_eq!(members, ["http://a:2379", "http://[::1]:1", "http://c:2379"]);
        assert_eq!(endpoint.members[1].host, "::1");
    }

    #[test]
    fn what_is_wrong_is_named_and_a_password_is_not() {
        for (urls, expected) in [
            ("http://a:2379,b:2379", "begins with http:// or https://"),
            ("http://a:2379,ftp://b", "begins with http:// or https://"),
            ("http://me:secret@a:2379", "client certificates"),
            ("http://a:2379/v2", "has no path"),
            ("http://a:port", "its port is no number"),
            ("http://a:99999", "its port is no number"),
            ("http://", "no URL"),
            (" , ", "names no member"),
        ] {
            let Err(error) = Endpoint::parse(urls, &Files::default()) else { panic!("{urls} is taken") };
            let error = error.to_string();
            assert!(error.contains(expected), "{urls}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let files = Files { ca: Some("/no/such/ca.crt".into()), ..Files::default() };
        let Err(error) = Endpoint::parse("https://a", &files) else { panic!("it is taken") };
        assert!(error.to_string().contains("/no/such/ca.crt"), "{error}");
    }
}
