//! What makes definitions of custom resources take effect: names are accepted, resources served, and when a definition
//! is deleted, its objects with it.

use std::sync::Weak;
use std::time::Duration;

use http::{Method, Request};
use k3s_api::authentication::UserInfo;
use k3s_api::object::{self, at, section_mut, text};
use k3s_kine::Revision;
use serde_json::Value;
use tower::ServiceExt;

use crate::follow::{set_condition, write_status};
use crate::registry::{self, Entry, Outcome, condition, known};
use crate::{ApiServer, Body, Inner};

/// Keeps a definition until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How long to wait for objects that are held by finalizers, or after a failure.
const RETRY: Duration = Duration::from_millis(200);
/// How long after a definition has been marked its objects are deleted.
const SETTLE: Duration = Duration::from_millis(300);

/// Follows the definitions as long as the server lives.
pub(crate) async fn run(server: Weak<Inner>) {
    loop {
        let Some(inner) = server.upgrade() else { return };
        let server_now = ApiServer { inner };
        let mut changed = match server_now.registry().cache(known::custom_resource_definitions()).await {
            Ok(cache) => cache.subscribe(),
            Err(error) => {
                tracing::error!(%error, "cannot read the definitions of custom resources");
                drop(server_now);
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        changed.mark_unchanged();
        let again = match reconcile(&server_now).await {
            Ok(again) => again,
            Err(error) => {
                tracing::warn!(%error, "cannot bring the definitions of custom resources into effect");
                true
            }
        };
        let stopped = server_now.inner.stop.clone();
        drop(server_now);
        tokio::select! {
            changed = changed.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if again => {}
            () = stopped.cancelled() => return,
        }
    }
}

/// Returns whether there is something left to do that no change will tell of.
pub(crate) async fn reconcile(server: &ApiServer) -> Result<bool, registry::Error> {
    let row = known::custom_resource_definitions();
    let entries = server.registry().list(row, "").await?.entries;
    let mut definitions = Vec::with_capacity(entries.len());
    for entry in &entries {
        definitions.push((entry.revision(), (*entry.value()?).clone()));
    }
    for index in 0..definitions.len() {
        if !object::is_deleting(&definitions[index].1) {
            let accepted = accept_names(&definitions, index);
            definitions[index].1 = accepted;
        }
    }
    // First served, then said to be: who reads `Established` may use the resource at once.
    server.registry().serve_custom(&definitions);
    let mut again = false;
    for (entry, (_, new)) in entries.iter().zip(definitions) {
        if object::is_deleting(&new) {
            again |= !clean_up(server, entry).await?;
        } else {
            write_status(server.registry(), row, entry, new).await?;
        }
    }
    Ok(again)
}

/// The first name of a definition that another one of its group has, with the reason that Kubernetes gives for it.
fn conflict(definition: &Value, others: &[&Value]) -> Option<(&'static str, String)> {
    let wanted = |field: &str| text(definition, &["spec", "names", field]).unwrap_or_default();
    let taken = |field: &str, name: &str| {
        !name.is_empty()
            && others.iter().any(|other| {
                let names = at(other, &["status", "acceptedNames"]);
                let has = |field: &str| names.and_then(|names| names.get(field)) == Some(&Value::from(name));
                match field {
                    "kind" | "listKind" => has("kind") || has("listKind"),
                    _ => {
                        let short = names.and_then(|names| names.get("shortNames")).and_then(Value::as_array);
                        has("plural") || has("singular") || short.is_some_and(|s| s.contains(&Value::from(name)))
                    }
                }
            })
    };
    let fields = [
        ("plural", "PluralConflict"),
        ("singular", "SingularConflict"),
        ("kind", "KindConflict"),
        ("listKind", "ListKindConflict"),
    ];
    let of_names = fields.into_iter().map(|(field, reason)| (field, wanted(field), reason));
    let short = at(definition, &["spec", "names", "shortNames"]).and_then(Value::as_array);
    let short =
        short.into_iter().flatten().filter_map(Value::as_str).map(|name| ("plural", name, "ShortNamesConflict"));
    of_names
        .chain(short)
        .find(|(field, name, _)| taken(field, name))
        .map(|(_, name, reason)| (reason, format!("{name:?} is already in use")))
}

/// One of the definitions as it is when it has its names, if nobody else has them; then its resources are served.
fn accept_names(definitions: &[(Revision, Value)], index: usize) -> Value {
    let old = &definitions[index].1;
    let group = text(old, &["spec", "group"]);
    let others = definitions.iter().enumerate().filter(|(other, _)| *other != index).map(|(_, (_, other))| other);
    let others: Vec<&Value> = others.filter(|other| text(other, &["spec", "group"]) == group).collect();
    let mut new = old.clone();
    match conflict(old, &others) {
        None => {
            let names = at(old, &["spec", "names"]).cloned().unwrap_or_default();
            section_mut(&mut new, "status").insert("acceptedNames".to_owned(), names);
            set_condition(&mut new, "NamesAccepted", "True", "NoConflicts", "no conflicts found");
            let message = "the initial names have been accepted";
            set_condition(&mut new, "Established", "True", "InitialNamesAccepted", message);
        }
        Some((reason, message)) => {
            set_condition(&mut new, "NamesAccepted", "False", reason, &message);
            if condition(old, "Established").is_none() {
                set_condition(&mut new, "Established", "False", "NotAccepted", "not all names are accepted");
            }
        }
    }
    new
}

/// Deletes a definition's objects, then lets the definition go. Returns whether that is done.
async fn clean_up(server: &ApiServer, entry: &Entry) -> Result<bool, registry::Error> {
    let old = entry.value()?;
    if !object::finalizers(&old).any(|finalizer| finalizer == FINALIZER) {
        return Ok(true);
    }
    let registry = server.registry();
    let group = text(&old, &["spec", "group"]).unwrap_or_default();
    let plural = text(&old, &["spec", "names", "plural"]).unwrap_or_default();
    let rows = registry.resources();
    let row = rows.iter().find(|row| row.group == group && row.plural == plural && row.is_storage_version());
    // Said before anything is deleted, as Kubernetes does: who reads the definition sees how far it is.
    let in_progress = condition(&old, "Terminating").is_some_and(|c| c["reason"] == "InstanceDeletionInProgress");
    if !in_progress {
        let mut new = (*old).clone();
        let message = "CustomResource deletion is in progress";
        set_condition(&mut new, "Terminating", "True", "InstanceDeletionInProgress", message);
        write_status(registry, known::custom_resource_definitions(), entry, new).await?;
        return Ok(false);
    }
    // Creates that were let in before the definition was marked are done by then, on every server.
    let cache = registry.cache(known::custom_resource_definitions()).await?;
    if cache.age(entry.revision()).is_some_and(|age| age < SETTLE) {
        return Ok(false);
    }
    if let Some(row) = row {
        let objects = registry.list(row, "").await?.entries;
        let mut namespaces: Vec<&str> = objects.iter().map(|object| object.namespace()).collect();
        namespaces.dedup();
        for namespace in &namespaces {
            let place = if namespace.is_empty() { String::new() } else { format!("namespaces/{namespace}/") };
            delete_all(server, &format!("/apis/{group}/{}/{place}{plural}", row.version)).await;
        }
        if !registry.list(row, "").await?.entries.is_empty() {
            return Ok(false);
        }
    }
    let mut new = (*old).clone();
    let kept: Vec<Value> = object::finalizers(&old).filter(|name| *name != FINALIZER).map(Value::from).collect();
    if kept.is_empty() {
        let gone = registry.delete(known::custom_resource_definitions(), entry).await?;
        return Ok(matches!(gone, Outcome::Done(_) | Outcome::Lost(None)));
    }
    object::metadata_mut(&mut new).insert("finalizers".to_owned(), kept.into());
    let row = known::custom_resource_definitions();
    let done = registry.update(row, entry.key(), entry.revision(), object::encode(&new), 0).await?;
    Ok(matches!(done, Outcome::Done(_)))
}

/// Deletes a collection through the API, so that admission and finalizers have their say.
async fn delete_all(server: &ApiServer, path: &str) {
    let mut request = Request::new(Body::Empty);
    *request.method_mut() = Method::DELETE;
    match path.parse() {
        Ok(uri) => *request.uri_mut() = uri,
        Err(error) => return tracing::warn!(%error, path, "cannot delete the objects of a definition"),
    }
    request.extensions_mut().insert(UserInfo::new("system:apiserver", &["system:masters"]));
    let Ok(response) = server.clone().oneshot(request).await;
    if !response.status().is_success() {
        tracing::warn!(code = response.status().as_u16(), path, "cannot delete the objects of a definition");
    }
}
