//! Nothing is created beyond the quotas of its namespace: each create charges them, and so does an update that needs
//! more, in a compare-and-swap of the quota's status. Two writes can't use up the same rest: they take turns in this
//! server ([`charges`]), and the swap keeps other servers off. What is deleted is given back by [`recount`].

mod charges;
pub(crate) mod recount;
mod scope;
mod usage;

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;
use k3s_api::apply::{Writer, reset_fields};
use k3s_api::object::{self, at, text};
use k3s_api::resource::Resource;
use k3s_api::status::Status;
use serde_json::Value;

use super::limit_ranger::quantity;
use super::{Attributes, Operation, Plugin};
use crate::registry::{self, Entry, Outcome, Registry, key, known};
use charges::Charge;
pub(crate) use charges::Charges;
use usage::Amounts;

pub(super) struct ResourceQuota(pub Arc<Charges>);

/// How often a charge is tried again when another server was faster.
const ATTEMPTS: usize = 16;

#[async_trait]
impl Plugin for ResourceQuota {
    async fn validate(&self, at: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
        if at.namespace.is_empty() || !is_charged(at) {
            return Ok(());
        }
        let rows = at.registry.list(known::resource_quotas(), at.namespace).await?;
        if rows.entries.is_empty() {
            return Ok(());
        }
        let needed = needed(at, object, old);
        if needed.is_empty() {
            return Ok(());
        }
        let _turn = self.0.turn(at.namespace).await;
        // What those before have charged.
        let mut concerned = Vec::new();
        for entry in at.registry.list(known::resource_quotas(), at.namespace).await?.entries {
            let quota = entry.value()?;
            if scope::takes_in(&quota, at.resource, object) && check(at, object, &quota, &needed)? {
                concerned.push(entry);
            }
        }
        let name = if at.name.is_empty() { object::name(object) } else { at.name };
        let is_taken =
            at.operation == Operation::Create && at.registry.get(at.resource, at.namespace, name).await?.is_some();
        // What can't be stored needs nothing.
        if at.dry_run || concerned.is_empty() || is_taken {
            return Ok(());
        }
        let charge = self.0.add(Charge {
            namespace: at.namespace.to_owned(),
            object: (format!("/registry/{}/", at.resource.storage_prefix), key(at.namespace, name)),
            uid: match at.operation {
                Operation::Create => text(object, &["metadata", "uid"]).unwrap_or_default().to_owned(),
                _ => String::new(),
            },
            amounts: concerned.iter().map(|entry| (entry.name().to_owned(), needed.clone())).collect(),
            since: Instant::now(),
        });
        for entry in concerned {
            if let Err(refused) = self::charge(at, object, entry, &needed).await {
                self.0.remove(&charge);
                return Err(refused);
            }
        }
        Ok(())
    }
}

/// Creates need what the object uses; of updates, those that may need more.
fn is_charged(at: &Attributes<'_>) -> bool {
    match at.operation {
        Operation::Create => at.subresource.is_empty(),
        Operation::Update => {
            at.is("", "services")
                || at.is("", "persistentvolumeclaims")
                || (at.resource.group.is_empty() && at.resource.plural == "pods" && at.subresource == "resize")
        }
        Operation::Delete | Operation::Connect => false,
    }
}

/// What the write needs beyond what the object has already.
fn needed(at: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Amounts {
    let mut usage = usage::of(at.resource, object);
    if let Some(old) = old.filter(|_| at.operation == Operation::Update) {
        let before = usage::of(at.resource, old);
        usage.retain(|name, amount| {
            let had = before.get(name).copied().unwrap_or_default();
            let more = *amount > had;
            *amount = if more { *amount - had } else { *amount };
            more
        });
    }
    usage
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
    if at.is("", "pods") && at.operation == Operation::Create {
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
    let mut entry = quota;
    for _ in 0..ATTEMPTS {
        let old = entry.value()?;
        if !check(at, object, &old, usage)? {
            return Ok(());
        }
        let mut used = amounts(&old, "used");
        for (name, amount) in used.iter_mut() {
            *amount += usage.get(name).copied().unwrap_or_default();
        }
        match store(at.registry, &entry, None, &used).await? {
            Outcome::Done(_) => return Ok(()),
            Outcome::Lost(Some(now)) => entry = now,
            Outcome::Lost(None) => return Ok(()),
        }
    }
    let name = entry.name().to_owned();
    Err(Status::modified("", "resourcequotas", &name))
}

/// Says in a quota's status what is used, and what the limits are, if that is new.
async fn store(
    registry: &Registry,
    entry: &Arc<Entry>,
    hard: Option<&Value>,
    used: &Amounts,
) -> Result<Outcome, registry::Error> {
    let row: &Resource = known::resource_quotas();
    let old = entry.value()?;
    let mut new = (*old).clone();
    let used = used.iter().map(|(name, amount)| (name.clone(), Value::from(amount.to_string()))).collect();
    let status = object::section_mut(&mut new, "status");
    status.insert("used".to_owned(), Value::Object(used));
    if let Some(hard) = hard {
        status.insert("hard".to_owned(), hard.clone());
    }
    if new == *old {
        return Ok(Outcome::Done(Arc::clone(entry)));
    }
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
    registry.update(row, entry.key(), entry.revision(), object::encode(&new), 0).await
}
