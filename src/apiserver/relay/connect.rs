//! Admission of connections: the operation `CONNECT`, whose object is the options of the connection.

use std::collections::BTreeMap;

use k3s_api::authentication::UserInfo;
use k3s_api::status::Status;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::admission::{Attributes, Operation};
use crate::request::{Query, RequestInfo};

/// Asks admission. Returns what the client is to be told beside the answer.
///
/// # Errors
/// The refusal.
pub(super) async fn admit(
    server: &ApiServer,
    info: &RequestInfo,
    query: &Query,
    user: &UserInfo,
) -> Result<Vec<String>, Status> {
    let registry = server.registry();
    let row = registry.find(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_resource)?;
    let kind = row.subresource(&info.subresource).ok_or_else(Status::no_such_resource)?.kind.to_string();
    let mut options = options(&kind, info, query);
    let (warnings, audit_annotations) = (Mutex::default(), Mutex::new(BTreeMap::new()));
    let attributes = Attributes {
        registry,
        relay: server.relay(),
        operation: Operation::Connect,
        resource: &row,
        subresource: &info.subresource,
        namespace: if row.namespaced { &info.namespace } else { "" },
        name: &info.name,
        user,
        dry_run: false,
        query: None,
        delete_options: None,
        warnings: &warnings,
        audit_annotations: &audit_annotations,
        authorizer: server.authorizer(),
        reinvocation: Mutex::default(),
    };
    server.admission().admit(&attributes, &mut options, None).await?;
    server.admission().validate(&attributes, &options, None).await?;
    drop(attributes);
    Ok(warnings.into_inner())
}

/// `PodExecOptions` and the like, of the request's parameters.
fn options(kind: &str, info: &RequestInfo, query: &Query) -> Value {
    let mut options = json!({"kind": kind, "apiVersion": "v1"});
    match kind {
        "PodExecOptions" | "PodAttachOptions" => {
            for name in ["stdin", "stdout", "stderr", "tty"] {
                if query.flag(name) {
                    options[name] = true.into();
                }
            }
            if let Some(container) = query.get("container").filter(|container| !container.is_empty()) {
                options["container"] = container.into();
            }
            let command: Vec<&str> = query.all("command").collect();
            if kind == "PodExecOptions" {
                options["command"] = json!(command);
            }
        }
        "PodPortForwardOptions" => {
            let ports = query.all("ports").flat_map(|ports| ports.split(','));
            let ports: Vec<u16> = ports.filter_map(|port| port.parse().ok()).collect();
            if !ports.is_empty() {
                options["ports"] = json!(ports);
            }
        }
        _ => options["path"] = format!("/{}", info.rest).into(),
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_the_request() {
        let info = RequestInfo { rest: "a/b".to_owned(), ..RequestInfo::default() };
        let query = Query::parse("command=sh&command=-c&stdin=true&tty=false&container=c&ports=80,443");
        assert_eq!(
            options("PodExecOptions", &info, &query),
            json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "container": "c", "command": ["sh", "-c"]})
        );
        assert_eq!(options("PodPortForwardOptions", &info, &query)["ports"], json!([80, 443]));
        assert_eq!(options("NodeProxyOptions", &info, &query)["path"], "/a/b");
    }
}
