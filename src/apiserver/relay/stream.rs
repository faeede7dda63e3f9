//! `pods/exec`, `pods/attach` and `pods/portforward`: upgraded connections to the kubelet.

use bytes::Bytes;
use http::{Request, Response};
use k3s_api::object;
use k3s_api::status::Status;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::connect::Options;
use super::forward::{Outgoing, wants_upgrade};
use super::target;
use crate::request::{Query, RequestInfo};
use crate::{ApiServer, Body, BoxError};

/// Tunnels the client to the kubelet of the pod's node.
pub(super) async fn stream<B>(
    server: &ApiServer,
    request: Request<B>,
    info: &RequestInfo,
    options: &Options,
) -> Result<Response<Body>, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let registry = server.registry();
    let pod = target::object(registry, "pods", &info.namespace, &info.name).await?;
    let (namespace, name) = (&info.namespace, &info.name);
    let path = match info.subresource.as_str() {
        "portforward" => format!("/portForward/{namespace}/{name}{}", ports(options)),
        subresource => {
            let container = target::container(&pod, options.container())?;
            let parameters = parameters(options, subresource)?;
            format!("/{subresource}/{namespace}/{name}/{container}{parameters}")
        }
    };
    let node = object::text(&pod, &["spec", "nodeName"]).filter(|node| !node.is_empty());
    let node = node.ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))?;
    if !wants_upgrade(request.headers()) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let backend = target::kubelet(registry, node, "pods").await?;
    let outgoing = Outgoing::new(request, path);
    if outgoing.upgrade.is_none() {
        return Err(Status::bad_request("this connection cannot be upgraded: use HTTP/1.1"));
    }
    let dialled = server.relay().forward(&backend, outgoing).await;
    dialled.map_err(|error| Status::plain(format!("error dialing backend: {error}")))
}

/// The kubelet's query for `PodExecOptions` or `PodAttachOptions`.
fn parameters(options: &Options, subresource: &str) -> Result<String, Status> {
    let mut out = Vec::new();
    // kubelets know these by other names.
    for (asked, sent) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if options.flag(asked) {
            out.push(format!("{sent}=1"));
        }
    }
    let streams = ["stdin", "stdout", "stderr"].iter().any(|stream| options.flag(stream));
    if !streams {
        return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
    }
    if subresource == "exec" {
        let command = options.command();
        if command.is_empty() {
            return Err(Status::bad_request("you must specify at least one command"));
        }
        out.extend(command.iter().map(|word| format!("command={}", utf8_percent_encode(word, NON_ALPHANUMERIC))));
    }
    Ok(format!("?{}", out.join("&")))
}

/// The ports of a WebSocket port-forward; SPDY says them per stream.
fn ports(options: &Options) -> String {
    let ports: Vec<String> = options.ports().iter().map(|port| format!("port={port}")).collect();
    if ports.is_empty() { String::new() } else { format!("?{}", ports.join("&")) }
}

/// What the client has written, where a port may be none.
pub(super) fn check_ports(query: &Query) -> Result<(), Status> {
    for port in query.all("ports").flat_map(|ports| ports.split(',')).filter(|port| !port.is_empty()) {
        port.parse::<u16>().map_err(|_| Status::bad_request(format!("invalid port {port}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_the_kubelet() {
        let exec = |query| Options::of("PodExecOptions", &RequestInfo::default(), &Query::parse(query));
        let options = exec("command=sh&command=-c&command=echo%20%26&stdin=true&stdout=1&tty=false&container=c");
        let expected = "?input=1&output=1&command=sh&command=%2Dc&command=echo%20%26";
        assert_eq!(parameters(&options, "exec").unwrap(), expected);
        assert_eq!(parameters(&options, "attach").unwrap(), "?input=1&output=1");
        assert_eq!(options.container(), "c");
        assert!(parameters(&exec("stdout=1"), "exec").is_err());
        assert!(parameters(&exec("command=sh"), "exec").is_err());
        let forward = |query| Options::of("PodPortForwardOptions", &RequestInfo::default(), &Query::parse(query));
        assert_eq!(ports(&forward("ports=80,443")), "?port=80&port=443");
        assert_eq!(ports(&forward("")), "");
        assert!(check_ports(&Query::parse("ports=99999")).is_err());
    }
}
