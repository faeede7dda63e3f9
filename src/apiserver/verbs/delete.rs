//! delete and deletecollection.
//!
//! An object goes at once, unless something holds it: its finalizers, those that the propagation policy adds, a grace
//! period (pods on a node). Then it is marked, and goes with the update that takes the last of these away.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use k3s_api::object;
use k3s_api::resource::Resource;
use k3s_api::status::Status;
use serde_json::{Value, json};

use super::input::Expected;
use super::selection::Selection;
use super::{input, list, settle};
use crate::Body;
use crate::admission::Operation;
use crate::call::Call;
use crate::custom_resources::FINALIZER;
use crate::encode;
use crate::follow::set_condition;
use crate::options::{DeleteOptions, ListOptions, Propagation};
use crate::registry::{Entry, Outcome, Row};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Objects of a collection that are deleted at a time.
const WORKERS: usize = 8;

/// The kinds whose deletion answers with the object. (Kubernetes: `ReturnDeletedObject` of their registries.)
const RETURNED: [&str; 19] = [
    "persistentvolumes",
    "persistentvolumeclaims",
    "pods",
    "podtemplates",
    "resourcequotas",
    "serviceaccounts",
    "services",
    "csidrivers",
    "csinodes",
    "csistoragecapacities",
    "storageclasses",
    "volumeattachments",
    "volumeattributesclasses",
    "deviceclasses",
    "devicetaintrules",
    "resourceclaims",
    "resourceclaimtemplates",
    "resourceslices",
    "podcertificaterequests",
];

/// The kinds whose dependents outlive them if the client doesn't say: as it was when they came into being.
fn orphans_by_default(row: &Resource) -> bool {
    matches!((&*row.group, &*row.plural), ("", "replicationcontrollers") | ("batch", "jobs"))
}

/// The body of a deletion: `DeleteOptions`, or nothing.
fn options(call: &Call, body: &Bytes) -> Result<DeleteOptions, Status> {
    let expected = Expected::of("", "v1", "DeleteOptions");
    let body = if body.is_empty() { Value::Null } else { input::plain(&call.headers, body, expected)? };
    DeleteOptions::parse(&call.query, &body)
}

/// Deletes one object; answers with it as long as it is still there, or with success.
pub(crate) async fn delete(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let options = options(call, body)?;
    if call.row.group == "batch" && call.row.plural == "jobs" && options.propagation.is_none() {
        call.warn(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them \
             or set propagationPolicy=Orphan to suppress this warning",
        );
    }
    let entry = super::update::current(call).await?;
    let (value, gone) = remove(call, entry, &call.info.name, &options).await?;
    if !options.dry_run {
        match gone {
            true => settle::catch_up(call).await,
            false => settle::settle(call).await,
        }
    }
    if gone && !RETURNED.contains(&&*call.row.plural) {
        let row = &call.row;
        let status = Status::deleted(&row.group, &row.plural, object::name(&value), object::uid(&value));
        return Ok(encode::status(call.accept, &status));
    }
    call.value(StatusCode::OK, &value)
}

/// Deletes the selected objects; answers with the list of them as they were.
pub(crate) async fn delete_collection(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let options = options(call, body)?;
    let list_options = ListOptions::parse(&call.query, false)?;
    let selection = Selection::parse(&call.row, &list_options)?;
    let page = list::page(call, &list_options, &selection).await?;
    let mut deletions = stream::iter(page.entries.iter().cloned())
        .map(|entry| {
            let options = options.clone();
            async move {
                let name = entry.name().to_owned();
                match remove(call, Some(entry), &name, &options).await {
                    Err(status) if status.code != 404 => Err(status),
                    _ => Ok(()),
                }
            }
        })
        .buffer_unordered(WORKERS);
    while let Some(done) = deletions.next().await {
        done?;
    }
    drop(deletions);
    encode::list(call, &page.meta, page.entries)
}

/// Deletes an object or marks it. Returns what it is then, and whether it is gone.
pub(crate) async fn remove(
    call: &Call,
    mut current: Option<Arc<Entry>>,
    name: &str,
    options: &DeleteOptions,
) -> Result<(Value, bool), Status> {
    let row = &call.row;
    loop {
        let Some(entry) = &current else { return Err(call.not_found_name(name)) };
        let old = call.read(entry).await?;
        check_preconditions(row, &old, options)?;
        // An eviction was admitted as that.
        if call.info.subresource.is_empty() {
            let mut attributes = call.attributes(Operation::Delete, name, options.dry_run);
            attributes.delete_options = Some(options);
            let mut none = Value::Null;
            call.server.admission().admit(&attributes, &mut none, Some(&old)).await?;
            call.server.admission().validate(&attributes, &none, Some(&old)).await?;
        }
        let mut new = (*old).clone();
        let gone = mark(row, &mut new, options);
        if options.dry_run {
            return Ok((new, gone));
        }
        if gone {
            match call.registry().delete(row, entry).await? {
                Outcome::Done(_) => {
                    call.server.service_addresses().release(call, entry).await?;
                    return Ok((new, true));
                }
                Outcome::Lost(now) => current = now,
            }
            continue;
        }
        let stored = call.encode(&new).await?;
        if new == *old {
            return Ok((new, false));
        }
        let lifetime = super::create::lifetime(row);
        match call.registry().update(row, entry.key(), entry.revision(), stored, lifetime).await? {
            Outcome::Done(entry) => return Ok(((*call.read(&entry).await?).clone(), false)),
            Outcome::Lost(now) => current = now,
        }
    }
}

fn check_preconditions(row: &Row, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let name = object::name(old);
    // These two have a deletion of their own in Kubernetes, with words of its own.
    if matches!(&*row.plural, "namespaces" | "customresourcedefinitions")
        && let Some(uid) = options.uid.as_deref().filter(|uid| *uid != object::uid(old))
    {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", object::uid(old));
        return Err(Status::conflict(&row.group, &row.plural, name, why));
    }
    if let Some(uid) = &options.uid
        && uid != object::uid(old)
    {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been \
             deleted and then recreated",
            object::uid(old)
        );
        return Err(Status::conflict(&row.group, &row.kind, name, why));
    }
    if let Some(version) = &options.resource_version
        && version != object::resource_version(old)
    {
        let why = format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). \
             The object might have been modified",
            object::resource_version(old)
        );
        return Err(Status::conflict(&row.group, &row.kind, name, why));
    }
    Ok(())
}

/// Marks an object for deletion as far as that is needed. Returns whether it can go at once.
fn mark(row: &Resource, object: &mut Value, options: &DeleteOptions) -> bool {
    let now = Timestamp::now();
    set_propagation_finalizers(row, object, options);
    let is_namespace = row.group.is_empty() && row.plural == "namespaces";
    if row.plural == "customresourcedefinitions" && !object::finalizers(object).any(|name| name == FINALIZER) {
        let finalizers = object::metadata_mut(object).entry("finalizers").or_insert_with(|| json!([]));
        if let Some(finalizers) = finalizers.as_array_mut() {
            finalizers.push(FINALIZER.into());
        }
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        set_condition(object, "Terminating", "True", "InstanceDeletionPending", message);
    }
    let grace = if row.strategy.graceful { grace_period(object, options) } else { 0 };
    let held = object::finalizers(object).next().is_some()
        || is_namespace
            && object::at(object, &["spec", "finalizers"]).and_then(Value::as_array).is_some_and(|l| !l.is_empty());
    if grace == 0 && !held {
        if row.strategy.graceful {
            let metadata = object::metadata_mut(object);
            metadata.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
            object::set_metadata_time(object, "deletionTimestamp", now);
        }
        return true;
    }
    let period = object::deletion_grace_period_seconds(object);
    if !object::is_deleting(object) || period.is_some_and(|period| grace < period) {
        let already = object::is_deleting(object);
        // A shorter grace counts from when deletion was asked for first.
        let asked = match (object::deletion_timestamp(object), period) {
            (Some(due), Some(period)) => due - SignedDuration::from_secs(period),
            _ => now,
        };
        let due = asked + SignedDuration::from_secs(grace);
        object::set_metadata_time(object, "deletionTimestamp", if grace == 0 { now } else { due });
        let generation = object::generation(object);
        let metadata = object::metadata_mut(object);
        // Namespaces and definitions have no grace period: their own registry marks them.
        if !is_namespace && row.plural != "customresourcedefinitions" {
            metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
        }
        if generation > 0 && !already && row.plural != "customresourcedefinitions" {
            metadata.insert("generation".to_owned(), (generation + 1).into());
        }
    }
    if is_namespace {
        object::section_mut(object, "status").insert("phase".to_owned(), "Terminating".into());
    }
    false
}

/// How long a pod may take: what the request says, else the pod, else 30 s; nothing for one that no kubelet runs.
fn grace_period(pod: &Value, options: &DeleteOptions) -> i64 {
    let own = object::at(pod, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    let asked = options.grace_period_seconds.or(own).unwrap_or(30);
    let asked = if asked < 0 { 1 } else { asked };
    let unbound = object::text(pod, &["spec", "nodeName"]).unwrap_or_default().is_empty();
    let finished = matches!(object::text(pod, &["status", "phase"]), Some("Succeeded" | "Failed"));
    if unbound || finished { 0 } else { asked }
}

fn set_propagation_finalizers(row: &Resource, object: &mut Value, options: &DeleteOptions) {
    let present = |name: &str| object::finalizers(object).any(|finalizer| finalizer == name);
    let policy = options.propagation;
    // Without a policy, a finalizer that is there already says what was wished before.
    let orphan = match policy {
        Some(policy) => policy == Propagation::Orphan,
        None => present(ORPHAN) || (!present(FOREGROUND) && orphans_by_default(row)),
    };
    let foreground = match policy {
        Some(policy) => policy == Propagation::Foreground,
        None => present(FOREGROUND),
    };
    let mut finalizers: Vec<Value> =
        object::finalizers(object).filter(|name| !matches!(*name, ORPHAN | FOREGROUND)).map(Value::from).collect();
    finalizers.extend(orphan.then(|| json!(ORPHAN)));
    finalizers.extend(foreground.then(|| json!(FOREGROUND)));
    let metadata = object::metadata_mut(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".to_owned(), finalizers.into());
    }
}
