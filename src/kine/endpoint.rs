//! `--datastore-endpoint`: which database, and how to get there.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    Datastore,
    sql::{self, mysql, postgres, tls::Files},
    sqlite::{self, Sqlite},
};

/// What the flags of `k3s server` say of the datastore.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// `--datastore-endpoint`. Empty or `sqlite://`: SQLite, in the file [`Options::sqlite_file`]; `sqlite:///PATH` in
    /// the file `/PATH`.
    pub endpoint: String,
    /// `--datastore-cafile`, `--datastore-certfile` and `--datastore-keyfile`.
    pub tls: Files,
    /// Where SQLite's file is, if the endpoint names none: `state.db` in the data directory.
    pub sqlite_file: PathBuf,
    /// `--datastore-max-open-connections`; 0: as many as are of use.
    pub max_open_connections: u32,
    /// `--datastore-max-idle-connections`; 0: kine's two.
    pub max_idle_connections: u32,
    /// `--datastore-connection-max-lifetime`.
    pub connection_max_lifetime: Option<Duration>,
    /// How long a request waits for a server that is away; `None`: 20 s.
    pub request_timeout: Option<Duration>,
}

/// Why a datastore can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such kind of datastore.
    #[error("--datastore-endpoint={scheme}://…: there is no such datastore; use sqlite://, postgres:// or mysql://")]
    Scheme { scheme: String },
    /// It does not say what it should. `endpoint` is without the password.
    #[error("--datastore-endpoint={endpoint}: {detail}")]
    Malformed { endpoint: String, detail: String },
    /// The TLS options can't be used.
    #[error("datastore: {0}")]
    Tls(#[from] sql::tls::Error),
    /// It can't be opened.
    #[error(transparent)]
    Datastore(#[from] crate::Error),
}

/// A datastore that was opened.
#[derive(Clone)]
pub struct Opened {
    /// The datastore.
    pub store: Arc<dyn Datastore>,
    closes: Closes,
}

#[derive(Clone)]
enum Closes {
    Sqlite(Arc<Sqlite>),
    Sql(Arc<sql::Sql>),
}

impl Opened {
    /// Closes it: ends all watches, and leaves nothing open.
    ///
    /// # Errors
    /// Whatever the backend's own `close` gives.
    pub async fn close(&self) -> Result<(), crate::Error> {
        match &self.closes {
            Closes::Sqlite(store) => store.close().await,
            Closes::Sql(store) => store.close().await,
        }
    }
}

/// Opens the datastore that the options name.
///
/// # Errors
/// What is wrong with the options, or why the datastore they name can't be opened.
pub async fn open(options: &Options) -> Result<Opened, Error> {
    let endpoint = options.endpoint.trim();
    let (scheme, rest) = match endpoint.split_once("://") {
        _ if endpoint.is_empty() => ("sqlite", ""),
        Some((scheme, rest)) => (scheme, rest),
        None => {
            let detail = "it does not begin with a scheme, like postgres://".into();
            // There may be a password in it.
            return Err(Error::Malformed { endpoint: "…".into(), detail });
        }
    };
    let sql = sql::Options {
        max_open_connections: options.max_open_connections,
        max_idle_connections: options.max_idle_connections,
        connection_max_lifetime: options.connection_max_lifetime,
        request_timeout: options.request_timeout.unwrap_or(sql::Options::default().request_timeout),
        ..sql::Options::default()
    };
    match scheme {
        "sqlite" => {
            // Parameters are those of kine's own SQLite driver; what they set is fixed here.
            let path = rest.split_once('?').map_or(rest, |(path, _)| path);
            let path = if path.is_empty() { options.sqlite_file.clone() } else { PathBuf::from(path) };
            let open = move || Sqlite::open(&path, sqlite::Options::default());
            let opened = tokio::task::spawn_blocking(open)
                .await
                .map_err(|error| crate::Error::Backend { doing: "open the datastore", detail: error.to_string() })?;
            let store = Arc::new(opened?);
            Ok(Opened { store: store.clone(), closes: Closes::Sqlite(store) })
        }
        "postgres" | "postgresql" => {
            let store = Arc::new(postgres::open(postgres::Endpoint::parse(rest, &options.tls)?, sql).await?);
            Ok(Opened { store: store.clone(), closes: Closes::Sql(store) })
        }
        "mysql" => {
            let store = Arc::new(mysql::open(mysql::Endpoint::parse(rest, &options.tls)?, sql).await?);
            Ok(Opened { store: store.clone(), closes: Closes::Sql(store) })
        }
        other => Err(Error::Scheme { scheme: other.to_owned() }),
    }
}
