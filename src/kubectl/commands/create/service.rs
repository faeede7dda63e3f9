//! `kubectl create service`

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{CreateFlags, one_name, simple};
use crate::error::Error;

#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct Service {
    #[command(subcommand)]
    kind: Kind,
}

#[derive(Debug, Subcommand)]
enum Kind {
    /// Create a ClusterIP service
    #[command(name = "clusterip")]
    ClusterIp(Ports),
    /// Create a NodePort service
    #[command(name = "nodeport")]
    NodePort(Ports),
    /// Create a LoadBalancer service
    #[command(name = "loadbalancer")]
    LoadBalancer(Ports),
    /// Create an ExternalName service
    #[command(name = "externalname")]
    ExternalName(Ports),
}

#[derive(Debug, Args)]
struct Ports {
    /// NAME
    names: Vec<String>,
    /// Port pairs can be specified as '<port>:<targetPort>'
    #[arg(long, value_delimiter = ',')]
    tcp: Vec<String>,
    /// Assign your own ClusterIP or set to 'None' for a 'headless' service
    #[arg(long = "clusterip")]
    cluster_ip: Option<String>,
    /// Port used to expose the service on each node in a cluster
    #[arg(long)]
    node_port: Option<u16>,
    /// External name of service
    #[arg(long)]
    external_name: Option<String>,
    #[command(flatten)]
    flags: CreateFlags,
}

impl Service {
    /// The service, and how to create it.
    pub fn object(self) -> Result<(Value, CreateFlags), Error> {
        let (kind, word, args) = match self.kind {
            Kind::ClusterIp(args) => ("ClusterIP", "clusterip", args),
            Kind::NodePort(args) => ("NodePort", "nodeport", args),
            Kind::LoadBalancer(args) => ("LoadBalancer", "loadbalancer", args),
            Kind::ExternalName(args) => ("ExternalName", "externalname", args),
        };
        let name = one_name(&args.names, &format!("create service {word}"))?;
        let headless = args.cluster_ip.as_deref() == Some("None");
        if args.tcp.is_empty() && !headless && kind != "ExternalName" {
            return Err(Error::usage("at least one tcp port specifier must be provided"));
        }
        let mut ports = Vec::new();
        for pair in &args.tcp {
            let (port, target) = pair.split_once(':').unwrap_or((pair, pair));
            let port: u16 = port.parse().map_err(|_| Error::usage(format!("invalid port {pair}")))?;
            let target: Value = target.parse::<u16>().map_or_else(|_| json!(target), |target| json!(target));
            let mut entry =
                json!({"name": pair.replace(':', "-"), "port": port, "protocol": "TCP", "targetPort": target});
            if let Some(node_port) = args.node_port.filter(|_| kind == "NodePort") {
                entry["nodePort"] = json!(node_port);
            }
            ports.push(entry);
        }
        let mut spec = json!({"type": kind, "selector": {"app": name}});
        if !ports.is_empty() {
            spec["ports"] = Value::Array(ports);
        }
        if let Some(ip) = &args.cluster_ip {
            spec["clusterIP"] = json!(ip);
        }
        if let Some(external) = &args.external_name {
            spec["externalName"] = json!(external);
        }
        let rest = json!({"metadata": {"labels": {"app": name}}, "spec": spec, "status": {"loadBalancer": {}}});
        Ok((simple("v1", "Service", name, rest), args.flags))
    }
}
