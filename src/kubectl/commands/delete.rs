//! `kubectl delete`

use std::time::Duration;

use clap::{ArgAction, Args};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::flags::{Context, duration};
use crate::output;
use crate::target::{self, Found, ObjectFlags};
use crate::{say, watch};

/// Delete resources by file names, stdin, resources and names, or by resources and label selector
#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    objects: ObjectFlags,
    /// Period of time in seconds given to the resource to terminate gracefully; -1: the resource's own
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    grace_period: i64,
    /// If true, resources are signaled for immediate shutdown (same as --grace-period=1)
    #[arg(long)]
    now: bool,
    /// If true, immediately remove resources from API and bypass graceful deletion
    #[arg(long)]
    force: bool,
    /// If true, wait for resources to be gone before returning
    #[arg(long, action = ArgAction::Set, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    wait: bool,
    /// background, orphan, or foreground
    #[arg(long, default_value = "background", num_args = 0..=1, require_equals = true, default_missing_value = "background")]
    cascade: String,
    /// Treat "resource not found" as a successful delete
    #[arg(long)]
    ignore_not_found: bool,
    /// The length of time to wait before giving up on a delete; zero: as long as it takes
    #[arg(long, default_value = "0", value_parser = duration)]
    timeout: Duration,
    /// Output mode: name
    #[arg(short, long)]
    output: Option<String>,
    /// none, server, or client
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: String,
}

pub async fn run(args: Delete, context: &Context) -> Result<(), Error> {
    let grace = args.grace_period()?;
    let propagation = match args.cascade.as_str() {
        "background" | "true" => "Background",
        "orphan" | "false" => "Orphan",
        "foreground" => "Foreground",
        other => {
            return Err(Error::usage(format!(
                "invalid cascade value ({other}). Must be \"background\", \"foreground\", or \"orphan\""
            )));
        }
    };
    let cluster = context.cluster().await?;
    if args.objects.all && args.objects.select.is_selective() {
        return Err(Error::usage("cannot set --all and --selector at the same time"));
    }
    if args.force && grace == Some(0) {
        eprintln!(
            "Warning: Immediate deletion does not wait for confirmation that the running resource has been terminated. The \
             resource may continue to run on the cluster indefinitely."
        );
    }
    let (found, mut errors) = args.targets(&cluster).await?;
    if found.is_empty() && errors.is_empty() && args.objects.files.is_empty() && !args.ignore_not_found {
        say!("No resources found");
    }
    let mut options = json!({"propagationPolicy": propagation});
    if let Some(grace) = grace {
        options["gracePeriodSeconds"] = json!(grace);
    }
    if args.dry_run == "server" {
        options["dryRun"] = json!(["All"]);
    }
    let done = match (args.dry_run.as_str(), grace) {
        ("client", _) => " (dry run)",
        ("server", _) => " (server dry run)",
        _ => "",
    };
    let mut waiting = Vec::new();
    for found in found {
        if args.dry_run != "client" {
            match cluster.delete(&found.path(), &options).await {
                Ok(answer) => waiting.push((found.clone(), uid(&answer, &found))),
                Err(error)
                    if error.is_not_found()
                        && (args.ignore_not_found || args.objects.all || args.objects.select.is_selective()) =>
                {
                    continue;
                }
                Err(error) => {
                    errors.push(match &args.objects.files.files[..] {
                        [file, ..] => error.when("deleting", file),
                        [] => error,
                    });
                    continue;
                }
            }
        }
        if args.output.as_deref() == Some("name") {
            say!("{}", found.named());
        } else {
            let verb = if args.force && grace == Some(0) { "force deleted" } else { "deleted" };
            let place = match found.namespace() {
                "" => String::new(),
                namespace => format!(" from {namespace} namespace"),
            };
            output::write(format_args!("{} \"{}\" {verb}{place}{done}\n", found.resource.kind_name(), found.name()))?;
        }
    }
    if args.wait && args.dry_run == "none" {
        wait(&cluster, waiting, args.timeout).await?;
    }
    Error::collect(errors)
}

impl Delete {
    fn grace_period(&self) -> Result<Option<i64>, Error> {
        if self.now && self.grace_period != -1 {
            return Err(Error::usage("--now and --grace-period cannot be specified together"));
        }
        if self.force && self.grace_period > 0 {
            return Err(Error::usage("--force and --grace-period greater than 0 cannot be specified together"));
        }
        Ok(match (self.now, self.force, self.grace_period) {
            (true, _, _) => Some(1),
            (_, true, grace) if grace <= 0 => Some(0),
            // An immediate deletion needs --force; without it the server ends the object as fast as is safe.
            (_, false, 0) => Some(1),
            (_, _, grace) if grace < 0 => None,
            (_, _, grace) => Some(grace),
        })
    }

    /// What to delete. Objects that are named need not be read first: the server says if they are not there.
    async fn targets(&self, cluster: &Cluster) -> Result<(Vec<Found>, Vec<Error>), Error> {
        if self.objects.words.is_empty() && self.objects.files.is_empty() {
            return Err(Error::usage(
                "You must provide one or more resources by argument or filename.\nExample resource specifications include:\n   \
                 '-f rsrc.yaml'\n   '--filename=rsrc.json'\n   '<resource> <name>'\n   '<resource>'",
            ));
        }
        let mut found = Vec::new();
        let mut errors = Vec::new();
        for target in target::targets(cluster, &self.objects.words, &self.objects.files).await? {
            match target.name {
                Some(_) if self.objects.select.is_selective() => {
                    errors.push(Error::usage("name cannot be provided when a selector is specified"));
                    break;
                }
                Some(name) => {
                    let mut metadata = json!({"name": name});
                    if target.resource.namespaced {
                        metadata["namespace"] = json!(target.namespace);
                    }
                    found.push(Found { resource: target.resource, object: json!({"metadata": metadata}) });
                }
                None if self.objects.all || self.objects.select.is_selective() => {
                    let namespace = (!self.objects.select.all_namespaces).then_some(target.namespace.as_str());
                    found.extend(
                        target::list(cluster, &target.resource, namespace, &self.objects.select.query()).await?,
                    );
                }
                None => {
                    errors.push(Error::usage("resource(s) were provided, but no name was specified"));
                    break;
                }
            }
        }
        Ok((found, errors))
    }
}

/// The uid of what was deleted: the answer is the object, or a `Status` about it.
fn uid(answer: &Value, found: &Found) -> String {
    let of_answer = answer["metadata"]["uid"].as_str().or(answer["details"]["uid"].as_str());
    of_answer.unwrap_or(k3s_api::object::uid(&found.object)).to_owned()
}

/// Until none of them is there any more.
async fn wait(cluster: &Cluster, deleted: Vec<(Found, String)>, timeout: Duration) -> Result<(), Error> {
    let all = async {
        for (found, uid) in &deleted {
            let collection = found.resource.collection(Some(found.namespace()));
            watch::until(cluster, &collection, found.name(), |object| {
                Ok(object.is_none_or(|object| !uid.is_empty() && k3s_api::object::uid(object) != uid))
            })
            .await?;
        }
        Ok(())
    };
    if timeout.is_zero() {
        return all.await;
    }
    tokio::time::timeout(timeout, all).await.unwrap_or_else(|_| {
        let names: Vec<String> = deleted.iter().map(|(found, _)| found.named()).collect();
        Err(Error::usage(format!("timed out waiting for the condition on {}", names.join(", "))))
    })
}
