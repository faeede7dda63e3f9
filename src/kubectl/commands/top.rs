//! `kubectl top`

use clap::{Args, Subcommand};
use k3s_api::quantity::Quantity;
use serde_json::Value;

use crate::cluster::{Cluster, Query};
use crate::error::Error;
use crate::flags::Context;
use crate::output;
use crate::output::columns::Columns;
use crate::target::CHUNK;

const API: &str = "/apis/metrics.k8s.io/v1beta1";

/// Display resource (CPU/memory) usage
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Top {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Display resource (CPU/memory) usage of nodes
    #[command(visible_aliases = ["nodes", "no"])]
    Node(What),
    /// Display resource (CPU/memory) usage of pods
    #[command(visible_aliases = ["pods", "po"])]
    Pod(What),
}

#[derive(Debug, Args)]
struct What {
    /// NAME
    name: Option<String>,
    /// Selector (label query) to filter on
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// If present, list the requested object(s) across all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// If present, print usage of containers within a pod
    #[arg(long)]
    containers: bool,
    /// If present, print output without headers
    #[arg(long)]
    no_headers: bool,
    /// Sort by cpu or memory
    #[arg(long)]
    sort_by: Option<String>,
}

pub async fn run(args: Top, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    if !cluster.discovery().await?.resources.iter().any(|own| own.group == "metrics.k8s.io") {
        return Err(Error::usage("Metrics API not available"));
    }
    match args.command {
        Command::Node(args) => nodes(&args, &cluster).await,
        Command::Pod(args) => pods(&args, &cluster).await,
    }
}

impl What {
    async fn fetch(&self, cluster: &Cluster, collection: &str) -> Result<Vec<Value>, Error> {
        if let Some(name) = &self.name {
            return Ok(vec![cluster.get(&format!("{collection}/{name}")).await?]);
        }
        let query = Query::new().with_some("labelSelector", self.selector.as_deref());
        let mut list = cluster.list(collection, &query, CHUNK).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// Sorts by what is asked for, else by name.
    fn sort(&self, items: &mut [Value], usage: impl Fn(&Value, &str) -> Quantity) -> Result<(), Error> {
        items.sort_by_key(|item| (k3s_api::object::namespace(item).to_owned(), k3s_api::object::name(item).to_owned()));
        match self.sort_by.as_deref() {
            None => {}
            Some(field @ ("cpu" | "memory")) => items.sort_by_key(|item| std::cmp::Reverse(usage(item, field))),
            Some(_) => return Err(Error::usage("--sort-by accepts only cpu or memory")),
        }
        Ok(())
    }
}

fn amount(value: &Value) -> Quantity {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(Quantity::ZERO)
}

fn cpu(quantity: Quantity) -> String {
    format!("{}m", quantity.milli_value())
}

fn memory(quantity: Quantity) -> String {
    format!("{}Mi", quantity.value() / (1024 * 1024))
}

async fn nodes(args: &What, cluster: &Cluster) -> Result<(), Error> {
    let mut metrics = args.fetch(cluster, &format!("{API}/nodes")).await?;
    args.sort(&mut metrics, |item, field| amount(&item["usage"][field]))?;
    let nodes = cluster.list("/api/v1/nodes", &Query::new(), CHUNK).await?;
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !args.no_headers {
        rows.push(["NAME", "CPU(cores)", "CPU(%)", "MEMORY(bytes)", "MEMORY(%)"].map(str::to_owned).to_vec());
    }
    for item in &metrics {
        let name = k3s_api::object::name(item);
        let node = nodes["items"].as_array().into_iter().flatten().find(|node| k3s_api::object::name(node) == name);
        let percent = |field: &str| {
            let whole = node.map_or(Quantity::ZERO, |node| amount(&node["status"]["allocatable"][field]));
            if whole.is_zero() {
                return "<unknown>".to_owned();
            }
            format!("{}%", (amount(&item["usage"][field]).as_f64() / whole.as_f64() * 100.0) as i64)
        };
        let usage = &item["usage"];
        rows.push(vec![
            name.to_owned(),
            cpu(amount(&usage["cpu"])),
            percent("cpu"),
            memory(amount(&usage["memory"])),
            percent("memory"),
        ]);
    }
    output::write(Columns::new().render(&rows))
}

async fn pods(args: &What, cluster: &Cluster) -> Result<(), Error> {
    let collection = match args.all_namespaces {
        true => format!("{API}/pods"),
        false => format!("{API}/namespaces/{}/pods", cluster.namespace),
    };
    let sum = |pod: &Value, field: &str| {
        let containers = pod["containers"].as_array().into_iter().flatten();
        containers.fold(Quantity::ZERO, |sum, container| sum + amount(&container["usage"][field]))
    };
    let mut metrics = args.fetch(cluster, &collection).await?;
    args.sort(&mut metrics, sum)?;
    if metrics.is_empty() {
        let place = if args.all_namespaces { String::new() } else { format!(" in {} namespace.", cluster.namespace) };
        eprintln!("No resources found{place}");
        return Ok(());
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut add = |namespace: &str, pod: &str, container: Option<&str>, usage: [String; 2]| {
        let mut row = Vec::new();
        if args.all_namespaces {
            row.push(namespace.to_owned());
        }
        if args.containers {
            row.extend([pod.to_owned(), container.unwrap_or_default().to_owned()]);
        } else {
            row.push(pod.to_owned());
        }
        row.extend(usage);
        rows.push(row);
    };
    if !args.no_headers {
        let pod = if args.containers { "POD" } else { "NAME" };
        add("NAMESPACE", pod, Some("NAME"), ["CPU(cores)".to_owned(), "MEMORY(bytes)".to_owned()]);
    }
    for pod in &metrics {
        let (namespace, name) = (k3s_api::object::namespace(pod), k3s_api::object::name(pod));
        if !args.containers {
            add(namespace, name, None, [cpu(sum(pod, "cpu")), memory(sum(pod, "memory"))]);
            continue;
        }
        for container in pod["containers"].as_array().into_iter().flatten() {
            let usage = &container["usage"];
            let usage = [cpu(amount(&usage["cpu"])), memory(amount(&usage["memory"]))];
            add(namespace, name, container["name"].as_str(), usage);
        }
    }
    output::write(Columns::new().render(&rows))
}
