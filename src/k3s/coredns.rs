//! `k3s coredns`: the DNS server in its pod.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Arg, Command};
use k3s_addons::coredns::{Config, run as serve};
use k3s_env::{LogFormat, Logging};
use tokio_util::sync::CancellationToken;

use crate::{kubectl, server};

pub fn run(args: Vec<OsString>) -> ExitCode {
    let command = Command::new("k3s coredns")
        .about("Run the cluster's DNS server")
        .no_binary_name(true)
        .arg(Arg::new("cluster-domain").long("cluster-domain").default_value("cluster.local").help("Cluster domain"));
    let matches = match command.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => error.exit(),
    };
    let domain = matches.get_one::<String>("cluster-domain").map_or("cluster.local", String::as_str);
    let result = LogFormat::from_variable(std::env::var("K3S_LOG_FORMAT").ok())
        .map_err(anyhow::Error::from)
        .and_then(|format| Ok(Logging { format, ..Logging::default() }.start()?))
        .and_then(|()| run_until_signal(Config::new(domain)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("k3s coredns: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_until_signal(config: Config) -> anyhow::Result<()> {
    kubectl::install_crypto();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let cluster = kube::Config::incluster().context("this command runs inside a pod of a cluster")?;
        let informers = k3s_client::Informers::new(kube::Client::try_from(cluster)?);
        let cancel = CancellationToken::new();
        server::cancel_on_signal(cancel.clone())?;
        serve(config, informers, cancel).await?;
        Ok(())
    })
}
