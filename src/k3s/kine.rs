//! `k3s kine`: the datastore alone, as etcd v3, with the flags of the project kine.

mod metrics;
mod without_effect;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use k3s_env::{LogFormat, Logging};
use k3s_kine::grpc::{self, Address, Listener, Tls};
use k3s_kine::{endpoint, sqlite, tls};
use tokio_util::sync::CancellationToken;

use self::without_effect::WithoutEffect;
use crate::{kubectl, server};

/// Run the datastore alone, with etcd's interface
#[derive(Parser)]
#[command(name = "k3s kine", no_binary_name = true)]
struct Flags {
    /// Where to listen: ADDRESS:PORT, or unix:///PATH
    #[arg(long, default_value = "0.0.0.0:2379", value_name = "ADDRESS")]
    listen_address: Address,
    /// Where the data is: sqlite://PATH, postgres://…, mysql://…, or https://A:2379,https://B:2379 for etcd
    #[arg(long, default_value = "", value_name = "URL", hide_default_value = true)]
    endpoint: String,
    /// Authorities that the database's certificate must lead to
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Certificate to show to the database
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// Key of the certificate for the database
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// Connections to a database server that are kept although nothing uses them; 0: two; less: none
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "N")]
    datastore_max_idle_connections: i64,
    /// Connections to a database server at once; 0: as many as are of use
    #[arg(long, default_value_t = 0, allow_negative_numbers = true, value_name = "N")]
    datastore_max_open_connections: i64,
    /// The age at which a connection to a database server is not used again; 0: none
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "DURATION")]
    datastore_connection_max_lifetime: Duration,
    /// Certificate of this server, as PEM; clients must then use TLS
    #[arg(long, value_name = "FILE", requires = "server_key_file")]
    server_cert_file: Option<PathBuf>,
    /// Key of the certificate
    #[arg(long, value_name = "FILE", requires = "server_cert_file")]
    server_key_file: Option<PathBuf>,
    /// Authorities whose certificates clients must have
    #[arg(long, value_name = "FILE", requires = "server_cert_file")]
    server_ca_file: Option<PathBuf>,
    /// Where Prometheus finds metrics, over plain HTTP; 0: nowhere
    #[arg(long, default_value = ":8080", value_name = "ADDRESS")]
    metrics_bind_address: String,
    /// Time between compactions; 0: only when a client asks for one
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "DURATION")]
    compact_interval: Duration,
    /// How many of the newest revisions are kept
    #[arg(long, default_value_t = 1000, value_name = "REVISIONS")]
    compact_min_retain: i64,
    /// How often quiet watches are told the revision
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "DURATION")]
    watch_progress_notify_interval: Duration,
    /// Put this snapshot in the place of the database (SQLite only), and end
    #[arg(long, value_name = "FILE")]
    restore: Option<PathBuf>,
    /// plain or json
    #[arg(long, default_value = "plain", value_parser = ["plain", "json"], value_name = "FORMAT")]
    log_format: String,
    /// Log more
    #[arg(long)]
    debug: bool,
    #[command(flatten)]
    without_effect: WithoutEffect,
}

impl Flags {
    /// The datastore that the flags name.
    fn datastore(&self) -> endpoint::Options {
        let (ca, cert, key) = (self.ca_file.clone(), self.cert_file.clone(), self.key_file.clone());
        endpoint::Options {
            endpoint: self.endpoint.clone(),
            tls: tls::Files { ca, cert, key },
            sqlite_file: "./db/state.db".into(),
            max_open_connections: u32::try_from(self.datastore_max_open_connections).unwrap_or(0),
            max_idle_connections: self.datastore_max_idle_connections,
            connection_max_lifetime: Some(self.datastore_connection_max_lifetime).filter(|age| !age.is_zero()),
            compact_interval: self.compact_interval,
            compact_retain: self.compact_min_retain,
            progress_interval: self.watch_progress_notify_interval,
            ..endpoint::Options::default()
        }
    }

    /// Puts a snapshot in the place of the database.
    fn restore(&self, snapshot: &Path) -> anyhow::Result<()> {
        let Some(database) = self.datastore().sqlite_path()? else {
            bail!(
                "--restore is for SQLite: restore a database server or an etcd with its own tools \
                 (pg_restore, mariadb, etcdctl snapshot restore)"
            );
        };
        if let Some(kept) = sqlite::restore(snapshot, &database)? {
            println!("the database that was there is now {}", kept.display());
        }
        println!("restored {} from {}", database.display(), snapshot.display());
        Ok(())
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration: jiff::SignedDuration =
        text.parse().map_err(|_| format!("{text:?} is no duration such as 5m or 1h30m"))?;
    duration.try_into().map_err(|_| format!("{text:?} is negative"))
}

pub fn run(args: Vec<OsString>) -> ExitCode {
    let flags = match Flags::try_parse_from(args) {
        Ok(flags) => flags,
        Err(error) => error.exit(),
    };
    match start(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("k3s kine: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(flags: Flags) -> anyhow::Result<()> {
    if let Some(snapshot) = &flags.restore {
        return flags.restore(snapshot);
    }
    let format = if flags.log_format == "json" { LogFormat::Json } else { LogFormat::Text };
    Logging { debug: flags.debug, format, ..Logging::default() }.start()?;
    for (flag, why) in flags.without_effect.given() {
        tracing::warn!(flag, why, "a flag has no effect");
    }
    kubectl::install_crypto();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(flags))
}

async fn serve(flags: Flags) -> anyhow::Result<()> {
    let closing = CancellationToken::new();
    server::cancel_on_signal(closing.clone())?;
    if flags.watch_progress_notify_interval.is_zero() {
        bail!("--watch-progress-notify-interval must be more than 0");
    }
    let tls = tls(&flags)?;
    let listener = Listener::bind(&flags.listen_address, tls).await?;
    let datastore = tokio::select! {
        opened = async { endpoint::open(&flags.datastore()).await } => opened?,
        // A server that is away is waited for.
        () = closing.cancelled() => return Ok(()),
    };
    let metrics = metrics::serve(&flags.metrics_bind_address, datastore.metrics(), closing.clone()).await?;
    tracing::info!(url = listener.url(), "kine is ready");
    grpc::serve(datastore.store.clone(), listener, closing.clone()).await.context("the gRPC server failed")?;
    closing.cancel();
    if let Some(metrics) = metrics {
        metrics.await?;
    }
    datastore.close().await?;
    Ok(())
}

fn tls(flags: &Flags) -> anyhow::Result<Option<Tls>> {
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (Some(certificate), Some(key)) = (&flags.server_cert_file, &flags.server_key_file) else { return Ok(None) };
    let client_ca = flags.server_ca_file.as_ref().map(read).transpose()?;
    Ok(Some(Tls { certificate: read(certificate)?, key: read(key)?, client_ca }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(args: &[&str]) -> Flags {
        Flags::try_parse_from(args).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn kines_flags_say_which_datastore_and_how() {
        let options = flags(&[
            "--endpoint=postgres://me@host/db",
            "--ca-file=ca",
            "--cert-file=cert",
            "--key-file=key",
            "--compact-interval=1m",
            "--compact-min-retain=7",
            "--datastore-max-idle-connections=-1",
            "--datastore-max-open-connections=5",
            "--datastore-connection-max-lifetime=1h",
        ])
        .datastore();
        assert_eq!(options.endpoint, "postgres://me@host/db");
        assert_eq!(options.tls.ca.as_deref(), Some(Path::new("ca")));
        assert_eq!((options.compact_interval, options.compact_retain), (Duration::from_secs(60), 7));
        assert_eq!((options.max_idle_connections, options.max_open_connections), (-1, 5));
        assert_eq!(options.connection_max_lifetime, Some(Duration::from_secs(3600)));
        assert!(Flags::try_parse_from(["--cert-file=cert"]).is_err(), "a certificate without its key");
    }

    #[test]
    fn what_has_no_effect_is_taken_and_named() {
        let given = flags(&["--poll-batch-size=500", "--slow-sql-threshold", "1s"]).without_effect.given();
        let given: Vec<_> = given.into_iter().map(|(flag, _)| flag).collect();
        assert_eq!(given, ["--poll-batch-size", "--slow-sql-threshold"]);
    }

    #[test]
    fn only_sqlite_is_restored() {
        for endpoint in ["", "sqlite", "sqlite3", "sqlite://", "sqlite://?_journal=WAL"] {
            let path = flags(&["--endpoint", endpoint]).datastore().sqlite_path().unwrap();
            assert_eq!(path.as_deref(), Some(Path::new("./db/state.db")), "{endpoint}");
        }
        let path = flags(&["--endpoint=sqlite:///srv/state.db?_journal=WAL"]).datastore().sqlite_path().unwrap();
        assert_eq!(path.as_deref(), Some(Path::new("/srv/state.db")));
        for endpoint in
            ["postgres://me:secret@host/db", "mysql://me:secret@tcp(host)/db", "https://a:2379,https://b:2379"]
        {
            let error = flags(&["--endpoint", endpoint]).restore(Path::new("/no/such/snapshot")).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains("--restore is for SQLite") && !error.contains("secret"), "{error}");
        }
    }
}
