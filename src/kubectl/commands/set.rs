//! `kubectl set`

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cluster::STRATEGIC_PATCH;
use crate::error::Error;
use crate::flags::Context;
use crate::output::Format;
use crate::say;
use crate::target::{self, Found, ObjectFlags};

/// Set specific features on objects
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Set {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Update the image of a pod template
    Image(Pairs),
    /// Update environment variables on a pod template
    Env(Env),
}

#[derive(Debug, Args)]
struct Pairs {
    #[command(flatten)]
    objects: ObjectFlags,
    #[arg(short, long)]
    output: Option<String>,
}

#[derive(Debug, Args)]
struct Env {
    #[command(flatten)]
    pairs: Pairs,
    /// The names of containers in the selected pod templates to change; * for all
    #[arg(short, long, default_value = "*")]
    containers: String,
    /// If true, display the environment and any changes in the standard format
    #[arg(long)]
    list: bool,
}

pub async fn run(args: Set, context: &Context) -> Result<(), Error> {
    let (pairs, env) = match &args.command {
        Command::Image(pairs) => (pairs, None),
        Command::Env(env) => (&env.pairs, Some(env)),
    };
    let format = Format::parse(pairs.output.as_deref(), None)?;
    let is_change = |word: &String| word.contains('=') || (env.is_some() && word.ends_with('-'));
    let first = pairs.objects.words.iter().position(is_change).unwrap_or(pairs.objects.words.len());
    let (resources, changes) = pairs.objects.words.split_at(first);
    let listing = env.is_some_and(|env| env.list);
    if changes.is_empty() && !listing {
        return Err(Error::usage(match env {
            None => "at least one image update is required",
            Some(_) => "at least one environment variable must be provided",
        }));
    }
    let cluster = context.cluster().await?;
    let mut errors = Vec::new();
    for mut found in
        target::objects(&cluster, resources, &pairs.objects.files, &pairs.objects.select, pairs.objects.all).await?
    {
        if listing {
            list_environment(&found)?;
            continue;
        }
        let patch = match env {
            None => images(&found, changes),
            Some(env) => environment(&found, changes, &env.containers),
        };
        let attempt = async {
            let Some(patch) = patch? else { return Ok(None) };
            let path = format!("{}?fieldManager=kubectl-set", found.path());
            cluster.patch(&path, STRATEGIC_PATCH, patch.to_string().into_bytes()).await.map(Some)
        };
        match attempt.await {
            Ok(Some(object)) => {
                found.object = object;
                format.print_done(&found, if env.is_some() { "env updated" } else { "image updated" })?;
            }
            // As kubectl: what is so already is not worth a word.
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    Error::collect(errors)
}

/// Where the pod spec of an object is.
fn spec_path(found: &Found) -> Result<&'static [&'static str], Error> {
    match found.resource.kind.as_str() {
        "Pod" => Ok(&["spec"]),
        "CronJob" => Ok(&["spec", "jobTemplate", "spec", "template", "spec"]),
        "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet" | "ReplicationController" | "Job" => {
            Ok(&["spec", "template", "spec"])
        }
        kind => Err(Error::usage(format!("the object is not a pod or does not have a pod template: {kind}"))),
    }
}

fn pod_spec(found: &Found) -> Result<&Value, Error> {
    Ok(spec_path(found)?.iter().fold(&found.object, |value, key| &value[*key]))
}

/// A patch of the pod spec.
fn wrapped(found: &Found, spec: Value) -> Result<Value, Error> {
    Ok(spec_path(found)?.iter().rev().fold(spec, |value, key| json!({*key: value})))
}

fn images(found: &Found, changes: &[String]) -> Result<Option<Value>, Error> {
    let spec = pod_spec(found)?;
    let mut patch = Map::new();
    for change in changes {
        let Some((wanted, image)) =
            change.split_once('=').filter(|(name, image)| !name.is_empty() && !image.is_empty())
        else {
            return Err(Error::usage(format!("invalid image update: {change}")));
        };
        let mut known = false;
        for field in ["initContainers", "containers"] {
            for container in spec[field].as_array().into_iter().flatten() {
                let name = &container["name"];
                if wanted != "*" && *name != wanted {
                    continue;
                }
                known = true;
                if container["image"] != image {
                    let entry = patch.entry(field).or_insert_with(|| json!([]));
                    if let Some(list) = entry.as_array_mut() {
                        list.push(json!({"name": name, "image": image}));
                    }
                }
            }
        }
        if !known {
            return Err(Error::usage(format!("unable to find container named \"{wanted}\"")));
        }
    }
    if patch.is_empty() { Ok(None) } else { wrapped(found, Value::Object(patch)).map(Some) }
}

fn environment(found: &Found, changes: &[String], containers: &str) -> Result<Option<Value>, Error> {
    let spec = pod_spec(found)?;
    let mut list = Vec::new();
    for container in spec["containers"].as_array().into_iter().flatten() {
        if containers != "*" && container["name"] != containers {
            continue;
        }
        let mut variables = Vec::new();
        for change in changes {
            match change.split_once('=') {
                // A null takes the place of a source the variable may have had.
                Some((name, value)) => variables.push(json!({"name": name, "value": value, "valueFrom": null})),
                None => variables.push(json!({"name": change.trim_end_matches('-'), "$patch": "delete"})),
            }
        }
        list.push(json!({"name": container["name"], "env": variables}));
    }
    if list.is_empty() {
        return Err(Error::usage(format!("{} does not have any containers matching \"{containers}\"", found.named())));
    }
    wrapped(found, json!({"containers": list})).map(Some)
}

fn list_environment(found: &Found) -> Result<(), Error> {
    for container in pod_spec(found)?["containers"].as_array().into_iter().flatten() {
        say!("# {}, container {}", found.named(), container["name"].as_str().unwrap_or_default());
        for variable in container["env"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().unwrap_or_default();
            match variable["value"].as_str() {
                Some(value) => say!("{name}={value}"),
                None => say!("# {name} from {}", variable["valueFrom"]),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Resource;

    #[test]
    fn images_are_set_by_container() {
        let object = json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}}}});
        let found = Found { resource: Resource { kind: "Deployment".into(), ..Resource::default() }, object };
        let patch = images(&found, &["a=9".to_owned()]).unwrap().unwrap();
        assert_eq!(patch, json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "9"}]}}}}));
        assert!(images(&found, &["a=1".to_owned()]).unwrap().is_none());
        assert!(
            images(&found, &["z=1".to_owned()])
                .unwrap_err()
                .to_string()
                .contains("unable to find container named \"z\"")
        );
    }
}
