//! `kubectl taint`

use clap::Args;
use serde_json::{Value, json};

use crate::cluster::MERGE_PATCH;
use crate::error::Error;
use crate::flags::Context;
use crate::output::Format;
use crate::selector::SelectorFlags;
use crate::target;

/// Update the taints on one or more nodes
#[derive(Debug, Args)]
pub struct Taint {
    /// NODE NAME... KEY=VALUE:EFFECT... KEY-...
    words: Vec<String>,
    #[command(flatten)]
    select: SelectorFlags,
    /// Select all nodes in the cluster
    #[arg(long)]
    all: bool,
    /// If true, allow taints to be overwritten
    #[arg(long)]
    overwrite: bool,
}

/// A taint, or the key (and effect) of taints to remove.
#[derive(Debug, PartialEq)]
struct Change {
    key: String,
    value: String,
    /// Empty in a removal: of any effect.
    effect: String,
    remove: bool,
}

fn parse(word: &str) -> Result<Change, Error> {
    let (text, remove) = word.strip_suffix('-').map_or((word, false), |text| (text, true));
    let (key_value, effect) = text.split_once(':').unwrap_or((text, ""));
    let (key, value) = key_value.split_once('=').unwrap_or((key_value, ""));
    let any_effect = remove && effect.is_empty();
    if !any_effect && !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(Error::usage(format!("invalid taint effect: {effect}, unsupported taint effect")));
    }
    Ok(Change { key: key.to_owned(), value: value.to_owned(), effect: effect.to_owned(), remove })
}

pub async fn run(args: Taint, context: &Context) -> Result<(), Error> {
    let is_change = |word: &String| word.contains([':', '=']) || word.ends_with('-');
    let first = args.words.iter().position(is_change).unwrap_or(args.words.len());
    let (resources, changes) = args.words.split_at(first);
    if changes.is_empty() {
        return Err(Error::usage("at least one taint update is required"));
    }
    let changes = changes.iter().map(|word| parse(word)).collect::<Result<Vec<_>, _>>()?;
    let cluster = context.cluster().await?;
    let found =
        target::objects(&cluster, resources, &Default::default(), &SelectorFlags { ..args.select }, args.all).await?;
    let mut errors = Vec::new();
    for mut node in found {
        if node.resource.kind != "Node" {
            return Err(Error::usage(format!(
                "invalid resource type {}, only node(s) is supported",
                node.resource.plural
            )));
        }
        let current = node.object["spec"]["taints"].as_array().cloned().unwrap_or_default();
        match apply(&current, &changes, args.overwrite) {
            Err(complaint) => errors.push(Error::usage(format!("node {} {complaint}", node.name()))),
            Ok(taints) => {
                let patch = json!({"metadata": {"resourceVersion": k3s_api::object::resource_version(&node.object)},
                    "spec": {"taints": if taints.is_empty() { Value::Null } else { json!(taints) }}});
                node.object = cluster.patch(&node.path(), MERGE_PATCH, patch.to_string().into_bytes()).await?;
                let done =
                    match (changes.iter().any(|change| change.remove), changes.iter().all(|change| change.remove)) {
                        (_, true) => "untainted",
                        (true, false) => "modified",
                        (false, _) => "tainted",
                    };
                Format::Default.print_done(&node, done)?;
            }
        }
    }
    Error::collect(errors)
}

fn apply(current: &[Value], changes: &[Change], overwrite: bool) -> Result<Vec<Value>, String> {
    let mut taints = current.to_vec();
    for change in changes {
        let same = |taint: &Value| {
            taint["key"] == change.key.as_str()
                && (change.effect.is_empty() || taint["effect"] == change.effect.as_str())
        };
        let before = taints.len();
        let was_there = taints.iter().any(same);
        taints.retain(|taint| !same(taint));
        if change.remove {
            if taints.len() == before {
                return Err(format!("taint \"{}\" not found", change.key));
            }
            continue;
        }
        if was_there && !overwrite {
            return Err(format!("already has {} taint(s) with same effect(s) and --overwrite is false", change.key));
        }
        let mut taint = json!({"key": change.key, "effect": change.effect});
        if !change.value.is_empty() {
            taint["value"] = json!(change.value);
        }
        taints.push(taint);
    }
    Ok(taints)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_are_added_and_removed() {
        let add = parse("k=v:NoSchedule").unwrap();
        let taints = apply(&[], &[add], false).unwrap();
        assert_eq!(taints, [json!({"key": "k", "value": "v", "effect": "NoSchedule"})]);
        assert!(apply(&taints, &[parse("k:NoSchedule").unwrap()], false).is_err());
        assert_eq!(apply(&taints, &[parse("k-").unwrap()], false).unwrap(), Vec::<Value>::new());
        assert_eq!(apply(&[], &[parse("k-").unwrap()], false).unwrap_err(), "taint \"k\" not found");
        assert!(parse("k=v:Sometimes").is_err());
    }
}
