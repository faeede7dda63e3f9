//! Where kubelets, pods and services are.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k3s_api::object;
use k3s_api::status::Status;
use rand::seq::IndexedRandom;
use serde_json::Value;

use super::dial::{Backend, Scheme};
use crate::authentication::Objects;
use crate::registry::{Registry, known};

/// A kubelet's port, where its node does not say another.
const KUBELET: u16 = 10250;

/// An object of the core group, or 404.
pub(super) async fn object(
    registry: &Registry,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<Arc<Value>, Status> {
    registry.catch_up().await?;
    Objects::get(registry, resource, namespace, name).await?.ok_or_else(|| Status::not_found("", resource, name))
}

/// The kubelet of a node. `asked` is the resource the request is for, which a missing node is reported as.
pub(super) async fn kubelet(registry: &Registry, node: &str, asked: &str) -> Result<Backend, Status> {
    let found = Objects::get(registry, "nodes", "", node).await?.ok_or_else(|| Status::not_found("", asked, node))?;
    let port = found.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
    let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0).unwrap_or(KUBELET);
    let addresses = found["status"]["addresses"].as_array();
    // As k3s: --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname. A host name is not resolved here.
    let address = ["InternalIP", "ExternalIP", "Hostname"].iter().find_map(|kind| {
        let of_kind = addresses.into_iter().flatten().filter(|address| address["type"] == *kind);
        of_kind.filter_map(|address| address["address"].as_str()?.parse::<IpAddr>().ok()).next()
    });
    let address = address.ok_or_else(|| {
        Status::internal(format!("no preferred addresses found; known addresses: {}", found["status"]["addresses"]))
    })?;
    Ok(Backend { scheme: Scheme::Kubelet, node: node.to_owned(), address: SocketAddr::new(address, port) })
}

/// The container that a request for a pod means.
pub(super) fn container<'a>(pod: &'a Value, asked: &'a str) -> Result<&'a str, Status> {
    let names = |field: &str| -> Vec<&'a str> {
        pod["spec"][field].as_array().into_iter().flatten().filter_map(|container| container["name"].as_str()).collect()
    };
    let (containers, init) = (names("containers"), names("initContainers"));
    let pod = object::name(pod);
    if !asked.is_empty() {
        let all = [&containers[..], &init, &names("ephemeralContainers")].concat();
        return match all.contains(&asked) {
            true => Ok(asked),
            false => Err(Status::bad_request(format!("container {asked} is not valid for pod {pod}"))),
        };
    }
    match containers.as_slice() {
        [one] => Ok(one),
        [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod}"))),
        _ => {
            let mut message =
                format!("a container name must be specified for pod {pod}, choose one of: [{}]", containers.join(" "));
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(Status::bad_request(message))
        }
    }
}

/// `scheme:name:port`, `name:port` or `name`, as names of proxied pods and services are written.
pub(super) fn split_name(name: &str) -> Option<(Scheme, &str, &str)> {
    let scheme = |scheme| match scheme {
        "http" | "" => Some(Scheme::Http),
        "https" => Some(Scheme::Https),
        _ => None,
    };
    match name.split(':').collect::<Vec<_>>().as_slice() {
        [name] => Some((Scheme::Http, name, "")),
        [name, port] => Some((Scheme::Http, name, port)),
        [of, name, port] => Some((scheme(of)?, name, port)),
        _ => None,
    }
}

/// A pod at its own address.
pub(super) async fn pod(registry: &Registry, namespace: &str, name: &str) -> Result<Backend, Status> {
    let Some((scheme, name, port)) = split_name(name) else {
        return Err(Status::bad_request(format!("invalid pod request \"{name}\"")));
    };
    let pod = object(registry, "pods", namespace, name).await?;
    let port = match port {
        // The first port that a container declares.
        "" => pod["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|container| container["ports"][0]["containerPort"].as_u64())
            .unwrap_or(if scheme == Scheme::Https { 443 } else { 80 })
            .to_string(),
        port => port.to_owned(),
    };
    let address = proxyable(object::text(&pod, &["status", "podIP"]).unwrap_or_default())?;
    let node = object::text(&pod, &["spec", "nodeName"]).unwrap_or_default().to_owned();
    Ok(Backend { scheme, node, address: SocketAddr::new(address, number(&port)?) })
}

/// One of a service's ready endpoints.
pub(super) async fn service(registry: &Registry, namespace: &str, name: &str) -> Result<Backend, Status> {
    let Some((scheme, name, port)) = split_name(name) else {
        return Err(Status::bad_request(format!("invalid service request \"{name}\"")));
    };
    // Not kept where its resource's name says.
    let found = registry.get(known::services(), namespace, name).await?;
    let service = found.ok_or_else(|| Status::not_found("", "services", name))?.value()?;
    let ports: Vec<&Value> = service["spec"]["ports"].as_array().into_iter().flatten().collect();
    let wanted = ports.iter().find(|candidate| {
        let named = candidate["name"].as_str().unwrap_or_default() == port;
        (port.is_empty() && ports.len() == 1)
            || named
            || candidate["port"].as_u64().is_some_and(|number| port.parse() == Ok(number))
    });
    let wanted = wanted.ok_or_else(|| {
        Status::service_unavailable(format!("no service port \"{port}\" found for service \"{name}\""))
    })?;
    let wanted = wanted["name"].as_str().unwrap_or_default();
    let mut candidates = Vec::new();
    for entry in registry.list(known::endpoint_slices(), namespace).await?.entries {
        let slice = entry.value()?;
        if object::label(&slice, "kubernetes.io/service-name") != Some(name) {
            continue;
        }
        let ports = slice["ports"].as_array().into_iter().flatten();
        let port =
            ports.filter(|port| port["name"].as_str().unwrap_or_default() == wanted).find_map(|p| p["port"].as_u64());
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"] == false {
                continue;
            }
            let node = endpoint["nodeName"].as_str().unwrap_or_default();
            let addresses = endpoint["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
            for address in addresses.filter_map(|address| proxyable(address).ok()) {
                candidates.push((node.to_owned(), SocketAddr::new(address, port)));
            }
        }
    }
    match candidates.choose(&mut rand::rng()) {
        Some((node, address)) => Ok(Backend { scheme, node: node.clone(), address: *address }),
        None => Err(Status::service_unavailable(format!("no endpoints available for service \"{name}\""))),
    }
}

/// An address that users may send requests to: not this host's own loopback, nor link-local services.
fn proxyable(address: &str) -> Result<IpAddr, Status> {
    let refused = || Status::bad_request("address not allowed");
    let address: IpAddr = address.parse().map_err(|_| refused())?;
    let local = match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local() || address.is_unspecified(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local() || address.is_unspecified(),
    };
    if local || address.is_multicast() { Err(refused()) } else { Ok(address) }
}

fn number(port: &str) -> Result<u16, Status> {
    port.parse().map_err(|_| Status::bad_request(format!("invalid port \"{port}\"")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_container_must_be_named_where_there_are_several() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
        assert_eq!(container(&one, "").unwrap(), "c");
        assert_eq!(container(&one, "x").unwrap_err().message, "container x is not valid for pod p");
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}],
            "initContainers": [{"name": "i"}]}});
        assert_eq!(container(&two, "i").unwrap(), "i");
        assert_eq!(
            container(&two, "").unwrap_err().message,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
    }

    #[test]
    fn a_proxied_name_may_have_scheme_and_port() {
        assert_eq!(split_name("web"), Some((Scheme::Http, "web", "")));
        assert_eq!(split_name("web:80"), Some((Scheme::Http, "web", "80")));
        assert_eq!(split_name("https:web:"), Some((Scheme::Https, "web", "")));
        assert_eq!(split_name("gopher:web:70"), None);
        assert!(proxyable("127.0.0.1").is_err() && proxyable("169.254.169.254").is_err() && proxyable("").is_err());
        assert!(proxyable("10.42.0.5").is_ok());
    }
}
