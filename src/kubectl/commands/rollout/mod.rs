//! `kubectl rollout`

mod history;
mod status;
mod undo;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cluster::{Cluster, STRATEGIC_PATCH};
use crate::error::Error;
use crate::flags::Context;
use crate::manifest::FileFlags;
use crate::output::Format;
use crate::selector::SelectorFlags;
use crate::target::{self, Found};

/// Manage the rollout of one or many resources
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Rollout {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the status of the rollout
    Status(status::StatusArgs),
    /// Restart a resource
    Restart(TargetArgs),
    /// View rollout history
    History(history::HistoryArgs),
    /// Undo a previous rollout
    Undo(undo::UndoArgs),
    /// Mark the provided resource as paused
    Pause(TargetArgs),
    /// Resume a paused resource
    Resume(TargetArgs),
}

/// Which resources.
#[derive(Debug, Args)]
struct TargetArgs {
    /// TYPE NAME..., TYPE/NAME...
    words: Vec<String>,
    #[command(flatten)]
    files: FileFlags,
    #[command(flatten)]
    select: SelectorFlags,
    #[arg(short, long)]
    output: Option<String>,
}

impl TargetArgs {
    async fn objects(&self, cluster: &Cluster) -> Result<Vec<Found>, Error> {
        if self.words.is_empty() && self.files.is_empty() {
            return Err(Error::usage("required resource not specified"));
        }
        target::objects(cluster, &self.words, &self.files, &self.select, true).await
    }
}

pub async fn run(args: Rollout, context: &Context) -> Result<(), Error> {
    match args.command {
        Command::Status(args) => status::run(args, context).await,
        Command::History(args) => history::run(args, context).await,
        Command::Undo(args) => undo::run(args, context).await,
        Command::Restart(args) => change(&args, context, restart, "restarted").await,
        Command::Pause(args) => change(&args, context, pause, "paused").await,
        Command::Resume(args) => change(&args, context, resume, "resumed").await,
    }
}

/// Patches each object with what `patch` says.
async fn change(
    args: &TargetArgs,
    context: &Context,
    patch: fn(&Found) -> Result<Value, Error>,
    done: &str,
) -> Result<(), Error> {
    let format = Format::parse(args.output.as_deref(), None)?;
    let cluster = context.cluster().await?;
    let mut errors = Vec::new();
    for mut found in args.objects(&cluster).await? {
        let attempt = async {
            let patch = patch(&found)?;
            let path = format!("{}?fieldManager=kubectl-rollout", found.path());
            cluster.patch(&path, STRATEGIC_PATCH, patch.to_string().into_bytes()).await
        };
        match attempt.await {
            Ok(object) => {
                found.object = object;
                format.print_done(&found, done)?;
            }
            Err(error) => errors.push(error),
        }
    }
    Error::collect(errors)
}

fn restart(found: &Found) -> Result<Value, Error> {
    if !matches!(found.resource.kind.as_str(), "Deployment" | "DaemonSet" | "StatefulSet") {
        return Err(unsupported(found, "restarting is not supported"));
    }
    if found.object["spec"]["paused"] == true {
        return Err(Error::usage(format!(
            "{} \"{}\" can't restart paused deployment (run rollout resume first)",
            found.resource.qualified(),
            found.name()
        )));
    }
    let now = k3s_api::time::format_seconds(jiff::Timestamp::now());
    let annotations = json!({"kubectl.kubernetes.io/restartedAt": now});
    Ok(json!({"spec": {"template": {"metadata": {"annotations": annotations}}}}))
}

fn pause(found: &Found) -> Result<Value, Error> {
    set_paused(found, true)
}

fn resume(found: &Found) -> Result<Value, Error> {
    set_paused(found, false)
}

fn set_paused(found: &Found, paused: bool) -> Result<Value, Error> {
    if found.resource.kind != "Deployment" {
        return Err(unsupported(found, if paused { "pausing is not supported" } else { "resuming is not supported" }));
    }
    if (found.object["spec"]["paused"] == true) == paused {
        let (name, qualified) = (found.name(), found.resource.qualified());
        let state = if paused { "already paused" } else { "not paused" };
        return Err(Error::usage(format!("{qualified} \"{name}\" {state}")));
    }
    Ok(json!({"spec": {"paused": if paused { json!(true) } else { Value::Null }}}))
}

fn unsupported(found: &Found, what: &str) -> Error {
    Error::usage(format!("{} \"{}\" {what}", found.resource.qualified(), found.name()))
}
