//! Defaults, minima and maxima of a namespace's limit ranges, for containers, pods and claims.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use k3s_api::object::{self, at};
use k3s_api::quantity::Quantity;
use k3s_api::status::{Status, aggregate};
use serde_json::{Map, Value, json};

use super::{Attributes, Operation, Plugin};
use crate::registry::known;

pub struct LimitRanger;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

#[async_trait]
impl Plugin for LimitRanger {
    async fn admit(&self, at: &Attributes<'_>, pod: &mut Value, _: Option<&Value>) -> Result<(), Status> {
        if !at.is("", "pods") || at.operation != Operation::Create {
            return Ok(());
        }
        for limits in limits(at).await? {
            let set = set_defaults(&limits, pod);
            if !set.is_empty() {
                let annotations = object::metadata_mut(pod).entry("annotations").or_insert_with(|| json!({}));
                annotations[ANNOTATION] = format!("LimitRanger plugin set: {}", set.join("; ")).into();
            }
        }
        Ok(())
    }

    async fn validate(&self, at: &Attributes<'_>, object: &Value, _: Option<&Value>) -> Result<(), Status> {
        let is_pod = at.is("", "pods") && at.operation == Operation::Create;
        let is_claim =
            at.is("", "persistentvolumeclaims") && matches!(at.operation, Operation::Create | Operation::Update);
        if !is_pod && !is_claim {
            return Ok(());
        }
        for limits in limits(at).await? {
            let mut errors = Vec::new();
            for limit in items(at_limits(&limits)) {
                match limit.get("type").and_then(Value::as_str) {
                    Some("Container") if is_pod => {
                        for (_, container) in containers(object) {
                            check(limit, "Container", &Usage::of(container.get("resources")), &mut errors);
                        }
                    }
                    Some("Pod") if is_pod => check(limit, "Pod", &Usage::of_pod(object), &mut errors),
                    Some("PersistentVolumeClaim") if is_claim => {
                        let usage = Usage::of(self::at(object, &["spec", "resources"]));
                        check_claim(limit, &usage, &mut errors);
                    }
                    _ => {}
                }
            }
            if !errors.is_empty() {
                return Err(at.forbidden(object, aggregate(&errors)));
            }
        }
        Ok(())
    }
}

async fn limits(at: &Attributes<'_>) -> Result<Vec<Arc<Value>>, Status> {
    let listing = at.registry.list(known::limit_ranges(), at.namespace).await?;
    Ok(listing.entries.iter().map(|entry| entry.value()).collect::<Result<_, _>>()?)
}

fn at_limits(range: &Value) -> Option<&Value> {
    at(range, &["spec", "limits"])
}

fn items(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

/// Containers of a pod: whether it is an init container, and the container.
fn containers(pod: &Value) -> impl Iterator<Item = (bool, &Value)> {
    let init = items(at(pod, &["spec", "initContainers"])).map(|container| (true, container));
    items(at(pod, &["spec", "containers"])).map(|container| (false, container)).chain(init)
}

/// Fills in requests and limits of containers. Returns what was set, in words.
fn set_defaults(range: &Value, pod: &mut Value) -> Vec<String> {
    let mut defaults: [Map<String, Value>; 2] = Default::default();
    for limit in items(at_limits(range)).filter(|limit| limit["type"] == "Container") {
        for (index, field) in ["defaultRequest", "default"].into_iter().enumerate() {
            defaults[index].extend(limit.get(field).and_then(Value::as_object).cloned().unwrap_or_default());
        }
    }
    let mut set = Vec::new();
    for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = object::section_mut(pod, "spec").get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            for (index, (field, word)) in [("requests", "request"), ("limits", "limit")].into_iter().enumerate() {
                let resources = object::section_mut(container, "resources");
                let given = resources.entry(field).or_insert_with(|| json!({}));
                let Some(given) = given.as_object_mut() else { continue };
                let missing: Vec<_> = defaults[index].iter().filter(|(key, _)| !given.contains_key(*key)).collect();
                let names: Vec<&str> = missing.iter().map(|(key, _)| key.as_str()).collect();
                if !names.is_empty() {
                    set.push(format!("{} {word} for {what} {name}", names.join(", ")));
                }
                given.extend(missing.into_iter().map(|(key, value)| (key.clone(), value.clone())));
                if given.is_empty() {
                    resources.remove(field);
                }
            }
        }
    }
    set
}

type Amounts = BTreeMap<String, Quantity>;

fn amounts(map: Option<&Value>) -> Amounts {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

pub(super) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// Requests and limits, of a container or of a whole pod.
pub(super) struct Usage {
    pub requests: Amounts,
    pub limits: Amounts,
}

impl Usage {
    fn of(resources: Option<&Value>) -> Self {
        let part = |name: &str| amounts(resources.and_then(|resources| resources.get(name)));
        Self { requests: part("requests"), limits: part("limits") }
    }

    /// The containers' sum, or what the greatest init container needs, if that is more; and the overhead.
    pub fn of_pod(pod: &Value) -> Self {
        let mut total = Self { requests: Amounts::new(), limits: Amounts::new() };
        for (init, container) in containers(pod) {
            let one = Self::of(container.get("resources"));
            for (sum, part) in [(&mut total.requests, one.requests), (&mut total.limits, one.limits)] {
                for (name, amount) in part {
                    let sum = sum.entry(name).or_default();
                    if init { *sum = (*sum).max(amount) } else { *sum += amount }
                }
            }
        }
        for (name, amount) in amounts(at(pod, &["spec", "overhead"])) {
            *total.requests.entry(name.clone()).or_default() += amount;
            if let Some(limit) = total.limits.get_mut(&name) {
                *limit += amount;
            }
        }
        total
    }
}

fn check(limit: &Value, kind: &str, usage: &Usage, errors: &mut Vec<String>) {
    for (name, enforced) in amounts(limit.get("min")) {
        let (request, bound) = (usage.requests.get(&name), usage.limits.get(&name));
        let what = format!("minimum {name} usage per {kind} is {enforced}");
        match request {
            None => errors.push(format!("{what}.  No request is specified")),
            Some(request) if *request < enforced => errors.push(format!("{what}, but request is {request}")),
            Some(_) => {
                if let Some(bound) = bound.filter(|bound| **bound < enforced) {
                    errors.push(format!("{what}, but limit is {bound}"));
                }
            }
        }
    }
    for (name, enforced) in amounts(limit.get("max")) {
        let (request, bound) = (usage.requests.get(&name), usage.limits.get(&name));
        let what = format!("maximum {name} usage per {kind} is {enforced}");
        match bound {
            None => errors.push(format!("{what}.  No limit is specified")),
            Some(bound) if *bound > enforced => errors.push(format!("{what}, but limit is {bound}")),
            Some(_) => {
                if let Some(request) = request.filter(|request| **request > enforced) {
                    errors.push(format!("{what}, but request is {request}"));
                }
            }
        }
    }
    for (name, enforced) in amounts(limit.get("maxLimitRequestRatio")) {
        let (request, bound) = (usage.requests.get(&name), usage.limits.get(&name));
        let what = format!("{name} max limit to request ratio per {kind} is {enforced}");
        match (request.filter(|request| !request.is_zero()), bound.filter(|bound| !bound.is_zero())) {
            (None, _) => errors.push(format!("{what}, but no request is specified or request is 0")),
            (_, None) => errors.push(format!("{what}, but no limit is specified or limit is 0")),
            (Some(request), Some(bound)) => {
                let ratio = bound.as_f64() / request.as_f64();
                if ratio > enforced.as_f64() {
                    errors.push(format!("{what}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

fn check_claim(limit: &Value, usage: &Usage, errors: &mut Vec<String>) {
    let kind = "PersistentVolumeClaim";
    for (name, enforced) in amounts(limit.get("min")) {
        match usage.requests.get(&name) {
            None => errors.push(format!("minimum {name} usage per {kind} is {enforced}.  No request is specified")),
            Some(request) if *request < enforced => {
                errors.push(format!("minimum {name} usage per {kind} is {enforced}, but request is {request}"));
            }
            Some(_) => {}
        }
    }
    for (name, enforced) in amounts(limit.get("max")) {
        match usage.requests.get(&name) {
            None => errors.push(format!("maximum {name} usage per {kind} is {enforced}.  No request is specified")),
            Some(request) if *request > enforced => {
                errors.push(format!("maximum {name} usage per {kind} is {enforced}, but request is {request}"));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_set_and_told() {
        let range = json!({"spec": {"limits": [
            {"type": "Container", "default": {"cpu": "2", "memory": "1Gi"}, "defaultRequest": {"cpu": "1"}},
        ]}});
        let mut pod = json!({"spec": {"containers": [{"name": "c", "resources": {"limits": {"cpu": "3"}}}]}});
        assert_eq!(set_defaults(&range, &mut pod), ["cpu request for container c", "memory limit for container c"]);
        assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "3", "memory": "1Gi"}));
    }

    #[test]
    fn what_is_out_of_bounds_is_told_as_in_kubernetes() {
        let limit = json!({"min": {"cpu": "50m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "4"}});
        let usage = |request: &str, bound: &str| {
            Usage::of(Some(&json!({"requests": {"cpu": request}, "limits": {"cpu": bound}})))
        };
        let errors = |usage: &Usage| {
            let mut errors = Vec::new();
            check(&limit, "Container", usage, &mut errors);
            errors
        };
        assert!(errors(&usage("100m", "200m")).is_empty());
        assert_eq!(
            errors(&usage("10m", "200m")),
            [
                "minimum cpu usage per Container is 50m, but request is 10m",
                "cpu max limit to request ratio per Container is 4, but provided ratio is 20.000000"
            ]
        );
        assert_eq!(errors(&usage("1", "2")), ["maximum cpu usage per Container is 1, but limit is 2"]);
    }
}
