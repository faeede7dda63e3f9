//! `kubectl describe`: an object told at length, a file per kind, and a generic telling for the rest.

mod config;
mod container;
mod events;
mod generic;
mod namespace;
mod network;
mod node;
mod pod;
mod rbac;
mod storage;
mod volume;
mod workload;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::tabwriter;
use crate::target::Found;

pub use events::{interval, last_seen};

/// Text in the making: lines of cells that are aligned when it is done.
#[derive(Default)]
pub struct Writer {
    text: String,
}

/// Writes a line: its depth, and the cells (separated by tabs).
#[macro_export]
macro_rules! line {
    ($writer:expr, $level:expr, $($arguments:tt)*) => { $writer.line($level, &format!($($arguments)*)) };
}

impl Writer {
    /// A line, two blanks deep per level.
    pub fn line(&mut self, level: usize, cells: &str) {
        self.text.extend(std::iter::repeat_n("  ", level));
        self.text.push_str(cells);
        self.text.push('\n');
    }

    /// The aligned text.
    pub fn finish(self) -> String {
        tabwriter::align(&self.text)
    }

    /// A map, a line per entry (`Labels:`, `Annotations:`).
    pub fn map(&mut self, level: usize, title: &str, map: Option<&Map<String, Value>>) {
        let mut first = true;
        for (key, value) in map.into_iter().flatten() {
            let title = if std::mem::take(&mut first) { title } else { "" };
            self.line(level, &format!("{title}\t{key}={}", text(value)));
        }
        if first {
            self.line(level, &format!("{title}\t<none>"));
        }
    }

    /// Annotations: long values on lines of their own, what kubectl keeps there left out.
    pub fn annotations(&mut self, object: &Value) {
        let mut title = "Annotations:";
        for (key, value) in k3s_api::object::annotations(object).into_iter().flatten() {
            if key == "kubectl.kubernetes.io/last-applied-configuration" {
                continue;
            }
            let value = text(value);
            let value = value.trim_end_matches('\n');
            if (value.len() + key.len() + 2 > 140) || value.contains('\n') {
                self.line(0, &format!("{title}\t{key}:"));
                for line in value.lines() {
                    let cut: String = line.chars().take(140).collect();
                    let dots = if cut.len() < line.len() { "..." } else { "" };
                    self.line(0, &format!("\t  {cut}{dots}"));
                }
            } else {
                self.line(0, &format!("{title}\t{key}: {value}"));
            }
            title = "";
        }
        if !title.is_empty() {
            self.line(0, &format!("{title}\t<none>"));
        }
    }

    /// Name, namespace, labels and annotations.
    pub fn head(&mut self, object: &Value) {
        self.line(0, &format!("Name:\t{}", k3s_api::object::name(object)));
        let namespace = k3s_api::object::namespace(object);
        if !namespace.is_empty() {
            self.line(0, &format!("Namespace:\t{namespace}"));
        }
        self.map(0, "Labels:", k3s_api::object::labels(object));
        self.annotations(object);
    }

    /// `Controlled By:` if it is.
    pub fn controlled_by(&mut self, object: &Value) {
        if let Some(owner) = k3s_api::object::controller_of(object) {
            self.line(0, &format!("Controlled By:\t{}/{}", owner.kind, owner.name));
        }
    }

    /// The conditions of an object's status, with the columns given.
    pub fn conditions(&mut self, object: &Value, columns: &[(&str, &str)]) {
        let Some(conditions) = object["status"]["conditions"].as_array().filter(|list| !list.is_empty()) else {
            return;
        };
        self.line(0, "Conditions:");
        let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
        let rules: Vec<String> = titles.iter().map(|title| "-".repeat(title.len())).collect();
        self.line(1, &titles.join("\t"));
        self.line(1, &rules.join("\t"));
        for condition in conditions {
            let cells: Vec<String> = columns
                .iter()
                .map(
                    |(_, field)| {
                        if field.ends_with("Time") { time(&condition[*field]) } else { text(&condition[*field]) }
                    },
                )
                .collect();
            self.line(1, &cells.join(" \t"));
        }
    }
}

/// A value as one word: text as it is, nothing for null.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// A value, or what to say if there is none.
pub fn or(value: &Value, default: &str) -> String {
    let text = text(value);
    if text.is_empty() { default.to_owned() } else { text }
}

/// A list of texts, joined.
pub fn joined(value: &Value, separator: &str) -> String {
    value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(separator)
}

/// A time as RFC 1123 with the local zone: `Mon, 02 Jan 2006 15:04:05 +0000`.
pub fn time(value: &Value) -> String {
    match value.as_str().and_then(k3s_api::time::parse) {
        Some(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
        None => text(value),
    }
}

/// The name in the middle of a title: `ports` of `items(value["ports"])`.
pub fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// How long ago.
pub fn age(value: &Value) -> String {
    k3s_api::time::age(value.as_str(), Timestamp::now())
}

/// A pod template by itself, for `rollout history`.
pub fn pod_template(template: &Value) -> String {
    let mut writer = Writer::default();
    container::template(&mut writer, template);
    writer.finish()
}

/// Describes an object. `events`: whether to end with the events about it.
pub async fn describe(cluster: &Cluster, found: &Found, events: bool) -> Result<String, Error> {
    let mut writer = Writer::default();
    let object = &found.object;
    match (found.resource.group.as_str(), found.resource.kind.as_str()) {
        ("", "Pod") => pod::describe(&mut writer, object),
        ("", "Node") => node::describe(&mut writer, cluster, object).await?,
        ("", "Service") => network::service(&mut writer, cluster, object).await?,
        ("", "Endpoints") => network::endpoints(&mut writer, object),
        ("", "ConfigMap") => config::config_map(&mut writer, object),
        ("", "Secret") => config::secret(&mut writer, object),
        ("", "ServiceAccount") => config::service_account(&mut writer, object),
        ("", "Namespace") => namespace::describe(&mut writer, cluster, object).await?,
        ("", "PersistentVolumeClaim") => storage::claim(&mut writer, cluster, object).await?,
        ("", "PersistentVolume") => storage::volume(&mut writer, object),
        ("storage.k8s.io", "StorageClass") => storage::class(&mut writer, object),
        ("apps", "Deployment") => workload::deployment(&mut writer, cluster, object).await?,
        ("apps", "ReplicaSet") | ("", "ReplicationController") => {
            workload::replica_set(&mut writer, cluster, object).await?
        }
        ("apps", "StatefulSet") => workload::stateful_set(&mut writer, cluster, object).await?,
        ("apps", "DaemonSet") => workload::daemon_set(&mut writer, cluster, object).await?,
        ("batch", "Job") => workload::job(&mut writer, object),
        ("networking.k8s.io", "Ingress") => network::ingress(&mut writer, object),
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => rbac::role(&mut writer, object),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => rbac::binding(&mut writer, object),
        ("scheduling.k8s.io", "PriorityClass") => rbac::priority_class(&mut writer, object),
        _ => generic::describe(&mut writer, object),
    }
    // Nothing ever happens to these.
    let eventless = matches!(found.resource.kind.as_str(), "Secret" | "Event" | "Namespace")
        || found.resource.group == "rbac.authorization.k8s.io";
    if events && !eventless {
        events::describe(&mut writer, cluster, object).await?;
    }
    Ok(writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_head_tells_who_it_is() {
        let mut writer = Writer::default();
        writer.head(&json!({"metadata": {"name": "x", "namespace": "n", "labels": {"a": "b", "c": "d"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "k": "v"}}}));
        assert_eq!(
            writer.finish(),
            "Name:         x\nNamespace:    n\nLabels:       a=b\n              c=d\nAnnotations:  k: v\n"
        );
    }
}
