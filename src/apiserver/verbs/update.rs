//! update: a new state of an object or of its subresource.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use k3s_api::status::Status;
use k3s_api::strategy::generic;
use k3s_api::{apply, object, presence};
use serde_json::Value;

use super::create::{Written, lifetime};
use super::{create, input, managed, settle, subresource};
use crate::Body;
use crate::admission::Operation;
use crate::authorization::escalation;
use crate::call::Call;
use crate::options::{WriteKind, WriteOptions};
use crate::registry::{Entry, Outcome, key};

/// Answers with the object as the body says.
pub(crate) async fn update(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.query, WriteKind::Update)?;
    let mut value = input::object(call, body, options.field_validation)?;
    input::check_place(call, &mut value)?;
    let key = key(call.namespace(), &call.info.name);
    let mut current = current(call).await?;
    loop {
        let Some(entry) = &current else {
            return if call.row.strategy.allow_create_on_update && call.info.subresource.is_empty() {
                managed::track(call, &options, None, &mut value);
                create::store(call, value, &options).await?.respond(call, StatusCode::CREATED).await
            } else {
                Err(call.not_found())
            };
        };
        let old = call.read(entry).await?;
        let mut new = value.clone();
        managed::track(call, &options, Some(&old), &mut new);
        match store(call, entry, &old, new, &options, &key).await? {
            Stored::Done(written) => {
                settle_written(call, &written).await;
                return written.respond(call, StatusCode::OK).await;
            }
            Stored::Lost(now) => current = now,
        }
    }
}

/// The object asked for, as new as anything acknowledged before.
pub(crate) async fn current(call: &Call) -> Result<Option<Arc<Entry>>, Status> {
    Ok(call.registry().get(&call.row, call.namespace(), &call.info.name).await?)
}

/// How an attempt to store ended.
pub(crate) enum Stored {
    Done(Written),
    /// Somebody else was faster; this is what is there now.
    Lost(Option<Arc<Entry>>),
}

/// Takes a new state of the object through admission, preparation and validation, and stores it if the object is still
/// at the version that `old` is.
pub(crate) async fn store(
    call: &Call,
    entry: &Arc<Entry>,
    old: &Arc<Value>,
    mut new: Value,
    options: &WriteOptions,
    key: &str,
) -> Result<Stored, Status> {
    let row = &call.row;
    let chain = call.server.admission();
    let attributes = call.attributes(Operation::Update, &call.info.name, options.dry_run);
    // What is written through a subresource of another kind was admitted as that.
    let admit = is_own_kind(call);
    if admit {
        chain.admit(&attributes, &mut new, Some(old)).await?;
    }
    check_versions(call, old, &new)?;
    escalation::check(call, &new, Some(old)).await?;
    let errors = prepare(call, &mut new, old)?;
    if !errors.is_empty() {
        let causes = errors.into_iter().map(Into::into).collect();
        return Err(Status::invalid(&row.group, &row.kind, &call.info.name, causes));
    }
    if call.info.subresource.is_empty() {
        (row.strategy.update_warnings)(&new, old).into_iter().for_each(|warning| call.warn(warning));
    }
    let reserved = call.server.service_addresses().reserve(call, &mut new, Some(old), options.dry_run).await?;
    if admit {
        chain.validate(&attributes, &new, Some(old)).await?;
    }
    presence::forget_empty_lists(&mut new, row.schema());
    if goes_away(&new) {
        return remove(call, entry, new, options).await;
    }
    if options.dry_run {
        object::set_metadata(&mut new, "resourceVersion", object::resource_version(old));
        return Ok(Stored::Done(Written::DryRun(new)));
    }
    apply::keep_times(old, &mut new);
    let stored = call.encode(&new).await?;
    // What changes nothing is not written: the version stays.
    if is_same(entry, &stored) && !call.registry().is_stale(row, entry) {
        return Ok(Stored::Done(Written::Stored(Arc::clone(entry))));
    }
    match call.registry().update(row, key, entry.revision(), stored, lifetime(row)).await? {
        Outcome::Done(entry) => {
            reserved.keep(entry.revision());
            call.server.service_addresses().release_unused(call, old, &new).await?;
            Ok(Stored::Done(Written::Stored(entry)))
        }
        Outcome::Lost(now) => Ok(Stored::Lost(now)),
    }
}

/// Whether the request's body is the object itself, not a `Scale` or `Binding`.
fn is_own_kind(call: &Call) -> bool {
    call.row.subresource(&call.info.subresource).is_none_or(|part| part.kind == call.row.kind)
}

/// Waits a moment until what was written is in effect, if that is something that is.
pub(crate) async fn settle_written(call: &Call, written: &Written) {
    if matches!(written, Written::Stored(_)) && call.info.subresource.is_empty() {
        settle::catch_up(call).await;
    }
}

/// The version and uid that the request names must be those of the object.
fn check_versions(call: &Call, old: &Value, new: &Value) -> Result<(), Status> {
    let row = &call.row;
    let version = object::resource_version(new);
    if !version.is_empty() && version != "0" {
        if version != object::resource_version(old) {
            return Err(Status::modified(&row.group, &row.plural, &call.info.name));
        }
    } else if !row.strategy.allow_unconditional_update {
        let error = k3s_api::status::Cause {
            reason: "FieldValueInvalid".into(),
            message: "Invalid value: 0: must be specified for an update".to_owned(),
            field: "metadata.resourceVersion".to_owned(),
        };
        return Err(Status::invalid(&row.group, &row.kind, &call.info.name, vec![error]));
    }
    let (uid, stored) = (object::uid(new), object::uid(old));
    // That a patch would change it is for validation to tell.
    if !uid.is_empty() && uid != stored && call.info.verb != "patch" {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {stored}");
        return Err(Status::conflict(&row.group, &row.plural, &call.info.name, why));
    }
    Ok(())
}

/// The kind's preparation for an update of the object or of its subresource, and what is wrong with the result.
fn prepare(call: &Call, new: &mut Value, old: &Value) -> Result<Vec<k3s_api::validation::FieldError>, Status> {
    let row = &call.row;
    let errors = match call.info.subresource.as_str() {
        "" => {
            input::default(row, new);
            generic::prepare_update(row, new, old);
            generic::validate_update(row, new, old)
        }
        "status" => {
            generic::prepare_status(row, new, old);
            generic::validate_status(row, new, old)
        }
        name => return subresource::prepare(name, row, new, old),
    };
    Ok(errors)
}

/// An object that is being deleted goes when nothing holds it any more.
fn goes_away(new: &Value) -> bool {
    let no_finalizers = object::finalizers(new).next().is_none();
    let namespace_holds = object::kind(new) == "Namespace"
        && object::api_version(new) == "v1"
        && object::at(new, &["spec", "finalizers"]).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let graceful = object::deletion_grace_period_seconds(new).is_some_and(|seconds| seconds > 0);
    object::is_deleting(new) && no_finalizers && !namespace_holds && !graceful
}

async fn remove(call: &Call, entry: &Arc<Entry>, new: Value, options: &WriteOptions) -> Result<Stored, Status> {
    let mut new = new;
    object::set_metadata(&mut new, "resourceVersion", &entry.revision().to_string());
    if options.dry_run {
        return Ok(Stored::Done(Written::DryRun(new)));
    }
    match call.registry().delete(&call.row, entry).await? {
        Outcome::Done(_) => {
            call.server.service_addresses().release(call, entry).await?;
            Ok(Stored::Done(Written::DryRun(new)))
        }
        Outcome::Lost(now) => Ok(Stored::Lost(now)),
    }
}

/// Whether the stored bytes are the entry's, its version aside.
fn is_same(entry: &Entry, stored: &[u8]) -> bool {
    let version = u64::try_from(entry.revision()).unwrap_or_default();
    object::with_resource_version(stored, version).is_some_and(|bytes| bytes == **entry.bytes())
}
