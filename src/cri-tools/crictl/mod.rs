//! The commands of crictl.

mod completion;
mod config;
mod containers;
mod events;
mod images;
mod info;
mod inspect;
mod lifecycle;
mod list;
mod logs;
mod metrics;
mod pods;
mod stats;
mod streams;
mod update;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};

use crate::connection::Connection;
use crate::endpoint;
use crate::error::Error;
use crate::human::parse_duration;

/// How long a connection may take, as in cri-tools.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Client for the container runtime interface (CRI)
#[derive(Parser)]
#[command(name = "k3s crictl", no_binary_name = true, version)]
struct Crictl {
    /// The client's configuration; else /etc/crictl.yaml
    #[arg(short, long, env = "CRI_CONFIG_FILE", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The runtime's socket; else that of the k3s that runs here
    #[arg(short, long, env = "CONTAINER_RUNTIME_ENDPOINT", value_name = "unix:///PATH")]
    runtime_endpoint: Option<String>,
    /// The image service's socket, if it is another
    #[arg(short, long, env = "IMAGE_SERVICE_ENDPOINT", value_name = "unix:///PATH")]
    image_endpoint: Option<String>,
    /// How long connecting may take (2s)
    #[arg(short, long, value_parser = parse_duration, value_name = "DURATION")]
    timeout: Option<Duration>,
    /// Accepted as in cri-tools; there is nothing more to say
    #[arg(short = 'D', long, hide = true)]
    debug: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Attach(streams::Attach),
    Completion(completion::Completion),
    Config(config::Config),
    Create(lifecycle::Create),
    Events(events::Events),
    Exec(streams::Exec),
    Imagefsinfo(images::FsInfo),
    #[command(visible_aliases = ["image", "img"])]
    Images(images::Images),
    Info(info::Info),
    Inspect(inspect::Inspect),
    Inspecti(inspect::InspectImage),
    Inspectp(inspect::InspectPod),
    Logs(logs::Logs),
    Metricdescs(metrics::Descriptors),
    Metricsp(metrics::PodMetrics),
    Pods(pods::Pods),
    PortForward(streams::PortForward),
    Ps(containers::Ps),
    Pull(images::Pull),
    Rm(lifecycle::Rm),
    Rmi(images::Rmi),
    Rmp(lifecycle::Rmp),
    Run(lifecycle::Run),
    Runp(lifecycle::Runp),
    RuntimeConfig(info::RuntimeConfig),
    Start(lifecycle::Start),
    Stats(stats::Stats),
    Statsp(stats::PodStats),
    Stop(lifecycle::Stop),
    Stopp(lifecycle::Stopp),
    Update(update::Update),
    Version(info::Version),
}

/// Runs a command and returns the code to end with.
pub async fn run(args: Vec<OsString>) -> Result<u8, Error> {
    let crictl = Crictl::try_parse_from(args)?;
    // What takes no runtime works without one.
    let command = match crictl.command {
        Command::Completion(command) => return command.run(Crictl::command()).map(|()| 0),
        Command::Config(command) => return command.run(crictl.config.as_deref()).map(|()| 0),
        command => command,
    };
    let file = endpoint::File::read(crictl.config.as_deref())?;
    let given = |flag: Option<String>, in_file: String| flag.or(Some(in_file)).filter(|endpoint| !endpoint.is_empty());
    let socket = match given(crictl.runtime_endpoint, file.runtime_endpoint.clone()) {
        Some(endpoint) => endpoint::socket(&endpoint)?,
        None => endpoint::of_running_cluster(|name| std::env::var(name).ok())?,
    };
    let images = given(crictl.image_endpoint, file.image_endpoint.clone());
    let images = images.map(|endpoint| endpoint::socket(&endpoint)).transpose()?;
    let timeout = crictl.timeout.or(file.timeout()).unwrap_or(TIMEOUT);
    let mut cri = Connection::open(socket, images, timeout).await?;
    let cri = &mut cri;
    match command {
        Command::Completion(_) | Command::Config(_) => Ok(()),
        Command::Attach(command) => return command.run(cri).await,
        Command::Exec(command) => return command.run(cri).await,
        Command::Create(command) => command.run(cri).await,
        Command::Events(command) => command.run(cri).await,
        Command::Imagefsinfo(command) => command.run(cri).await,
        Command::Images(command) => command.run(cri).await,
        Command::Info(command) => command.run(cri).await,
        Command::Inspect(command) => command.run(cri).await,
        Command::Inspecti(command) => command.run(cri).await,
        Command::Inspectp(command) => command.run(cri).await,
        Command::Logs(command) => command.run(cri).await,
        Command::Metricdescs(command) => command.run(cri).await,
        Command::Metricsp(command) => command.run(cri).await,
        Command::Pods(command) => command.run(cri).await,
        Command::PortForward(command) => command.run(cri).await,
        Command::Ps(command) => command.run(cri).await,
        Command::Pull(command) => command.run(cri).await,
        Command::Rm(command) => command.run(cri).await,
        Command::Rmi(command) => command.run(cri).await,
        Command::Rmp(command) => command.run(cri).await,
        Command::Run(command) => command.run(cri).await,
        Command::Runp(command) => command.run(cri).await,
        Command::RuntimeConfig(command) => command.run(cri).await,
        Command::Start(command) => command.run(cri).await,
        Command::Stats(command) => command.run(cri).await,
        Command::Statsp(command) => command.run(cri).await,
        Command::Stop(command) => command.run(cri).await,
        Command::Stopp(command) => command.run(cri).await,
        Command::Update(command) => command.run(cri).await,
        Command::Version(command) => command.run(cri).await,
    }?;
    Ok(0)
}
