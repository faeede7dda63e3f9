//! Admission of connections: the operation `CONNECT`, whose object is the options of the connection.

use std::collections::BTreeMap;

use k3s_api::authentication::UserInfo;
use k3s_api::status::Status;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::ApiServer;
use crate::admission::{Attributes, Operation};
use crate::audit::Record;
use crate::request::{Query, RequestInfo};

/// The options of a connection, as admission leaves them.
#[derive(Debug)]
pub(super) struct Options {
    value: Value,
    /// The path of a proxied request as the client wrote it.
    asked_path: Option<String>,
    /// What the client is to be told beside the answer.
    pub warnings: Vec<String>,
}

impl Options {
    /// Those of the request.
    pub(super) fn of(kind: &str, info: &RequestInfo, query: &Query) -> Self {
        let value = options(kind, info, query);
        let asked_path = value["path"].as_str().map(str::to_owned);
        Self { value, asked_path, warnings: Vec::new() }
    }

    /// `stdin`, `stdout`, `stderr` or `tty`.
    pub fn flag(&self, name: &str) -> bool {
        self.value[name] == true
    }

    /// Empty: not said.
    pub fn container(&self) -> &str {
        self.value["container"].as_str().unwrap_or_default()
    }

    /// The command with its arguments.
    pub fn command(&self) -> Vec<&str> {
        self.value["command"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The ports of a port-forward; those that are none are left out.
    pub fn ports(&self) -> Vec<u16> {
        let ports = self.value["ports"].as_array().into_iter().flatten().filter_map(Value::as_u64);
        ports.filter_map(|port| u16::try_from(port).ok()).collect()
    }

    /// The path that admission has put in place of the client's.
    pub fn other_path(&self) -> Option<&str> {
        let path = self.value["path"].as_str().unwrap_or_default();
        self.asked_path.as_deref().filter(|asked| *asked != path).map(|_| path)
    }
}

/// Asks admission, which may change the options of the connection. What it has to say is told the audit log, too.
///
/// # Errors
/// The refusal.
pub(super) async fn admit(
    server: &ApiServer,
    info: &RequestInfo,
    query: &Query,
    user: &UserInfo,
    audit: Option<&Record>,
) -> Result<Options, Status> {
    let registry = server.registry();
    let row = registry.find(&info.group, &info.version, &info.resource).ok_or_else(Status::no_such_resource)?;
    let kind = row.subresource(&info.subresource).ok_or_else(Status::no_such_resource)?.kind.to_string();
    let mut options = Options::of(&kind, info, query);
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
    let admitted = async {
        server.admission().admit(&attributes, &mut options.value, None).await?;
        server.admission().validate(&attributes, &options.value, None).await
    };
    let admitted = admitted.await;
    drop(attributes);
    if let Some(record) = audit {
        record.annotate_all(&audit_annotations.lock());
    }
    admitted?;
    options.warnings = warnings.into_inner();
    Ok(options)
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

    #[test]
    fn a_path_counts_when_it_has_been_changed() {
        let info = RequestInfo { rest: "a%2Fb".to_owned(), ..RequestInfo::default() };
        let mut options = Options::of("PodProxyOptions", &info, &Query::default());
        assert_eq!(options.other_path(), None);
        options.value["path"] = "/c".into();
        assert_eq!(options.other_path(), Some("/c"));
        assert_eq!(Options::of("PodExecOptions", &info, &Query::default()).other_path(), None);
    }
}
