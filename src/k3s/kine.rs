//! `k3s kine`: the datastore alone, as etcd v3, with the flags of the project kine.

mod metrics;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use k3s_env::{LogFormat, Logging};
use k3s_kine::grpc::{self, Address, Listener, Tls};
use k3s_kine::sqlite::{self, Options, Sqlite};
use tokio_util::sync::CancellationToken;

use crate::{kubectl, server};

/// Run the datastore alone, with etcd's interface
#[derive(Parser)]
#[command(name = "k3s kine", no_binary_name = true)]
struct Flags {
    /// Where to listen: ADDRESS:PORT, or unix:///PATH
    #[arg(long, default_value = "0.0.0.0:2379", value_name = "ADDRESS")]
    listen_address: Address,
    /// Where the data is: sqlite://PATH
    #[arg(long, default_value = "", value_name = "URL")]
    endpoint: Endpoint,
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
    /// Put this snapshot in the place of the database, and end
    #[arg(long, value_name = "FILE")]
    restore: Option<PathBuf>,
    /// plain or json
    #[arg(long, default_value = "plain", value_parser = ["plain", "json"], value_name = "FORMAT")]
    log_format: String,
    /// Log more
    #[arg(long)]
    debug: bool,
}

/// The file of `--endpoint`.
#[derive(Clone)]
struct Endpoint(PathBuf);

impl std::str::FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let path = match text.split_once("://") {
            Some(("sqlite" | "sqlite3", path)) => path,
            None if matches!(text, "" | "sqlite" | "sqlite3") => "",
            _ => return Err(format!("{text:?} can't be used yet; give sqlite://PATH")),
        };
        // What kine's users add are settings of its database driver (`?_journal=WAL&…`).
        let path = path.split('?').next().unwrap_or_default();
        Ok(Endpoint(if path.is_empty() { "./db/state.db".into() } else { path.into() }))
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
        if let Some(kept) = sqlite::restore(snapshot, &flags.endpoint.0)? {
            println!("the database that was there is now {}", kept.display());
        }
        println!("restored {} from {}", flags.endpoint.0.display(), snapshot.display());
        return Ok(());
    }
    let format = if flags.log_format == "json" { LogFormat::Json } else { LogFormat::Text };
    Logging { debug: flags.debug, format, ..Logging::default() }.start()?;
    kubectl::install_crypto();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(flags))
}

async fn serve(flags: Flags) -> anyhow::Result<()> {
    let closing = CancellationToken::new();
    server::cancel_on_signal(closing.clone())?;
    let interval = flags.watch_progress_notify_interval;
    if interval.is_zero() {
        bail!("--watch-progress-notify-interval must be more than 0");
    }
    let options = Options {
        compact_interval: Some(flags.compact_interval).filter(|interval| !interval.is_zero()),
        compact_retain: flags.compact_min_retain,
        progress_interval: interval,
        ..Options::default()
    };
    let tls = tls(&flags)?;
    let listener = Listener::bind(&flags.listen_address, tls).await?;
    let store = Arc::new(tokio::task::block_in_place(|| Sqlite::open(&flags.endpoint.0, options))?);
    let metrics = metrics::serve(&flags.metrics_bind_address, store.metrics(), closing.clone()).await?;
    tracing::info!(url = listener.url(), "kine is ready");
    grpc::serve(store.clone(), listener, closing.clone()).await.context("the gRPC server failed")?;
    closing.cancel();
    if let Some(metrics) = metrics {
        metrics.await?;
    }
    store.close().await?;
    Ok(())
}

fn tls(flags: &Flags) -> anyhow::Result<Option<Tls>> {
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (Some(certificate), Some(key)) = (&flags.server_cert_file, &flags.server_key_file) else { return Ok(None) };
    let client_ca = flags.server_ca_file.as_ref().map(read).transpose()?;
    Ok(Some(Tls { certificate: read(certificate)?, key: read(key)?, client_ca }))
}
