//! Pod Security: pods keep to the standard that their namespace's labels name. What is merely warned about (pods, and
//! workloads that would make such pods) goes into `Warning` headers.
//!
//! Source: <https://kubernetes.io/docs/concepts/security/pod-security-admission/>.

mod checks;
mod policy;

use std::collections::BTreeMap;

use async_trait::async_trait;
use k3s_api::object::{self, at};
use k3s_api::status::Status;
use serde_json::Value;

use super::{Attributes, Operation, Plugin};
use crate::registry::known;
use checks::Pod;
use policy::{Level, Mode, Standard};

pub struct PodSecurity;

/// Of the pods that are there when a namespace's standard is tightened, no more than these are looked at.
const MAX_EXISTING: usize = 3000;
/// Subresources of pods that change nothing a standard speaks of.
const IGNORED: [&str; 8] = ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

#[async_trait]
impl Plugin for PodSecurity {
    async fn validate(&self, at: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        if at.operation == Operation::Delete || object.is_null() {
            return Ok(());
        }
        if at.is("", "namespaces") {
            return tightened(at, object, old).await;
        }
        if at.namespace.is_empty() {
            return Ok(());
        }
        let is_pod = at.resource.group.is_empty() && at.resource.plural == "pods";
        let pod = if is_pod { Some(object) } else { template(at, object) };
        let Some(pod) = pod else { return Ok(()) };
        if is_pod && (IGNORED.contains(&at.subresource) || old.is_some_and(|old| !is_significant(object, old))) {
            return Ok(());
        }
        let namespace = at.registry.get(known::namespaces(), "", at.namespace).await?;
        let Some(namespace) = namespace else { return Ok(()) };
        let namespace = namespace.value()?;
        let pod = Pod(pod);
        if is_pod {
            let standard = Standard::of(&namespace, Mode::Enforce);
            at.annotate("pod-security.kubernetes.io/enforce-policy", standard.to_string());
            let violations = checks::violations(standard, pod);
            if !violations.is_empty() {
                let why = format!("violates PodSecurity \"{standard}\": {}", checks::describe(&violations));
                return Err(at.forbidden(object, why));
            }
        }
        let standard = Standard::of(&namespace, Mode::Warn);
        let violations = checks::violations(standard, pod);
        if !violations.is_empty() {
            at.warn(format!("would violate PodSecurity \"{standard}\": {}", checks::describe(&violations)));
        }
        Ok(())
    }
}

/// The pod that a workload is a template of.
fn template<'a>(at: &Attributes<'_>, object: &'a Value) -> Option<&'a Value> {
    if !at.subresource.is_empty() {
        return None;
    }
    let path: &[&str] = match (&*at.resource.group, &*at.resource.plural) {
        ("", "podtemplates") => &["template"],
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &["spec", "template"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    };
    self::at(object, path).filter(|template| !template.is_null())
}

/// Whether an update changes what a standard may object to: images, and debugging containers.
fn is_significant(pod: &Value, old: &Value) -> bool {
    let images = |pod: &Value| -> Vec<(String, Value, Value)> {
        ["containers", "initContainers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|list| {
                let containers = at(pod, &["spec", list]).and_then(Value::as_array).into_iter().flatten();
                containers.map(move |c| (list.to_owned(), c["name"].clone(), c["image"].clone())).collect::<Vec<_>>()
            })
            .collect()
    };
    images(pod) != images(old)
}

/// Warns of pods that a namespace's new standard would refuse.
async fn tightened(at: &Attributes<'_>, namespace: &Value, old: Option<&Value>) -> Result<(), Status> {
    let Some(old) = old else { return Ok(()) };
    let (standard, before) = (Standard::of(namespace, Mode::Enforce), Standard::of(old, Mode::Enforce));
    let relaxed = standard.version == before.version && standard.level <= before.level;
    if standard == before || standard.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let name = object::name(namespace);
    let pods = at.registry.list(known::pods(), name).await?.entries;
    // The first pod's name and the number of pods, by what is wrong with them.
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for entry in pods.iter().take(MAX_EXISTING) {
        let violations = checks::violations(standard, Pod(&*entry.value()?));
        if violations.is_empty() {
            continue;
        }
        let reasons: Vec<&str> = violations.iter().map(|violation| violation.reason).collect();
        // Entries come in the order of names, so the first one stays.
        found.entry(reasons.join(", ")).or_insert_with(|| (entry.name().to_owned(), 0)).1 += 1;
    }
    if pods.len() > MAX_EXISTING {
        let total = pods.len();
        at.warn(format!(
            "new PodSecurity enforce level only checked against the first {MAX_EXISTING} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        let what = "violate the new PodSecurity enforce level";
        at.warn(format!("existing pods in namespace \"{name}\" {what} \"{standard}\""));
    }
    let mut warnings: Vec<String> = found
        .into_iter()
        .map(|(reasons, (pod, count))| match count {
            1 => format!("{pod}: {reasons}"),
            2 => format!("{pod} (and 1 other pod): {reasons}"),
            _ => format!("{pod} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    warnings.sort();
    warnings.into_iter().for_each(|warning| at.warn(warning));
    Ok(())
}
