//! `kubectl label` and `kubectl annotate`

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cluster::{MERGE_PATCH, Query};
use crate::error::Error;
use crate::flags::Context;
use crate::output::Format;
use crate::say;
use crate::target::{self, ObjectFlags};

use super::apply::dry_run_suffix;

/// Update the labels on a resource
#[derive(Debug, Args)]
pub struct Label {
    #[command(flatten)]
    edit: Edit,
}

/// Update the annotations on a resource
#[derive(Debug, Args)]
pub struct Annotate {
    #[command(flatten)]
    edit: Edit,
}

#[derive(Debug, Args)]
struct Edit {
    #[command(flatten)]
    objects: ObjectFlags,
    /// If true, allow values to be overwritten
    #[arg(long)]
    overwrite: bool,
    /// If true, display the values for a given resource
    #[arg(long)]
    list: bool,
    /// Only update if the current resource version is this
    #[arg(long)]
    resource_version: Option<String>,
    /// none, server, or client
    #[arg(long, default_value = "none", num_args = 0..=1, require_equals = true, default_missing_value = "client")]
    dry_run: String,
    #[arg(short, long)]
    output: Option<String>,
}

pub async fn label(args: Label, context: &Context) -> Result<(), Error> {
    edit(&args.edit, "labels", "label", "labeled", context).await
}

pub async fn annotate(args: Annotate, context: &Context) -> Result<(), Error> {
    edit(&args.edit, "annotations", "annotation", "annotated", context).await
}

/// The changes that words ask for: a value for a key, or `None` to remove it.
type Changes = Vec<(String, Option<String>)>;

/// Splits words into resources and changes: changes are `KEY=VALUE` and `KEY-`, and come last.
fn split(words: &[String]) -> Result<(Vec<String>, Changes), Error> {
    let is_change = |word: &String| word.contains('=') || (word.ends_with('-') && word.len() > 1);
    let first = words.iter().position(is_change).unwrap_or(words.len());
    let mut changes = Changes::new();
    for word in &words[first..] {
        let change = match word.split_once('=') {
            Some((key, value)) if !key.is_empty() => (key.to_owned(), Some(value.to_owned())),
            None if word.ends_with('-') && word.len() > 1 => (word[..word.len() - 1].to_owned(), None),
            _ => return Err(Error::usage("all resources must be specified before changes: ".to_owned() + word)),
        };
        if changes.iter().any(|(key, value)| *key == change.0 && value.is_some() != change.1.is_some()) {
            return Err(Error::usage("can not both modify and remove the same key"));
        }
        changes.push(change);
    }
    Ok((words[..first].to_vec(), changes))
}

async fn edit(args: &Edit, field: &str, noun: &str, done: &str, context: &Context) -> Result<(), Error> {
    let format = Format::parse(args.output.as_deref(), None)?;
    let suffix = dry_run_suffix(&args.dry_run)?;
    let (resources, changes) = split(&args.objects.words)?;
    if changes.is_empty() && !args.list {
        return Err(Error::usage(format!("at least one {noun} update is required")));
    }
    if resources.is_empty() && args.objects.files.is_empty() {
        return Err(Error::usage("one or more resources must be specified as <resource> <name> or <resource>/<name>"));
    }
    let cluster = context.cluster().await?;
    let found =
        target::objects(&cluster, &resources, &args.objects.files, &args.objects.select, args.objects.all).await?;
    let query = Query::new().with("fieldManager", &format!("kubectl-{noun}"));
    let query = query.with_some("dryRun", (args.dry_run == "server").then_some("All"));
    let mut errors = Vec::new();
    for mut found in found {
        let current = found.object["metadata"][field].as_object().cloned().unwrap_or_default();
        if args.list {
            for (key, value) in &current {
                say!("{key}={}", value.as_str().unwrap_or_default());
            }
            continue;
        }
        match patch_of(&current, &changes, args.overwrite) {
            Err(complaint) => errors.push(Error::usage(complaint)),
            Ok(patch) if patch.is_empty() => {
                for (key, _) in changes.iter().filter(|(key, value)| value.is_none() && !current.contains_key(key)) {
                    say!("{noun} \"{key}\" not found.");
                }
                format.print_done(&found, &format!("not {done}{suffix}"))?;
            }
            Ok(patch) => {
                let removed = patch.values().all(Value::is_null) && noun == "label";
                let mut body = json!({"metadata": {field: patch}});
                if let Some(version) = &args.resource_version {
                    body["metadata"]["resourceVersion"] = json!(version);
                }
                if args.dry_run != "client" {
                    let path = format!("{}{query}", found.path());
                    match cluster.patch(&path, MERGE_PATCH, body.to_string().into_bytes()).await {
                        Ok(object) => found.object = object,
                        Err(error) => {
                            errors.push(error);
                            continue;
                        }
                    }
                }
                format.print_done(&found, &format!("{}{suffix}", if removed { "unlabeled" } else { done }))?;
            }
        }
    }
    Error::collect(errors)
}

/// What changes; an error if a value would be overwritten.
fn patch_of(current: &Map<String, Value>, changes: &Changes, overwrite: bool) -> Result<Map<String, Value>, String> {
    let mut patch = Map::new();
    for (key, value) in changes {
        match (current.get(key).and_then(Value::as_str), value) {
            (Some(old), Some(new)) if old == new => {}
            (Some(old), Some(_)) if !overwrite => {
                return Err(format!("'{key}' already has a value ({old}), and --overwrite is false"));
            }
            (None, None) => {}
            (_, Some(new)) => {
                patch.insert(key.clone(), json!(new));
            }
            (Some(_), None) => {
                patch.insert(key.clone(), Value::Null);
            }
        }
    }
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_follow_resources() {
        let words: Vec<String> = ["pods", "a", "k=v", "x-"].map(str::to_owned).to_vec();
        let (resources, changes) = split(&words).unwrap();
        assert_eq!(resources, ["pods", "a"]);
        assert_eq!(changes, [("k".to_owned(), Some("v".to_owned())), ("x".to_owned(), None)]);
        let both: Vec<String> = ["k=v", "k-"].map(str::to_owned).to_vec();
        assert!(split(&both).is_err());
    }

    #[test]
    fn a_value_is_not_overwritten_unasked() {
        let current = json!({"k": "v"}).as_object().cloned().unwrap();
        let change = vec![("k".to_owned(), Some("w".to_owned()))];
        let complaint = patch_of(&current, &change, false).unwrap_err();
        assert_eq!(complaint, "'k' already has a value (v), and --overwrite is false");
        assert_eq!(patch_of(&current, &change, true).unwrap()["k"], "w");
        assert!(patch_of(&current, &vec![("z".to_owned(), None)], false).unwrap().is_empty());
    }
}
