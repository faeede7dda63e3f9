//! `--datastore-endpoint`: which database, and how to get there.

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    Datastore, Metrics,
    etcd::{self, Etcd},
    sql::{self, mysql, postgres},
    sqlite::{self, Sqlite},
    tls::{self, Files},
};

/// What the flags of `k3s server` say of the datastore.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--datastore-endpoint`. Empty or `sqlite://`: SQLite, in the file [`Options::sqlite_file`]; `sqlite:///PATH` in
    /// the file `/PATH`. `postgres://` and `mysql://`: a database server. `http://` and `https://`: the members of an etcd
    /// cluster, separated by commas.
    pub endpoint: String,
    /// `--datastore-cafile`, `--datastore-certfile` and `--datastore-keyfile`.
    pub tls: Files,
    /// Where SQLite's file is, if the endpoint names none: `state.db` in the data directory.
    pub sqlite_file: PathBuf,
    /// `--datastore-max-open-connections`; 0: as many as are of use.
    pub max_open_connections: u32,
    /// `--datastore-max-idle-connections`; 0: kine's two; less: none.
    pub max_idle_connections: i64,
    /// `--datastore-connection-max-lifetime`.
    pub connection_max_lifetime: Option<Duration>,
    /// How long a request waits for a server that is away; `None`: 20 s.
    pub request_timeout: Option<Duration>,
    /// How often the history is compacted; zero: only when asked.
    pub compact_interval: Duration,
    /// How many of the newest revisions automatic compaction never touches.
    pub compact_retain: i64,
    /// How often quiet watches are told where they stand; more than zero.
    pub progress_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            tls: Files::default(),
            sqlite_file: PathBuf::new(),
            max_open_connections: 0,
            max_idle_connections: 0,
            connection_max_lifetime: None,
            request_timeout: None,
            compact_interval: Duration::from_secs(300),
            compact_retain: 1000,
            progress_interval: Duration::from_secs(5),
        }
    }
}

impl Options {
    /// The file of SQLite, if that is what the endpoint names.
    ///
    /// # Errors
    /// [`Error::Scheme`] and [`Error::Malformed`].
    pub fn sqlite_path(&self) -> Result<Option<PathBuf>, Error> {
        Ok(match self.parts()? {
            // Parameters are those of kine's own SQLite driver; what they set is fixed here.
            ("sqlite" | "sqlite3", rest) => match rest.split('?').next().unwrap_or_default() {
                "" => Some(self.sqlite_file.clone()),
                path => Some(path.into()),
            },
            _ => None,
        })
    }

    /// Scheme and rest of the endpoint.
    fn parts(&self) -> Result<(&str, &str), Error> {
        match self.endpoint.trim() {
            "" | "sqlite" | "sqlite3" => Ok(("sqlite", "")),
            endpoint => endpoint.split_once("://").ok_or_else(|| {
                let detail = "it does not begin with a scheme, like postgres:// or https://".into();
                // There may be a password in it.
                Error::Malformed { endpoint: "…".into(), detail }
            }),
        }
    }

    fn compact_interval(&self) -> Option<Duration> {
        Some(self.compact_interval).filter(|interval| !interval.is_zero())
    }

    fn sql(&self) -> sql::Options {
        let default = sql::Options::default();
        sql::Options {
            compact_interval: self.compact_interval(),
            compact_retain: self.compact_retain,
            progress_interval: self.progress_interval,
            max_open_connections: self.max_open_connections,
            max_idle_connections: self.max_idle_connections,
            connection_max_lifetime: self.connection_max_lifetime,
            request_timeout: self.request_timeout.unwrap_or(default.request_timeout),
            ..default
        }
    }

    fn etcd(&self) -> etcd::Options {
        let default = etcd::Options::default();
        etcd::Options {
            compact_interval: self.compact_interval(),
            compact_retain: self.compact_retain,
            progress_interval: self.progress_interval,
            request_timeout: self.request_timeout.unwrap_or(default.request_timeout),
            ..default
        }
    }

    fn sqlite(&self) -> sqlite::Options {
        sqlite::Options {
            compact_interval: self.compact_interval(),
            compact_retain: self.compact_retain,
            progress_interval: self.progress_interval,
            ..sqlite::Options::default()
        }
    }
}

/// Why a datastore can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such kind of datastore.
    #[error(
        "datastore endpoint {scheme}://…: there is no such datastore; use sqlite://, postgres://, mysql://, \
             or https:// for etcd"
    )]
    Scheme { scheme: String },
    /// It does not say what it should. `endpoint` is without the password.
    #[error("datastore endpoint {endpoint}: {detail}")]
    Malformed { endpoint: String, detail: String },
    /// The TLS options can't be used.
    #[error("datastore: {0}")]
    Tls(#[from] tls::Error),
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
    Etcd(Arc<Etcd>),
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
            Closes::Etcd(store) => store.close().await,
        }
    }

    /// What it counts, to be registered with what shows metrics.
    pub fn metrics(&self) -> &Metrics {
        match &self.closes {
            Closes::Sqlite(store) => store.metrics(),
            Closes::Sql(store) => store.metrics(),
            Closes::Etcd(store) => store.metrics(),
        }
    }
}

/// Opens the datastore that the options name.
///
/// # Errors
/// What is wrong with the options, or why the datastore they name can't be opened.
pub async fn open(options: &Options) -> Result<Opened, Error> {
    if let Some(path) = options.sqlite_path()? {
        let sqlite = options.sqlite();
        let opened = tokio::task::spawn_blocking(move || Sqlite::open(&path, sqlite))
            .await
            .map_err(|error| crate::Error::Backend { doing: "open the datastore", detail: error.to_string() })?;
        let store = Arc::new(opened?);
        return Ok(Opened { store: store.clone(), closes: Closes::Sqlite(store) });
    }
    match options.parts()? {
        ("postgres" | "postgresql", rest) => {
            let endpoint = postgres::Endpoint::parse(rest, &options.tls)?;
            let store = Arc::new(postgres::open(endpoint, options.sql()).await?);
            Ok(Opened { store: store.clone(), closes: Closes::Sql(store) })
        }
        ("mysql", rest) => {
            let endpoint = mysql::Endpoint::parse(rest, &options.tls)?;
            let store = Arc::new(mysql::open(endpoint, options.sql()).await?);
            Ok(Opened { store: store.clone(), closes: Closes::Sql(store) })
        }
        ("http" | "https", _) => {
            let endpoint = etcd::Endpoint::parse(&options.endpoint, &options.tls)?;
            let store = Arc::new(Etcd::open(endpoint, options.etcd()).await?);
            Ok(Opened { store: store.clone(), closes: Closes::Etcd(store) })
        }
        (other, _) => Err(Error::Scheme { scheme: other.to_owned() }),
    }
}
