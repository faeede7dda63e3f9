//! `ctr`: images of the node, with the commands of containerd's tool that k3s's users know.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

mod archives;
mod images;

use crate::connection::Connection;
use crate::endpoint;
use crate::error::Error;

/// The only namespace: that of Kubernetes. Images elsewhere would be of no use to pods.
const NAMESPACE: &str = "k8s.io";

/// Manage the images of this node
#[derive(Parser)]
#[command(name = "k3s ctr", no_binary_name = true, version)]
struct Ctr {
    /// The runtime's socket; else that of the k3s that runs here
    #[arg(short, long, env = "CONTAINERD_ADDRESS", value_name = "PATH")]
    address: Option<String>,
    /// Namespace of the images; there is one, k8s.io
    #[arg(short, long, env = "CONTAINERD_NAMESPACE", default_value = NAMESPACE)]
    namespace: String,
    /// How long connecting may take
    #[arg(long, default_value = "10s", value_parser = crate::human::parse_duration, value_name = "DURATION")]
    connect_timeout: Duration,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Manage images
    #[command(visible_aliases = ["image", "i"], subcommand)]
    Images(Images),
    /// Show the runtime's version
    Version,
}

#[derive(Subcommand)]
enum Images {
    /// List images
    #[command(visible_alias = "list")]
    Ls(images::Ls),
    /// Pull an image from a registry
    Pull(images::Pull),
    /// Import images from an archive
    Import(Import),
    /// Export images into an archive
    Export(Export),
    /// Remove images by name
    #[command(visible_aliases = ["remove", "del", "delete"])]
    Rm(Rm),
    /// Give an image more names
    Tag(Tag),
}

#[derive(Debug, Args)]
struct Import {
    /// The archive; - is standard input
    file: PathBuf,
    /// Accepted: layers are made for this machine's platform
    #[arg(long, hide = true)]
    all_platforms: bool,
}

#[derive(Debug, Args)]
struct Export {
    /// The archive to write; - is standard output
    file: PathBuf,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Args)]
struct Rm {
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Accepted: an image that is gone is gone
    #[arg(long, hide = true)]
    sync: bool,
}

#[derive(Debug, Args)]
struct Tag {
    image: String,
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Also where the name is another image's
    #[arg(long)]
    force: bool,
}

/// Runs a command.
pub async fn run(args: Vec<OsString>) -> Result<(), Error> {
    let ctr = Ctr::try_parse_from(args)?;
    if ctr.namespace != NAMESPACE {
        let message = format!("there is no namespace {:?}: all images of this node are in {NAMESPACE}", ctr.namespace);
        return Err(Error::Usage(message));
    }
    let socket = match &ctr.address {
        Some(address) => endpoint::socket(address)?,
        None => endpoint::of_running_cluster(|name| std::env::var(name).ok())?,
    };
    let mut cri = Connection::open(socket, None, ctr.connect_timeout).await?;
    match ctr.command {
        Command::Version => images::version(&mut cri).await,
        Command::Images(Images::Ls(command)) => command.run(&cri).await,
        Command::Images(Images::Pull(command)) => command.run(&mut cri).await,
        Command::Images(Images::Import(command)) => archives::import(&cri, &command.file).await,
        Command::Images(Images::Export(command)) => archives::export(&cri, &command.file, &command.images).await,
        Command::Images(Images::Rm(command)) => archives::remove(&cri, &command.images).await,
        Command::Images(Images::Tag(command)) => {
            if !command.force {
                images::refuse_taken(&mut cri, &command.names).await?;
            }
            archives::tag(&cri, &command.image, &command.names).await
        }
    }
}
