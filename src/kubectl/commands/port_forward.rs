//! `kubectl port-forward`

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::error::Error;
use crate::flags::{Context, duration};
use crate::pods;
use crate::say;
use crate::target::Found;

/// Forward one or more local ports to a pod
#[derive(Debug, Args)]
pub struct PortForward {
    /// POD or TYPE/NAME
    name: String,
    /// [LOCAL_PORT:]REMOTE_PORT...
    ports: Vec<String>,
    /// Addresses to listen on (comma separated)
    #[arg(long, value_delimiter = ',', default_value = "localhost")]
    address: Vec<String>,
    /// The length of time to wait until at least one pod is running
    #[arg(long, default_value = "1m", value_parser = duration, hide = true)]
    pod_running_timeout: Duration,
}

pub async fn run(args: PortForward, context: &Context) -> Result<(), Error> {
    if args.ports.is_empty() {
        return Err(Error::usage(
            "TYPE/NAME and list of ports are required for port-forward\nSee 'kubectl port-forward -h' for help and examples",
        ));
    }
    let cluster = context.cluster().await?;
    let named = pods::named(&cluster, &args.name).await?;
    let pod = pods::one_of(&cluster, named.clone()).await?;
    let phase = pod.object["status"]["phase"].as_str().unwrap_or_default();
    if phase != "Running" {
        return Err(Error::usage(format!("unable to forward port because pod is not running. Current status={phase}")));
    }
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), pod.namespace());
    let mut listeners = Vec::new();
    for spec in &args.ports {
        let (local, remote) = ports(spec, &named, &pod)?;
        for listener in listen(&args.address, local).await? {
            let address = listener.local_addr().map_err(|error| cannot_listen(local, &error))?;
            say!("Forwarding from {address} -> {remote}");
            listeners.push((listener, remote));
        }
    }
    let serving =
        listeners.into_iter().map(|(listener, remote)| serve(listener, remote, api.clone(), pod.name().to_owned()));
    try_join_all(serving).await.map(|_| ())
}

/// Local and remote port of `80`, `8080:80`, `:80`, `http`; a service's port becomes that of its pods.
fn ports(spec: &str, named: &Found, pod: &Found) -> Result<(u16, u16), Error> {
    let (local, remote) = spec.split_once(':').unwrap_or((spec, spec));
    let remote =
        if named.resource.kind == "Service" { service_port(remote, named, pod)? } else { pod_port(remote, pod)? };
    let local = match local {
        "" | "0" => 0,
        local => match local.parse() {
            Ok(local) => local,
            // A name alone: the same number on both sides.
            Err(_) if !spec.contains(':') => remote,
            Err(_) => return Err(Error::usage(format!("error parsing local port '{local}'"))),
        },
    };
    Ok((local, remote))
}

fn pod_port(word: &str, pod: &Found) -> Result<u16, Error> {
    if let Ok(number) = word.parse::<u16>()
        && number > 0
    {
        return Ok(number);
    }
    let containers = pod.object["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let found = ports.find(|port| port["name"] == word).and_then(|port| port["containerPort"].as_u64());
    found
        .and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| Error::usage(format!("Pod '{}' does not have a named port '{word}'", pod.name())))
}

fn service_port(word: &str, service: &Found, pod: &Found) -> Result<u16, Error> {
    let ports = service.object["spec"]["ports"].as_array();
    let wanted = word.parse::<u64>().ok();
    let port = ports
        .into_iter()
        .flatten()
        .find(|port| port["name"] == word || (wanted.is_some() && port["port"].as_u64() == wanted));
    let port =
        port.ok_or_else(|| Error::usage(format!("Service {} does not have a service port {word}", service.name())))?;
    match &port["targetPort"] {
        Value::String(name) => pod_port(name, pod),
        Value::Number(number) if number.as_u64() != Some(0) => pod_port(&number.to_string(), pod),
        _ => pod_port(&port["port"].to_string(), pod),
    }
}

fn cannot_listen(port: u16, error: &std::io::Error) -> Error {
    Error::usage(format!("unable to listen on port {port}: {error}"))
}

/// Listens on all addresses; `localhost` is 127.0.0.1, and ::1 where there is IPv6.
async fn listen(addresses: &[String], port: u16) -> Result<Vec<TcpListener>, Error> {
    let mut listeners = Vec::new();
    for address in addresses {
        if address == "localhost" {
            let first = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
            let first = first.map_err(|error| cannot_listen(port, &error))?;
            let port = first.local_addr().map_err(|error| cannot_listen(port, &error))?.port();
            listeners.push(first);
            listeners.extend(TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await.ok());
            continue;
        }
        let ip: IpAddr = address.parse().map_err(|_| Error::usage(format!("{address} is not a valid IP")))?;
        let listener = TcpListener::bind(SocketAddr::from((ip, port))).await;
        listeners.push(listener.map_err(|error| cannot_listen(port, &error))?);
    }
    Ok(listeners)
}

async fn serve(listener: TcpListener, remote: u16, api: Api<Pod>, pod: String) -> Result<(), Error> {
    let local = listener.local_addr().map_err(|error| cannot_listen(0, &error))?.port();
    loop {
        let (client, _) = listener.accept().await.map_err(|error| cannot_listen(local, &error))?;
        say!("Handling connection for {local}");
        let (api, pod) = (api.clone(), pod.clone());
        // Ends with its connection, or with the process.
        tokio::spawn(async move {
            if let Err(cause) = forward(client, remote, &api, &pod).await {
                eprintln!("error: an error occurred forwarding {local} -> {remote}: {cause}");
            }
        });
    }
}

async fn forward(mut client: TcpStream, remote: u16, api: &Api<Pod>, pod: &str) -> Result<(), String> {
    let mut forwarder = api.portforward(pod, &[remote]).await.map_err(|error| error.to_string())?;
    let error = forwarder.take_error(remote);
    let mut stream = forwarder.take_stream(remote).ok_or("the port has no stream")?;
    let copied = copy_bidirectional(&mut client, &mut stream).await;
    drop(stream);
    forwarder.abort();
    if let Some(error) = error
        && let Some(Some(message)) = futures::FutureExt::now_or_never(error)
    {
        return Err(message);
    }
    // A client that hangs up early is its own business.
    copied.map(|_| ()).or(Ok(()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::Resource;
    use serde_json::json;

    #[test]
    fn ports_are_numbers_names_or_those_of_a_service() {
        let pod = Found {
            resource: pods::pod_resource(),
            object: json!({"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}}),
        };
        let resource = Resource { kind: "Service".into(), ..Resource::default() };
        let service = Found {
            resource,
            object: json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80, "targetPort": "http"}]}}),
        };
        assert_eq!(ports("80", &pod, &pod).unwrap(), (80, 80));
        assert_eq!(ports("8000:80", &pod, &pod).unwrap(), (8000, 80));
        assert_eq!(ports(":80", &pod, &pod).unwrap(), (0, 80));
        assert_eq!(ports("http", &pod, &pod).unwrap(), (8080, 8080));
        assert_eq!(ports("80", &service, &pod).unwrap(), (80, 8080));
        assert!(ports("81", &service, &pod).is_err());
        assert!(ports("x:80", &pod, &pod).is_err());
    }
}
