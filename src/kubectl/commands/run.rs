//! `kubectl run`

use clap::Args;
use serde_json::{Map, Value, json};

use super::apply::dry_run_suffix;
use super::create::{CreateFlags, create, simple};
use super::exec::{self, StreamFlags};
use crate::cluster::Cluster;
use crate::error::Error;
use crate::flags::Context;
use crate::manifest::Document;
use crate::target::Found;
use crate::{pods, say, watch};

/// Run a particular image on the cluster
#[derive(Debug, Args)]
pub struct Run {
    /// NAME
    name: Option<String>,
    #[arg(hide = true)]
    words: Vec<String>,
    /// The image for the container to run
    #[arg(long)]
    image: Option<String>,
    /// The image pull policy for the container
    #[arg(long)]
    image_pull_policy: Option<String>,
    /// Environment variables to set in the container
    #[arg(long, short = 'e')]
    env: Vec<String>,
    /// The port that this container exposes
    #[arg(long)]
    port: Option<u16>,
    /// Comma separated labels to apply to the pod
    #[arg(short = 'l', long, value_delimiter = ',')]
    labels: Vec<String>,
    /// Annotations to apply to the pod
    #[arg(long)]
    annotations: Vec<String>,
    /// The restart policy for this Pod: Always, OnFailure, Never
    #[arg(long, default_value = "Always")]
    restart: String,
    /// If true and extra arguments are present, use them as the 'command' field
    #[arg(long)]
    command: bool,
    /// An inline JSON override for the generated object
    #[arg(long)]
    overrides: Option<String>,
    /// If true, run the container in privileged mode
    #[arg(long)]
    privileged: bool,
    /// If true, delete the pod after it exits. Only valid when attaching to the container
    #[arg(long)]
    rm: bool,
    /// Wait for the container to start running, and then attach to it
    #[arg(long)]
    attach: bool,
    #[command(flatten)]
    streams: StreamFlags,
    #[command(flatten)]
    flags: CreateFlags,
    /// COMMAND or arguments, behind --
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub async fn run(args: Run, context: &Context) -> Result<(), Error> {
    dry_run_suffix(&args.flags.dry_run)?;
    let pod = args.pod()?;
    let attach = args.attach || args.streams.stdin;
    if args.rm && !attach {
        return Err(Error::usage("--rm should only be used for attached containers"));
    }
    if args.streams.tty && !args.streams.stdin {
        return Err(Error::usage("-i/--stdin is required for containers with -t/--tty=true"));
    }
    if !attach || args.flags.dry_run != "none" {
        let flags = CreateFlags { field_manager: "kubectl-run".to_owned(), ..args.flags };
        return create(context, vec![Document { object: pod, source: String::new() }], &flags, "created").await;
    }
    let cluster = context.cluster().await?;
    let collection = pods::collection(&cluster.namespace);
    let object = cluster.create(&format!("{collection}?fieldManager=kubectl-run&fieldValidation=Strict"), &pod).await?;
    let pod = Found { resource: pods::pod_resource(), object };
    let outcome = args.attached(&cluster, pod.clone()).await;
    if args.rm {
        cluster.delete(&pod.path(), &json!({"propagationPolicy": "Background"})).await?;
        if !args.streams.quiet {
            say!("pod \"{}\" deleted from {} namespace", pod.name(), pod.namespace());
        }
    }
    outcome
}

/// `KEY=VALUE` words as a map.
fn pairs(words: &[String], what: &str) -> Result<Map<String, Value>, Error> {
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), json!(value))),
        _ => Err(Error::usage(format!("unexpected {what} spec: {word}"))),
    };
    words.iter().map(pair).collect()
}

impl Run {
    fn pod(&self) -> Result<Value, Error> {
        let Some(image) = self.image.as_ref().filter(|image| !image.is_empty()) else {
            return Err(Error::usage("required flag(s) \"image\" not set"));
        };
        let Some(name) = &self.name else {
            return Err(Error::usage("NAME is required for run\nSee 'kubectl run -h' for help and examples"));
        };
        if !matches!(self.restart.as_str(), "Always" | "OnFailure" | "Never") {
            return Err(Error::usage(format!("invalid restart policy: {}", self.restart)));
        }
        let mut container = json!({"name": name, "image": image, "resources": {}});
        let words: Vec<&String> = self.words.iter().chain(&self.arguments).collect();
        if !words.is_empty() {
            container[if self.command { "command" } else { "args" }] = json!(words);
        }
        if !self.env.is_empty() {
            let variables = self.env.iter().map(|word| match word.split_once('=') {
                Some((name, value)) if !name.is_empty() => Ok(json!({"name": name, "value": value})),
                _ => Err(Error::usage(format!("invalid env: {word}"))),
            });
            container["env"] = Value::Array(variables.collect::<Result<_, _>>()?);
        }
        if let Some(port) = self.port {
            container["ports"] = json!([{"containerPort": port}]);
        }
        if let Some(policy) = &self.image_pull_policy {
            container["imagePullPolicy"] = json!(policy);
        }
        if self.privileged {
            container["securityContext"] = json!({"privileged": true});
        }
        if self.streams.stdin {
            container["stdin"] = json!(true);
            container["stdinOnce"] = json!(true);
        }
        if self.streams.tty {
            container["tty"] = json!(true);
        }
        let labels = if self.labels.is_empty() {
            pairs(&[format!("run={name}")], "label")?
        } else {
            pairs(&self.labels, "label")?
        };
        let mut metadata = json!({"labels": labels});
        if !self.annotations.is_empty() {
            metadata["annotations"] = Value::Object(pairs(&self.annotations, "annotation")?);
        }
        let spec = json!({"containers": [container], "restartPolicy": self.restart, "dnsPolicy": "ClusterFirst"});
        let pod = simple("v1", "Pod", name, json!({"metadata": metadata, "spec": spec, "status": {}}));
        match &self.overrides {
            None => Ok(pod),
            Some(overrides) => k3s_api::patch::merge::apply(&pod, overrides.as_bytes())
                .map_err(|status| Error::usage(format!("invalid --overrides: {}", status.message))),
        }
    }

    /// Waits for the container, attaches to it, and passes its exit code on.
    async fn attached(&self, cluster: &Cluster, mut pod: Found) -> Result<(), Error> {
        let collection = pods::collection(pod.namespace());
        let name = pod.name().to_owned();
        let has_started = |object: &Value| !matches!(object["status"]["phase"].as_str(), None | Some("Pending"));
        let starting = watch::until(cluster, &collection, &name, |object| {
            let object = object.ok_or_else(|| Error::usage(format!("pod {name} was deleted")))?;
            pod.object = object.clone();
            Ok(has_started(object))
        });
        tokio::time::timeout(self.streams.pod_running_timeout, starting)
            .await
            .map_err(|_| Error::usage("timed out waiting for the condition"))??;
        if pod.object["status"]["phase"] == "Running" {
            exec::attach_to(cluster, &pod, &self.streams).await?;
        } else {
            // It ran before anyone could attach: what it said is in its log.
            let log = cluster.request(http::Method::GET, &format!("{}/log", pod.path()), "*/*", "", Vec::new()).await?;
            crate::output::write_bytes(&log)?;
        }
        if self.restart != "Never" {
            return Ok(());
        }
        let mut code = None;
        watch::until(cluster, &collection, &name, |object| {
            let Some(object) = object else { return Ok(true) };
            code = object["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].as_i64();
            Ok(code.is_some())
        })
        .await?;
        match code {
            Some(code) if code != 0 => {
                eprintln!("pod {}/{name} terminated (Error)", pod.namespace());
                Err(Error::Silent(u8::try_from(code).unwrap_or(1)))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::FromArgMatches;

    #[test]
    fn a_pod_is_made_of_the_flags() {
        let command = Run::augment_args(clap::Command::new("run").no_binary_name(true));
        let words = ["x", "--image=i", "--restart=Never", "--env=A=b=c", "--command", "--", "sh", "-c", "true"];
        let run = Run::from_arg_matches(&command.get_matches_from(words)).unwrap();
        let pod = run.pod().unwrap();
        assert_eq!(pod["metadata"]["labels"], json!({"run": "x"}));
        assert_eq!(pod["spec"]["restartPolicy"], "Never");
        assert_eq!(pod["spec"]["containers"][0]["command"], json!(["sh", "-c", "true"]));
        assert_eq!(pod["spec"]["containers"][0]["env"], json!([{"name": "A", "value": "b=c"}]));
    }
}
