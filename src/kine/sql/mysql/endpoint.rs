//! `mysql://user:password@tcp(host:port)/database`, as the Go driver for MySQL reads it, which k3s uses.

use std::time::Duration;

use mysql_async::{ClientIdentity, OptsBuilder, SslOpts};

use crate::{
    endpoint::Error,
    tls::{self, Files},
};

/// The database, if the endpoint names none.
const DATABASE: &str = "kubernetes";
/// What kine connects to if the endpoint is only the scheme.
const DEFAULT_SOCKET: &str = "root@unix(/var/run/mysqld/mysqld.sock)/";
const DEFAULT_HOST: &str = "root@tcp(127.0.0.1)/";
/// Parameters of the Go driver that change nothing here.
const WITHOUT_EFFECT: [&str; 12] = [
    "allowNativePasswords",
    "charset",
    "checkConnLiveness",
    "clientFoundRows",
    "collation",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "readTimeout",
    "writeTimeout",
];

/// Where a MySQL database is, and how to get there.
pub struct Endpoint {
    pub(super) options: OptsBuilder,
    pub(super) database: String,
    pub(super) connect_timeout: Duration,
    /// For people: without password.
    pub(super) server: String,
}

impl Endpoint {
    /// Reads what follows `mysql://`.
    ///
    /// # Errors
    /// What is wrong with it, or with a file of the TLS options.
    pub fn parse(rest: &str, files: &Files) -> Result<Self, Error> {
        let default = if files.any() { DEFAULT_HOST } else { DEFAULT_SOCKET };
        let rest = if rest.is_empty() { default } else { rest };
        // A password may have any of these characters, so the database is what follows the last slash.
        let (location, query) = match rest.rsplit_once('/') {
            Some((_, database)) => {
                let path = &rest[..rest.len() - database.len()];
                let (database, query) = database.split_once('?').unwrap_or((database, ""));
                (&rest[..path.len() + database.len()], query)
            }
            None => (rest, ""),
        };
        let shown = format!("mysql://{}", location.rsplit_once('@').map_or(location, |(_, host)| host));
        let malformed = |detail: String| Error::Malformed { endpoint: shown.clone(), detail };
        let Some((login, database)) = location.rsplit_once('/') else {
            return Err(malformed("it has no slash before the database, as in user:password@tcp(host:3306)/db".into()));
        };
        let (user, address) = login.rsplit_once('@').unwrap_or(("", login));
        let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
        let mut options = OptsBuilder::default()
            .prefer_socket(false)
            .tcp_keepalive(Some(Duration::from_secs(20)))
            .stmt_cache_size(0)
            .user((!user.is_empty()).then_some(user))
            .pass(password);

        let (protocol, place) = match address.split_once('(') {
            Some((protocol, place)) => match place.strip_suffix(')') {
                Some(place) => (protocol, place),
                None => return Err(malformed("the address is not closed by a parenthesis".into())),
            },
            None => (address, ""),
        };
        match protocol {
            "unix" if place.is_empty() => return Err(malformed("unix() needs the path of a socket".into())),
            "unix" => options = options.socket(Some(place)),
            "" | "tcp" => {
                let (host, port) = host_and_port(place).map_err(&malformed)?;
                options = options.ip_or_hostname(host).tcp_port(port);
            }
            other => {
                return Err(malformed(format!("{other:?} is no protocol: write tcp(host:port) or unix(/path)")));
            }
        }

        let mut connect_timeout = Duration::from_secs(5);
        let mut tls = None;
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (name, value) {
                ("tls", _) => tls = Some(value),
                ("timeout", _) => {
                    connect_timeout = seconds(value)
                        .ok_or_else(|| malformed(format!("timeout={value}: write it in seconds, like 5s")))?;
                }
                _ if WITHOUT_EFFECT.contains(&name) => {}
                _ => return Err(malformed(format!("there is no parameter {name:?}"))),
            }
        }
        let ssl = SslOpts::default();
        options = match tls {
            Some("false") if !files.any() => options,
            None if !files.any() => options,
            // Without an authority there is nothing to verify with.
            Some("skip-verify" | "preferred") => {
                options.ssl_opts(identity(ssl, files)?.with_danger_accept_invalid_certs(true))
            }
            Some("true") | None => {
                let Some(ca) = &files.ca else {
                    let what = "verifying the server of the datastore".into();
                    return Err(tls::Error::NoAuthority { what }.into());
                };
                files.check()?;
                let ssl = ssl.with_disable_built_in_roots(true).with_root_certs(vec![ca.clone().into()]);
                options.ssl_opts(identity(ssl, files)?)
            }
            Some(other) => {
                return Err(malformed(format!("tls={other} is none of true, false, skip-verify and preferred")));
            }
        };
        let database = if database.is_empty() { DATABASE } else { database }.to_owned();
        Ok(Self { options, database, connect_timeout, server: shown })
    }
}

fn identity(ssl: SslOpts, files: &Files) -> Result<SslOpts, Error> {
    Ok(match files.identity()? {
        Some((cert, key)) => {
            ssl.with_client_identity(Some(ClientIdentity::new(cert.to_owned().into(), key.to_owned().into())))
        }
        None => ssl,
    })
}

fn host_and_port(place: &str) -> Result<(String, u16), String> {
    let (host, port) = match place.rsplit_once(':') {
        // An IPv6 address has colons of its own, within brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| format!("{port:?} is no port"))?),
        _ => (place, 3306),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((if host.is_empty() { "127.0.0.1" } else { host }.to_owned(), port))
}

/// A duration as Go writes it, in seconds or milliseconds.
fn seconds(text: &str) -> Option<Duration> {
    if let Some(milliseconds) = text.strip_suffix("ms") {
        return milliseconds.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?.parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use mysql_async::Opts;

    use super::*;

    #[test]
    fn an_endpoint_says_host_user_and_database() {
        let endpoint = Endpoint::parse("me:p@/ss@tcp(db.example:3307)/k3s?parseTime=true", &Files::default()).unwrap();
        let options = Opts::from(endpoint.options);
        assert_eq!((options.ip_or_hostname(), options.tcp_port()), ("db.example", 3307));
        assert_eq!((options.user(), options.pass()), (Some("me"), Some("p@/ss")));
        assert_eq!((endpoint.database.as_str(), endpoint.server.as_str()), ("k3s", "mysql://tcp(db.example:3307)/k3s"));
    }

    #[test]
    fn what_is_not_said_is_as_in_k3s() {
        let endpoint = Endpoint::parse("", &Files::default()).unwrap();
        let options = Opts::from(endpoint.options);
        assert_eq!((options.socket(), options.user()), (Some("/var/run/mysqld/mysqld.sock"), Some("root")));
        assert_eq!(endpoint.database, "kubernetes");
        let options = Opts::from(Endpoint::parse("me@tcp([::1])/", &Files::default()).unwrap().options);
        assert_eq!((options.ip_or_hostname(), options.tcp_port()), ("::1", 3306));
    }

    #[test]
    fn what_is_wrong_is_named_and_the_password_is_not() {
        for (rest, expected) in [
            ("me:secret@tcp(host:3306)", "no slash"),
            ("me:secret@tcp(host:port)/db", "\"port\" is no port"),
            ("me:secret@host:3306/db", "is no protocol"),
            ("me:secret@unix()/db", "path of a socket"),
            ("me:secret@tcp(host/db", "parenthesis"),
            ("me:secret@tcp(host)/db?tls=maybe", "tls=maybe"),
            ("me:secret@tcp(host)/db?tls=true", "--datastore-cafile"),
            ("me:secret@tcp(host)/db?colour=red", "colour"),
        ] {
            let Err(error) = Endpoint::parse(rest, &Files::default()) else { panic!("{rest} is taken") };
            let error = error.to_string();
            assert!(error.contains(expected), "{rest}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
