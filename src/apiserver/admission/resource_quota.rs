//! Nothing is created beyond the quotas of its namespace: each create charges them, in a compare-and-swap of the
//! quota's status, so that two creates can't use up the same rest. (What is deleted is given back by the quota
//! controller, which recounts.)

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k3s_api::apply::{Writer, reset_fields};
use k3s_api::object::{self, at, text};
use k3s_api::quantity::{Format, Quantity};
use k3s_api::status::Status;
use serde_json::Value;

use super::limit_ranger::{Usage, quantity};
use super::{Attributes, Operation, Plugin};
use crate::registry::{Entry, Outcome, known};

pub struct ResourceQuota;

/// How often a charge is tried again when the quota has changed meanwhile.
const ATTEMPTS: usize = 8;

type Amounts = BTreeMap<String, Quantity>;

#[async_trait]
impl Plugin for ResourceQuota {
    async fn validate(&self, at: &Attributes<'_>, object: &Value, _: Option<&Value>) -> Result<(), Status> {
        if at.operation != Operation::Create || at.namespace.is_empty() || !at.subresource.is_empty() {
            return Ok(());
        }
        let usage = usage(at, object);
        let mut charges = Vec::new();
        for entry in at.registry.list(known::resource_quotas(), at.namespace).await?.entries {
            if in_scope(&*entry.value()?, at, object) && check(at, object, &*entry.value()?, &usage)? {
                charges.push(entry);
            }
        }
        if at.dry_run {
            return Ok(());
        }
        for entry in charges {
            charge(at, object, entry, &usage).await?;
        }
        Ok(())
    }
}

/// What the object uses, by the names that quotas have for it.
fn usage(at: &Attributes<'_>, object: &Value) -> Amounts {
    let one = Quantity::from_units(1, Format::DecimalSi);
    let (group, plural) = (&at.resource.group, &at.resource.plural);
    let count = if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") };
    let mut usage = Amounts::from([(count, one)]);
    if !group.is_empty() {
        return usage;
    }
    match &**plural {
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => {
            usage.insert(plural.to_string(), one);
        }
        "services" => {
            usage.insert("services".to_owned(), one);
            let ports = Quantity::from_units(
                self::at(object, &["spec", "ports"]).and_then(Value::as_array).map_or(0, |ports| ports.len() as i64),
                Format::DecimalSi,
            );
            match text(object, &["spec", "type"]) {
                Some("NodePort") => drop(usage.insert("services.nodeports".to_owned(), ports)),
                Some("LoadBalancer") => {
                    usage.insert("services.loadbalancers".to_owned(), one);
                    usage.insert("services.nodeports".to_owned(), ports);
                }
                _ => {}
            }
        }
        "persistentvolumeclaims" => {
            usage.insert("persistentvolumeclaims".to_owned(), one);
            let storage = self::at(object, &["spec", "resources", "requests", "storage"]).and_then(quantity);
            if let Some(storage) = storage {
                usage.insert("requests.storage".to_owned(), storage);
                if let Some(class) = text(object, &["spec", "storageClassName"]) {
                    let prefix = format!("{class}.storageclass.storage.k8s.io");
                    usage.insert(format!("{prefix}/requests.storage"), storage);
                    usage.insert(format!("{prefix}/persistentvolumeclaims"), one);
                }
            }
        }
        "pods" => {
            usage.insert("pods".to_owned(), one);
            let pod = Usage::of_pod(object);
            for (name, amount) in pod.requests {
                if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
                    usage.insert(name.clone(), amount);
                }
                usage.insert(format!("requests.{name}"), amount);
            }
            usage.extend(pod.limits.into_iter().map(|(name, amount)| (format!("limits.{name}"), amount)));
        }
        _ => {}
    }
    usage
}

/// Whether the quota's scopes take the object in. Only pods have scopes.
fn in_scope(quota: &Value, at: &Attributes<'_>, object: &Value) -> bool {
    let scopes = self::at(quota, &["spec", "scopes"]).and_then(Value::as_array);
    let mut scopes = scopes.into_iter().flatten().filter_map(Value::as_str);
    let expressions = self::at(quota, &["spec", "scopeSelector", "matchExpressions"]).and_then(Value::as_array);
    let mut expressions = expressions.into_iter().flatten();
    if !at.is("", "pods") {
        return scopes.next().is_none() && expressions.next().is_none();
    }
    scopes.all(|scope| has_scope(scope, object))
        && expressions.all(|expression| {
            let scope = text(expression, &["scopeName"]).unwrap_or_default();
            let class = text(object, &["spec", "priorityClassName"]).unwrap_or_default();
            let values = expression.get("values").and_then(Value::as_array);
            let named = values.is_some_and(|values| values.iter().any(|value| value == class));
            match (scope, text(expression, &["operator"]).unwrap_or_default()) {
                ("PriorityClass", "In") => named,
                ("PriorityClass", "NotIn") => !named,
                (_, "DoesNotExist") => !has_scope(scope, object),
                _ => has_scope(scope, object),
            }
        })
}

fn has_scope(scope: &str, pod: &Value) -> bool {
    let terminating = at(pod, &["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).is_some();
    let best_effort = text(pod, &["status", "qosClass"]) == Some("BestEffort");
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort,
        "NotBestEffort" => !best_effort,
        "PriorityClass" => text(pod, &["spec", "priorityClassName"]).is_some_and(|class| !class.is_empty()),
        _ => false,
    }
}

fn amounts(quota: &Value, field: &str) -> Amounts {
    let map = at(quota, &["status", field]).and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, value)| Some((name.clone(), quantity(value)?))).collect()
}

fn shown(amounts: &Amounts, names: &[&String]) -> String {
    let show = |name: &&String| format!("{name}={}", amounts.get(*name).copied().unwrap_or_default());
    names.iter().map(show).collect::<Vec<_>>().join(",")
}

/// Whether the quota is concerned. Refuses what it has no room for.
fn check(at: &Attributes<'_>, object: &Value, quota: &Value, usage: &Amounts) -> Result<bool, Status> {
    let name = object::name(quota);
    let spec: Vec<String> = self::at(quota, &["spec", "hard"])
        .and_then(Value::as_object)
        .map(|hard| hard.keys().cloned().collect())
        .unwrap_or_default();
    let (hard, used) = (amounts(quota, "hard"), amounts(quota, "used"));
    if at.is("", "pods") {
        let missing: Vec<&str> = spec
            .iter()
            .map(String::as_str)
            .filter(|name| is_compute(name))
            .filter(|n| !usage.contains_key(*n))
            .collect();
        if !missing.is_empty() {
            let containers = self::at(object, &["spec", "containers"]).and_then(Value::as_array);
            let names = containers.into_iter().flatten().filter_map(|container| container.get("name")?.as_str());
            let names = names.collect::<Vec<_>>().join(",");
            let missing = missing.iter().map(|what| format!("{what} for: {names}")).collect::<Vec<_>>().join("; ");
            return Err(at.forbidden(object, format!("failed quota: {name}: must specify {missing}")));
        }
    }
    let concerned: Vec<&String> = spec.iter().filter(|name| usage.contains_key(*name)).collect();
    if concerned.is_empty() {
        return Ok(false);
    }
    let unknown: Vec<&str> =
        concerned.iter().filter(|name| !used.contains_key(**name)).map(|name| name.as_str()).collect();
    if !unknown.is_empty() {
        let why = format!("status unknown for quota: {name}, resources: {}", unknown.join(","));
        return Err(at.forbidden(object, why));
    }
    let amount = |of: &Amounts, name: &String| of.get(name).copied().unwrap_or_default();
    let exceeded: Vec<&String> = concerned
        .into_iter()
        .filter(|name| hard.contains_key(*name) && amount(&used, name) + amount(usage, name) > amount(&hard, name))
        .collect();
    if exceeded.is_empty() {
        return Ok(true);
    }
    let (requested, used, limited) = (shown(usage, &exceeded), shown(&used, &exceeded), shown(&hard, &exceeded));
    let why = format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}");
    Err(at.forbidden(object, why))
}

/// Whether pods must say how much of it they use.
fn is_compute(name: &str) -> bool {
    matches!(name, "cpu" | "memory" | "requests.cpu" | "requests.memory" | "limits.cpu" | "limits.memory")
}

async fn charge(at: &Attributes<'_>, object: &Value, quota: Arc<Entry>, usage: &Amounts) -> Result<(), Status> {
    let row = known::resource_quotas();
    let mut entry = quota;
    for _ in 0..ATTEMPTS {
        let old = entry.value()?;
        if !check(at, object, &old, usage)? {
            return Ok(());
        }
        let mut new = (*old).clone();
        let mut used = amounts(&new, "used");
        for (name, amount) in used.iter_mut() {
            *amount += usage.get(name).copied().unwrap_or_default();
        }
        let used = used.into_iter().map(|(name, amount)| (name, Value::from(amount.to_string()))).collect();
        object::section_mut(&mut new, "status").insert("used".to_owned(), Value::Object(used));
        let reset = reset_fields(true, false, "status");
        let writer = Writer {
            schema: row.schema(),
            api_version: "v1",
            kind: "ResourceQuota",
            subresource: "status",
            manager: "kube-apiserver",
            reset: &reset,
            now: Timestamp::now(),
        };
        writer.update(Some(&old), &mut new);
        match at.registry.update(row, entry.key(), entry.revision(), object::encode(&new), 0).await? {
            Outcome::Done(_) => return Ok(()),
            Outcome::Lost(Some(now)) => entry = now,
            Outcome::Lost(None) => return Ok(()),
        }
    }
    let name = entry.name().to_owned();
    Err(Status::modified("", "resourcequotas", &name))
}
