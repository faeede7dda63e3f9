//! `kubectl expose`

use clap::Args;
use serde_json::{Value, json};

use super::create::{CreateFlags, create, simple};
use crate::error::Error;
use crate::flags::Context;
use crate::manifest::{Document, FileFlags};
use crate::selector::SelectorFlags;
use crate::target::{self, Found};

/// Take a replication controller, service, deployment or pod and expose it as a new Kubernetes service
#[derive(Debug, Args)]
pub struct Expose {
    /// TYPE NAME, TYPE/NAME
    words: Vec<String>,
    #[command(flatten)]
    files: FileFlags,
    /// The port that the service should serve on
    #[arg(long)]
    port: Option<u16>,
    /// Name or number for the port on the container that the service should direct traffic to
    #[arg(long)]
    target_port: Option<String>,
    /// The network protocol for the service to be created
    #[arg(long)]
    protocol: Option<String>,
    /// Type for this service: ClusterIP, NodePort, LoadBalancer, or ExternalName
    #[arg(long = "type")]
    kind: Option<String>,
    /// The name for the newly created object
    #[arg(long)]
    name: Option<String>,
    /// A label selector to use for this service
    #[arg(long)]
    selector: Option<String>,
    /// Labels to apply to the service
    #[arg(short, long)]
    labels: Option<String>,
    /// ClusterIP to be assigned to the service; 'None' for a headless service
    #[arg(long = "cluster-ip")]
    cluster_ip: Option<String>,
    #[command(flatten)]
    flags: CreateFlags,
}

fn labels_of(text: &str) -> Value {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    Value::Object(pairs.map(|(key, value)| (key.to_owned(), json!(value))).collect())
}

pub async fn run(args: Expose, context: &Context) -> Result<(), Error> {
    let cluster = context.cluster().await?;
    let found = target::objects(&cluster, &args.words, &args.files, &SelectorFlags::default(), false).await?;
    let mut documents = Vec::new();
    for found in &found {
        documents.push(Document { object: args.service(found)?, source: String::new() });
    }
    let flags = CreateFlags { field_manager: "kubectl-expose".to_owned(), ..args.flags.clone() };
    create(context, documents, &flags, "exposed").await
}

impl Expose {
    fn service(&self, found: &Found) -> Result<Value, Error> {
        let spec = &found.object["spec"];
        let (selector, template) = match found.resource.kind.as_str() {
            "Deployment" | "ReplicaSet" | "StatefulSet" => {
                (spec["selector"]["matchLabels"].clone(), &spec["template"]["spec"])
            }
            "ReplicationController" => (spec["selector"].clone(), &spec["template"]["spec"]),
            "Pod" => (found.object["metadata"]["labels"].clone(), spec),
            "Service" => (spec["selector"].clone(), spec),
            kind => return Err(Error::usage(format!("cannot expose a {kind}"))),
        };
        let selector = self.selector.as_deref().map_or(selector, labels_of);
        if selector.as_object().is_none_or(serde_json::Map::is_empty) {
            return Err(Error::usage(
                "couldn't retrieve selectors via --selector flag or introspection: the object has no labels",
            ));
        }
        let ports = match self.port {
            Some(port) => vec![(port, self.protocol.clone().unwrap_or_else(|| "TCP".to_owned()))],
            None => exposed(template),
        };
        if ports.is_empty() && self.cluster_ip.as_deref() != Some("None") {
            return Err(Error::usage("couldn't find port via --port flag or introspection"));
        }
        let several = ports.len() > 1;
        let ports: Vec<Value> = ports
            .into_iter()
            .enumerate()
            .map(|(index, (port, protocol))| {
                let target = match &self.target_port {
                    Some(target) => target.parse::<u16>().map_or_else(|_| json!(target), |target| json!(target)),
                    None => json!(port),
                };
                let mut entry = json!({"port": port, "protocol": protocol, "targetPort": target});
                if several {
                    entry["name"] = json!(format!("port-{}", index + 1));
                }
                entry
            })
            .collect();
        let mut service = json!({"ports": ports, "selector": selector});
        if let Some(kind) = &self.kind {
            service["type"] = json!(kind);
        }
        if let Some(ip) = &self.cluster_ip {
            service["clusterIP"] = json!(ip);
        }
        let labels = self.labels.as_deref().map_or_else(|| found.object["metadata"]["labels"].clone(), labels_of);
        let metadata = if labels.is_object() { json!({"labels": labels}) } else { json!({}) };
        let name = self.name.as_deref().unwrap_or(found.name());
        let rest = json!({"metadata": metadata, "spec": service, "status": {"loadBalancer": {}}});
        let mut object = simple("v1", "Service", name, rest);
        k3s_api::object::set_metadata(&mut object, "namespace", found.namespace());
        Ok(object)
    }
}

/// The ports that containers (or a service) name.
fn exposed(spec: &Value) -> Vec<(u16, String)> {
    let lists = spec["containers"].as_array().into_iter().flatten().chain([spec]);
    let ports = lists.flat_map(|holder| holder["ports"].as_array().into_iter().flatten());
    ports
        .filter_map(|port| {
            let number = port["containerPort"].as_u64().or(port["port"].as_u64())?;
            Some((u16::try_from(number).ok()?, port["protocol"].as_str().unwrap_or("TCP").to_owned()))
        })
        .collect()
}
