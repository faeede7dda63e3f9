//! Field management: `metadata.managedFields` of every write, and server-side apply.
//!
//! One [`Writer`] per request says who writes what. The API server calls it *after* decoding and defaulting the body and
//! *before* admission and the resource's `prepare` hooks, as Kubernetes does, so that what those add belongs to nobody:
//!
//! ```text
//! let reset = apply::reset_fields(has_status, custom, subresource);
//! let writer = apply::Writer { schema, api_version: "apps/v1", kind: "Deployment", subresource: "",
//!                              manager: &apply::manager_name(field_manager, user_agent), reset: &reset, now };
//! writer.update(None, &mut new);                            // create
//! writer.update(Some(&live), &mut new);                     // update; JSON, merge and strategic patch
//! let new = writer.apply(live.as_ref(), &config, force)?;   // apply: decode, default and validate what comes out
//! apply::keep_times(&live, &mut new);                       // last, before comparing with what is stored
//! ```
//!
//! A write through `/scale` is a write of the scaled object: the writer's schema and version are those of the object, its
//! subresource is `scale`.

mod fieldset;
mod managed;
mod merge;
mod typed;
mod validate;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

pub use fieldset::Set;
pub use managed::{Entry, Operation, decode, encode, keep_times, manager_name};
pub use merge::{atomics, merge};

use crate::object;
use crate::presence;
use crate::quote::quote;
use crate::schema::Schema;
use crate::status::{Cause, Status};
use typed::{Comparison, Type};

/// Owns what an object had before its first apply, if nobody was on record.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Where `kubectl apply` without `--server-side` keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Who writes, and what.
#[derive(Clone, Copy)]
pub struct Writer<'a> {
    /// Of the object.
    pub schema: Schema<'a>,
    /// `apps/v1`
    pub api_version: &'a str,
    pub kind: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// See [`manager_name`]; an empty one is `unknown`.
    pub manager: &'a str,
    /// Fields that this request cannot change; see [`reset_fields`].
    pub reset: &'a Set,
    pub now: Timestamp,
}

/// The fields that a write through a subresource (`""`: the object itself) cannot change, and that nobody comes to own
/// by it: the status of an object that has a status subresource, and all but the status through that.
pub fn reset_fields(has_status: bool, custom: bool, subresource: &str) -> Set {
    match subresource {
        "status" if custom => Set::of_fields(&[&["spec"], &["metadata"]]),
        "status" => Set::of_fields(&[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]),
        "approval" => Set::of_fields(&[&["spec"], &["status", "certificate"]]),
        "" | "finalize" | "ephemeralcontainers" | "resize" if has_status => Set::of_fields(&[&["status"]]),
        _ => Set::default(),
    }
}

/// What no manager owns: it identifies the object or is set by the server.
fn unowned() -> Set {
    let metadata = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut set = Set::of_fields(&[&["apiVersion"], &["kind"], &["metadata"]]);
    for name in metadata {
        set.insert(&["f:metadata".into(), format!("f:{name}").into_boxed_str()]);
    }
    set
}

impl Writer<'_> {
    fn entry(&self, operation: Operation, fields: Set) -> Entry {
        Entry {
            manager: if self.manager.is_empty() { "unknown" } else { self.manager }.to_owned(),
            operation,
            api_version: self.api_version.to_owned(),
            subresource: self.subresource.to_owned(),
            time: Some(self.now),
            fields,
        }
    }

    /// An object of the kind in which nothing is set.
    fn empty(&self) -> Value {
        let mut empty = Value::Object(Map::new());
        presence::normalize(&mut empty, self.schema);
        empty
    }

    /// Brings `managedFields` of `new` up to date after a create (`live` is `None`), update or patch.
    ///
    /// The entries go on from those in `new` if the request has any and writes the object itself, else from those of the
    /// stored object. An object whose managers have been forgotten is not tracked again.
    pub fn update(&self, live: Option<&Value>, new: &mut Value) {
        let stored = || live.and_then(decode).unwrap_or_default();
        let entries = match () {
            () if !self.subresource.is_empty() => stored(),
            () if managed::is_reset(new) => Vec::new(),
            () => decode(new).filter(|entries| !entries.is_empty()).unwrap_or_else(stored),
        };
        object::metadata_mut(new).remove("managedFields");
        if entries.is_empty() && live.is_some_and(|live| !object::uid(live).is_empty()) {
            return;
        }
        let changes = match live {
            Some(live) => typed::compare(live, new, Type::Known(self.schema)),
            None => typed::compare(&self.empty(), new, Type::Known(self.schema)),
        };
        let entries = self.updated(entries, changes);
        encode(new, entries);
    }

    /// The entries after an update that made these changes.
    fn updated(&self, mut entries: Vec<Entry>, changes: Comparison) -> Vec<Entry> {
        let Comparison { added, modified, removed } = changes.excluding(self.reset);
        let taken = added.union(&modified);
        for entry in &mut entries {
            entry.fields = entry.fields.difference(&taken).difference(&removed);
        }
        entries.retain(|entry| !entry.fields.is_empty());
        let own = self.entry(
            Operation::Update,
            taken.difference(&removed).recursive_difference(self.reset).difference(&unowned()),
        );
        if !own.fields.is_empty() {
            match entries.iter_mut().find(|entry| entry.is_same_manager(&own)) {
                Some(entry) => {
                    entry.fields = own.fields.union(&entry.fields);
                    entry.time = own.time;
                }
                None => entries.push(own),
            }
        }
        managed::cap(&mut entries);
        entries
    }

    /// Applies a configuration to the stored object, or to none: the object that comes out, with its `managedFields`.
    ///
    /// It is still to be decoded, defaulted and validated; `null` in it stands for what was removed.
    ///
    /// Errors: 400 for another kind or version and for `managedFields` in the configuration, 500 for fields that the
    /// schema doesn't have (as in Kubernetes), 409 for fields that others own, unless `force` takes them.
    pub fn apply(&self, live: Option<&Value>, config: &Value, force: bool) -> Result<Value, Status> {
        let (version, kind) = (object::api_version(config), object::kind(config));
        let (group, plain_version) = object::group_version(version);
        let described = format!("{group}/{plain_version}, Kind={kind}");
        if version != self.api_version || kind != self.kind {
            return Err(Status::bad_request(format!("invalid object type: {described}")));
        }
        if config.get("metadata").and_then(|m| m.get("managedFields")).is_some_and(|fields| !fields.is_null()) {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        if let Some(complaint) = validate::complaint(config, self.schema) {
            let described = if group.is_empty() { format!("/{plain_version}, Kind={kind}") } else { described };
            return Err(Status::plain(format!(
                "failed to create typed patch object ({}/{}; {described}): {complaint}",
                object::namespace(config),
                object::name(config)
            )));
        }
        match self.try_apply(live, config, force) {
            Ok(new) => Ok(new),
            Err(ApplyError::Unreadable) => Err(Status::plain("failed to decode managed fields")),
            Err(ApplyError::Conflicts(conflicts)) => {
                let conflicts = self.without_client_side(live, conflicts);
                if conflicts.is_empty() {
                    return self.apply(live, config, true);
                }
                Err(conflict_status(&conflicts))
            }
        }
    }

    fn try_apply(&self, live: Option<&Value>, config: &Value, force: bool) -> Result<Value, ApplyError> {
        let of = Type::Known(self.schema);
        let stored = live.map_or_else(|| Some(Vec::new()), decode).ok_or(ApplyError::Unreadable)?;
        let base = match live {
            Some(live) => {
                let mut live = live.clone();
                object::metadata_mut(&mut live).remove("managedFields");
                live
            }
            None => self.empty(),
        };
        let mut entries = stored.clone();
        if entries.is_empty() && live.is_some() {
            let first = Writer { manager: BEFORE_FIRST_APPLY, subresource: "", ..*self };
            entries = first.updated(entries, typed::compare(&self.empty(), &base, of));
        }

        let applied = typed::field_set(config, of).recursive_difference(self.reset);
        let mut own = self.entry(Operation::Apply, applied);
        let last = entries.iter().position(|entry| entry.is_same_manager(&own)).map(|index| entries.swap_remove(index));
        let mut new = typed::merge(&base, config, of);
        if let Some(last) = last.as_ref().filter(|last| !last.fields.is_empty()) {
            new = self.prune(&new, &last.fields, entries.iter().chain([&own]));
        }

        let changes = typed::compare(&base, &new, of).excluding(self.reset);
        let taken = changes.added.union(&changes.modified);
        let conflicts: Vec<(usize, Set)> = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (index, entry.fields.intersection(&taken)))
            .filter(|(_, conflict)| !conflict.is_empty())
            .collect();
        if !force && !conflicts.is_empty() {
            let named = conflicts.into_iter().map(|(index, fields)| (entries[index].clone(), fields));
            return Err(ApplyError::Conflicts(named.collect()));
        }
        for entry in &mut entries {
            entry.fields = entry.fields.difference(&taken).difference(&changes.removed);
        }
        own.fields = own.fields.difference(&unowned());
        // The time is that of the last change of the object: who says what is so already has none of his own.
        if live.is_some() && new == base {
            own.time = last.and_then(|last| last.time);
        }
        entries.push(own);
        self.keep_last_applied(&mut new, config);
        encode(&mut new, entries);
        Ok(new)
    }

    /// Takes out of `merged` what this manager applied last time, and neither it nor anyone else holds now.
    fn prune<'e>(&self, merged: &Value, last: &Set, entries: impl Iterator<Item = &'e Entry>) -> Value {
        let of = Type::Known(self.schema);
        let named = |set: &Set| typed::with_named_fields(set, of);
        let last = named(last);
        let pruned = typed::remove(merged, &last, of);
        let held = entries.fold(Set::default(), |held, entry| held.union(&entry.fields));
        let merged_set = named(&typed::field_set(merged, of));
        // What others hold comes back, …
        let kept = named(&typed::field_set(&pruned, of)).union(&named(&held));
        let pruned = typed::remove(merged, &merged_set.difference(&kept), of);
        // … and so does what was removed along with it, but had not been applied.
        let pruned_set = named(&typed::field_set(&pruned, of));
        typed::remove(merged, &merged_set.difference(&pruned_set).intersection(&last), of)
    }

    /// Conflicts that are none for `kubectl apply --server-side`: about what it applied from the client side before, and
    /// that is still so.
    fn without_client_side(&self, live: Option<&Value>, conflicts: Vec<(Entry, Set)>) -> Vec<(Entry, Set)> {
        let last = live.filter(|_| self.manager == "kubectl").and_then(|live| object::annotation(live, LAST_APPLIED));
        let last = last.and_then(|last| serde_json::from_str::<Value>(last).ok());
        let (Some(live), Some(last)) = (live, last) else { return conflicts };
        let of = Type::Known(self.schema);
        let Comparison { added, modified, removed } = typed::compare(&last, live, of);
        let allowed = typed::field_set(&last, of).difference(&modified).difference(&added).difference(&removed);
        let rest = conflicts.into_iter().map(|(entry, fields)| (entry, fields.difference(&allowed)));
        rest.filter(|(_, fields)| !fields.is_empty()).collect()
    }

    /// kubectl's own record of what was applied goes along with what it applies from the server side.
    fn keep_last_applied(&self, new: &mut Value, config: &Value) {
        if self.manager != "kubectl" || object::annotation(new, LAST_APPLIED).is_none_or(str::is_empty) {
            return;
        }
        let mut config = config.clone();
        if let Some(annotations) = config.get_mut("metadata").and_then(|m| m.get_mut("annotations")) {
            annotations.as_object_mut().map(|annotations| annotations.remove(LAST_APPLIED));
        }
        new["metadata"]["annotations"][LAST_APPLIED] = format!("{config}\n").into();
    }
}

enum ApplyError {
    /// The stored `managedFields` are in no known format.
    Unreadable,
    /// Whose fields would be taken.
    Conflicts(Vec<(Entry, Set)>),
}

fn conflict_status(conflicts: &[(Entry, Set)]) -> Status {
    let mut named: Vec<(String, Vec<String>)> =
        conflicts.iter().map(|(entry, fields)| (entry.describe(), fields.paths())).collect();
    named.sort();
    let causes: Vec<Cause> = named
        .iter()
        .flat_map(|(manager, paths)| {
            paths.iter().map(move |path| Cause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {manager}"),
                field: path.clone(),
            })
        })
        .collect();
    let message = match causes.as_slice() {
        [one] => format!("Apply failed with 1 conflict: {}: {}", one.message, one.field),
        many => {
            let mut lines = Vec::new();
            for (manager, paths) in &named {
                lines.push(format!("conflicts with {manager}:"));
                lines.extend(paths.iter().map(|path| format!("- {path}")));
            }
            format!("Apply failed with {} conflicts: {}", many.len(), lines.join("\n"))
        }
    };
    Status::apply_conflict(message, causes)
}

/// What is wrong with the `fieldManager` of a request, as causes of an invalid `CreateOptions`, `UpdateOptions` or
/// `PatchOptions`; `required` for server-side apply.
pub fn field_manager_causes(field_manager: &str, required: bool) -> Vec<Cause> {
    let cause =
        |reason: &'static str, message: String| Cause { reason: reason.into(), message, field: "fieldManager".into() };
    let mut causes = Vec::new();
    if required && field_manager.is_empty() {
        causes.push(cause("FieldValueRequired", "Required value: is required for apply patch".to_owned()));
    }
    if field_manager.len() > 128 {
        causes.push(cause("FieldValueTooLong", "Too long: may not be more than 128 bytes".to_owned()));
    }
    if let Some((index, _)) = field_manager.char_indices().find(|(_, c)| c.is_control()) {
        let why = format!("should only contain printable characters (found a non-printable one at position {index})");
        causes.push(cause("FieldValueInvalid", format!("Invalid value: {}: {why}", quote(field_manager))));
    }
    causes
}

/// An object that carries nothing but what a scale writes: the configuration of an apply through `/scale`, told in terms
/// of the scaled object.
pub fn scale_config(api_version: &str, kind: &str, name: &str, replicas: Option<i64>) -> Value {
    match replicas {
        Some(replicas) => json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name},
            "spec": {"replicas": replicas}}),
        None => json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}),
    }
}

#[cfg(test)]
mod tests;
