//! `kubectl cordon`, `uncordon` and `drain`

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Query, STRATEGIC_PATCH};
use crate::error::Error;
use crate::flags::{Context, duration};
use crate::output::Format;
use crate::pods;
use crate::selector::SelectorFlags;
use crate::target::{self, Found};
use crate::{say, watch};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// Which nodes.
#[derive(Debug, Args)]
pub struct Nodes {
    /// NODE...
    names: Vec<String>,
    #[command(flatten)]
    select: SelectorFlags,
}

/// Mark node as unschedulable
#[derive(Debug, Args)]
pub struct Cordon {
    #[command(flatten)]
    nodes: Nodes,
}

/// Mark node as schedulable
#[derive(Debug, Args)]
pub struct Uncordon {
    #[command(flatten)]
    nodes: Nodes,
}

/// Drain node in preparation for maintenance
#[derive(Debug, Args)]
pub struct Drain {
    #[command(flatten)]
    nodes: Nodes,
    /// Ignore DaemonSet-managed pods
    #[arg(long)]
    ignore_daemonsets: bool,
    /// Continue even if there are pods using emptyDir
    #[arg(long)]
    delete_emptydir_data: bool,
    /// Continue even if there are pods that do not declare a controller
    #[arg(long)]
    force: bool,
    /// Period of time in seconds given to each pod to terminate gracefully; -1: the pod's own
    #[arg(long, default_value_t = -1, allow_negative_numbers = true)]
    grace_period: i64,
    /// The length of time to wait before giving up, zero means infinite
    #[arg(long, default_value = "0", value_parser = duration)]
    timeout: Duration,
    /// Force drain to use delete, even if eviction is supported
    #[arg(long)]
    disable_eviction: bool,
    /// Label selector to filter pods on the node
    #[arg(long)]
    pod_selector: Option<String>,
}

pub async fn cordon(args: Cordon, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    for node in args.nodes.find(&cluster, "cordon").await? {
        mark(&cluster, node, true).await?;
    }
    Ok(())
}

pub async fn uncordon(args: Uncordon, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    for node in args.nodes.find(&cluster, "uncordon").await? {
        mark(&cluster, node, false).await?;
    }
    Ok(())
}

impl Nodes {
    async fn find(&self, cluster: &Cluster, command: &str) -> Result<Vec<Found>, Error> {
        if self.names.is_empty() && !self.select.is_selective() {
            return Err(Error::usage(format!(
                "USAGE: {command} NODE [flags]\nSee 'kubectl {command} -h' for help and examples"
            )));
        }
        let mut words = Vec::new();
        if self.names.iter().any(|name| name.contains('/')) {
            words.extend(self.names.iter().cloned());
        } else {
            words.push("nodes".to_owned());
            words.extend(self.names.iter().cloned());
        }
        target::objects(cluster, &words, &Default::default(), &self.select, false).await
    }
}

async fn mark(cluster: &Cluster, mut node: Found, unschedulable: bool) -> Result<(), Error> {
    let done = if unschedulable { "cordoned" } else { "uncordoned" };
    if (node.object["spec"]["unschedulable"] == true) == unschedulable {
        return Format::Default.print_done(&node, &format!("already {done}"));
    }
    let patch = json!({"spec": {"unschedulable": if unschedulable { json!(true) } else { Value::Null }}});
    node.object = cluster.patch(&node.path(), STRATEGIC_PATCH, patch.to_string().into_bytes()).await?;
    Format::Default.print_done(&node, done)
}

pub async fn drain(args: Drain, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    let nodes = args.nodes.find(&cluster, "drain").await?;
    for node in &nodes {
        mark(&cluster, node.clone(), true).await?;
    }
    for node in nodes {
        let work = empty(&args, &cluster, &node);
        if args.timeout.is_zero() {
            work.await?;
        } else {
            let timed_out = || Error::usage(format!("drain did not complete within {:?}", args.timeout));
            tokio::time::timeout(args.timeout, work).await.map_err(|_| timed_out())??;
        }
        Format::Default.print_done(&node, "drained")?;
    }
    Ok(())
}

/// Whether a pod is to go, to stay, or stands in the way.
enum Verdict {
    Evict,
    Stay(Option<&'static str>),
    Refuse(&'static str),
}

fn judge(args: &Drain, pod: &Value) -> Verdict {
    let done = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if k3s_api::object::annotation(pod, MIRROR).is_some() {
        return Verdict::Stay(None);
    }
    let owner = k3s_api::object::controller_of(pod);
    if owner.as_ref().is_some_and(|owner| owner.kind == "DaemonSet") && !done {
        return if args.ignore_daemonsets {
            Verdict::Stay(Some("DaemonSet-managed Pods"))
        } else {
            Verdict::Refuse("cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore)")
        };
    }
    if done {
        return Verdict::Evict;
    }
    let uses_empty_dir =
        pod["spec"]["volumes"].as_array().into_iter().flatten().any(|volume| volume["emptyDir"].is_object());
    if uses_empty_dir && !args.delete_emptydir_data {
        return Verdict::Refuse("cannot delete Pods with local storage (use --delete-emptydir-data to override)");
    }
    if owner.is_none() && !args.force {
        return Verdict::Refuse("cannot delete Pods that declare no controller (use --force to override)");
    }
    Verdict::Evict
}

async fn empty(args: &Drain, cluster: &Cluster, node: &Found) -> Result<(), Error> {
    let query = Query::new()
        .with("fieldSelector", &format!("spec.nodeName={}", node.name()))
        .with_some("labelSelector", args.pod_selector.as_deref());
    let all = target::list(cluster, &pods::pod_resource(), None, &query).await?;
    let (mut going, mut refused, mut ignored) = (Vec::new(), Vec::new(), Vec::new());
    for pod in all {
        let label = format!("{}/{}", pod.namespace(), pod.name());
        match judge(args, &pod.object) {
            Verdict::Evict => going.push(pod),
            Verdict::Stay(Some(_)) => ignored.push(label),
            Verdict::Stay(None) => {}
            Verdict::Refuse(why) => refused.push(format!("{why}: {label}")),
        }
    }
    if !refused.is_empty() {
        return Err(Error::usage(format!("unable to drain node \"{}\": [{}]", node.name(), refused.join(", "))));
    }
    if !ignored.is_empty() {
        eprintln!("Warning: ignoring DaemonSet-managed Pods: {}", ignored.join(", "));
    }
    let mut options = json!({});
    if args.grace_period >= 0 {
        options["gracePeriodSeconds"] = json!(args.grace_period);
    }
    for pod in &going {
        evict(args, cluster, pod, &options).await?;
    }
    for pod in &going {
        let uid = k3s_api::object::uid(&pod.object);
        watch::until(cluster, &pods::collection(pod.namespace()), pod.name(), |object| {
            Ok(object.is_none_or(|object| k3s_api::object::uid(object) != uid))
        })
        .await?;
        say!("pod/{} evicted", pod.name());
    }
    Ok(())
}

/// A disruption budget may not allow it yet: then it is tried again until it does.
async fn evict(args: &Drain, cluster: &Cluster, pod: &Found, options: &Value) -> Result<(), Error> {
    say!("evicting pod {}/{}", pod.namespace(), pod.name());
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "deleteOptions": options,
        "metadata": {"name": pod.name(), "namespace": pod.namespace()}});
    loop {
        let outcome = if args.disable_eviction {
            cluster.delete(&pod.path(), options).await
        } else {
            cluster.create(&format!("{}/eviction", pod.path()), &eviction).await
        };
        match outcome {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(Error::Api(error)) if error.code == 429 => {
                eprintln!(
                    "error when evicting pods/\"{}\" -n \"{}\" (will retry after 5s): {}",
                    pod.name(),
                    pod.namespace(),
                    error.message
                );
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            Err(error) => return Err(error),
        }
    }
}
