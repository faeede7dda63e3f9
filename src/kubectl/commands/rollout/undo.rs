//! `kubectl rollout undo`

use clap::Args;
use serde_json::{Value, json};

use super::history::{self, Revision};
use crate::cluster::JSON_PATCH;
use crate::error::Error;
use crate::flags::Context;
use crate::output::Format;
use crate::target::Found;

#[derive(Debug, Args)]
pub struct UndoArgs {
    #[command(flatten)]
    target: super::TargetArgs,
    /// The revision to rollback to. 0: the last revision before this one
    #[arg(long, default_value_t = 0)]
    to_revision: u64,
}

pub async fn run(args: UndoArgs, context: &Context) -> Result<(), Error> {
    let format = Format::parse(args.target.output.as_deref(), None)?;
    let cluster = context.cluster().await?;
    for mut found in args.target.objects(&cluster).await? {
        if found.object["spec"]["paused"] == true {
            let (kind, name) = (found.resource.qualified(), found.name());
            return Err(Error::usage(format!(
                "you cannot rollback a paused deployment; resume it first with 'kubectl rollout resume {kind}/{name}' and try again"
            )));
        }
        let revisions = history::revisions(&cluster, &found).await?;
        let template = without_hash(choose(&revisions, args.to_revision, &found)?.template.clone());
        if template == found.object["spec"]["template"] {
            let current = revisions.last().map_or(0, |revision| revision.number);
            format.print_done(
                &found,
                &format!("skipped rollback (current template already matches revision {current})"),
            )?;
            continue;
        }
        // The whole template is taken back, not merged into the present one.
        let patch = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
        found.object = cluster.patch(&found.path(), JSON_PATCH, patch.to_string().into_bytes()).await?;
        format.print_done(&found, "rolled back")?;
    }
    Ok(())
}

fn choose<'r>(revisions: &'r [Revision], wanted: u64, found: &Found) -> Result<&'r Revision, Error> {
    if wanted == 0 {
        let previous = revisions.len().checked_sub(2).and_then(|index| revisions.get(index));
        return previous.ok_or_else(|| {
            let kind = found.resource.kind.to_lowercase();
            Error::usage(format!("no rollout history found for {kind} \"{}\"", found.name()))
        });
    }
    let found = revisions.iter().find(|revision| revision.number == wanted);
    found.ok_or_else(|| Error::usage(format!("unable to find specified revision {wanted} in history")))
}

/// The label that is of the replica set, not of the template.
fn without_hash(mut template: Value) -> Value {
    if let Some(labels) = template["metadata"]["labels"].as_object_mut() {
        labels.remove("pod-template-hash");
    }
    template
}
