//! `postgres://user:password@host:port/database?sslmode=…`, as the Go client `lib/pq` reads it, which k3s uses.

use std::{path::PathBuf, sync::Arc, time::Duration};

use percent_encoding::percent_decode_str;
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};

use super::MakeTls;
use crate::{
    endpoint::Error,
    tls::{self, Files, Verify},
};

/// What kine connects to if the endpoint is only the scheme.
const DEFAULT: &str = "postgres:postgres@localhost/";
/// The database, if the endpoint names none.
const DATABASE: &str = "kubernetes";

/// Where a PostgreSQL database is, and how to get there.
pub struct Endpoint {
    pub(super) config: Config,
    pub(super) database: String,
    pub(super) tls: Option<MakeTls>,
    /// For people: without password.
    pub(super) server: String,
}

impl Endpoint {
    /// Reads what follows `postgres://`.
    ///
    /// # Errors
    /// What is wrong with it, or with a file that it names.
    pub fn parse(rest: &str, files: &Files) -> Result<Self, Error> {
        let rest = if rest.is_empty() { DEFAULT } else { rest };
        let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
        let shown = format!("postgres://{}", location.rsplit_once('@').map_or(location, |(_, host)| host));
        let malformed = |detail: String| Error::Malformed { endpoint: shown.clone(), detail };
        let mut files = files.clone();
        let mut mode = None;
        let mut others = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = || percent_decode_str(value).decode_utf8_lossy().into_owned();
            match name {
                "sslmode" => mode = Some(value()),
                // What the endpoint says comes before the flags.
                "sslrootcert" => files.ca = Some(PathBuf::from(value())),
                "sslcert" => files.cert = Some(PathBuf::from(value())),
                "sslkey" => files.key = Some(PathBuf::from(value())),
                _ => others.push(pair),
            }
        }
        let url = format!("postgres://{location}?{}", others.join("&"));
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            malformed(format!("{error}{cause}"))
        })?;
        if config.get_hosts().is_empty() {
            config.host("localhost");
        }
        if config.get_user().is_none_or(str::is_empty) {
            return Err(malformed("it names no user".into()));
        }
        let database = config.get_dbname().filter(|name| !name.is_empty()).unwrap_or(DATABASE).to_owned();
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        // A server that vanishes without a word is noticed by the kernel.
        config.keepalives_idle(Duration::from_secs(20)).tcp_user_timeout(Duration::from_secs(30));
        config.application_name("k3s");

        files.identity()?;
        let local = config.get_hosts().iter().all(|host| matches!(host, Host::Unix(_)));
        let default = if files.any() { "verify-full" } else { "require" };
        let verify = match mode.as_deref().unwrap_or(default) {
            // As in every client: a socket of this host needs no TLS.
            _ if local => None,
            "disable" => None,
            "allow" | "prefer" => Some((SslMode::Prefer, Verify::Nothing)),
            "require" if files.ca.is_none() => Some((SslMode::Require, Verify::Nothing)),
            "require" | "verify-ca" => Some((SslMode::Require, Verify::Authority)),
            "verify-full" => Some((SslMode::Require, Verify::Full)),
            other => {
                let modes = "disable, prefer, require, verify-ca or verify-full";
                return Err(malformed(format!("sslmode={other} is none of {modes}")));
            }
        };
        let tls = match verify {
            None => {
                config.ssl_mode(SslMode::Disable);
                None
            }
            Some((mode, verify)) => {
                if verify != Verify::Nothing && files.ca.is_none() {
                    return Err(tls::Error::NoAuthority { what: "verifying the server of the datastore".into() }.into());
                }
                config.ssl_mode(mode);
                Some(MakeTls(Arc::new(files.config(verify)?)))
            }
        };
        Ok(Self { config, database, tls, server: shown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Endpoint {
        Endpoint::parse(rest, &Files::default()).unwrap_or_else(|error| panic!("{rest}: {error}"))
    }

    #[test]
    fn an_endpoint_says_host_user_database_and_tls() {
        let endpoint = parse("me:p%40ss@db.example:6432/k3s?sslmode=disable");
        assert_eq!(endpoint.config.get_hosts(), [Host::Tcp("db.example".into())]);
        assert_eq!(endpoint.config.get_ports(), [6432]);
        assert_eq!((endpoint.config.get_user(), endpoint.config.get_password()), (Some("me"), Some(&b"p@ss"[..])));
        assert_eq!(endpoint.database, "k3s");
        assert!(endpoint.tls.is_none());
        assert_eq!(endpoint.server, "postgres://db.example:6432/k3s");
    }

    #[test]
    fn what_is_not_said_is_as_in_k3s() {
        let endpoint = parse("");
        assert_eq!(
            (endpoint.config.get_user(), endpoint.config.get_password()),
            (Some("postgres"), Some(&b"postgres"[..]))
        );
        assert_eq!(endpoint.database, "kubernetes");
        assert_eq!(endpoint.config.get_ssl_mode(), SslMode::Require);
        let local = parse("me@/?host=/run/postgresql");
        assert_eq!(local.config.get_hosts(), [Host::Unix("/run/postgresql".into())]);
        assert!(local.tls.is_none());
    }

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not() {
        for (rest, expected) in [
            ("me:secret@host:port/db", "invalid"),
            ("me:secret@host/db?sslmode=maybe", "sslmode=maybe"),
            ("me:secret@host/db?colour=red", "colour"),
            ("host/db", "no user"),
            ("me:secret@host/db?sslmode=verify-full", "--datastore-cafile"),
            ("me:secret@host/db?sslrootcert=/no/such/file", "/no/such/file"),
        ] {
            let Err(error) = Endpoint::parse(rest, &Files::default()) else { panic!("{rest} is taken") };
            let error = error.to_string();
            assert!(error.contains(expected), "{rest}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
