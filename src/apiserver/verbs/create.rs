//! create: a new object.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use jiff::Timestamp;
use k3s_api::resource::Resource;
use k3s_api::status::Status;
use k3s_api::strategy::generic;
use k3s_api::{object, presence};
use serde_json::Value;

use super::{input, managed, requestor, settle};
use crate::Body;
use crate::admission::Operation;
use crate::authorization::escalation;
use crate::call::Call;
use crate::options::{WriteKind, WriteOptions};
use crate::registry::{Entry, Outcome, Row, key};

/// How often a generated name is tried again when it is taken.
const GENERATE_ATTEMPTS: usize = 8;

/// Answers with the object that was created from the body.
pub(crate) async fn create(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.query, WriteKind::Create)?;
    let mut value = input::object(call, body, options.field_validation)?;
    input::check_namespace(call, &mut value)?;
    // What only the server sets is nobody's.
    for field in ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        object::metadata_mut(&mut value).remove(field);
    }
    managed::track(call, &options, None, &mut value);
    let created = store(call, value, &options).await?;
    if matches!(created, Written::Stored(_)) {
        settle::settle(call).await;
    }
    created.respond(call, StatusCode::CREATED).await
}

/// What a write made: stored, or as it would have been.
pub(crate) enum Written {
    Stored(Arc<Entry>),
    DryRun(Value),
}

impl Written {
    /// The answer with it.
    pub async fn respond(&self, call: &Call, code: StatusCode) -> Result<Response<Body>, Status> {
        match self {
            Self::Stored(entry) => call.entry(code, entry).await,
            Self::DryRun(value) => call.value(code, value),
        }
    }
}

/// Takes a decoded object through admission, the kind's preparation and validation, and stores it.
pub(crate) async fn store(call: &Call, mut value: Value, options: &WriteOptions) -> Result<Written, Status> {
    let row = &call.row;
    if let Row::Custom(custom) = row
        && custom.is_terminating
    {
        let why = "create not allowed while custom resource definition is terminating";
        return Err(Status::method_not_supported(&row.group, &row.plural, "create").with_message(why));
    }
    let chain = call.server.admission();
    let attributes = call.attributes(Operation::Create, &call.info.name, options.dry_run);
    chain.admit(&attributes, &mut value, None).await?;
    // Admission may change everything but the place.
    input::check_namespace(call, &mut value)?;
    escalation::check(call, &value, None).await?;
    let generated = object::name(&value).is_empty().then(|| object::generate_name(&value).to_owned());
    let base = generated.filter(|base| !base.is_empty());
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut new = value.clone();
        if let Some(base) = &base {
            object::set_metadata(&mut new, "name", &object::generated_name(base));
        }
        complete(row, &mut new);
        requestor::note(call, &mut new);
        let errors = generic::validate(row, &new);
        if !errors.is_empty() {
            let causes = errors.into_iter().map(Into::into).collect();
            return Err(Status::invalid(&row.group, &row.kind, object::name(&new), causes));
        }
        (row.strategy.warnings)(&new).into_iter().for_each(|warning| call.warn(warning));
        if !object::resource_version(&new).is_empty() {
            return Err(Status::plain("resourceVersion should not be set on objects to be created"));
        }
        let name = object::name(&new).to_owned();
        let taken = || Status::already_exists(&row.group, &row.plural, &name);
        let attributes = call.attributes(Operation::Create, &name, options.dry_run);
        let reserved = call.server.service_addresses().reserve(call, &mut new, None, options.dry_run).await?;
        chain.validate(&attributes, &new, None).await?;
        presence::forget_empty_lists(&mut new, row.schema());
        let key = key(call.namespace(), &name);
        if options.dry_run {
            if call.registry().get(row, call.namespace(), &name).await?.is_some() {
                return Err(taken());
            }
            return Ok(Written::DryRun(new));
        }
        let stored = call.encode(&new).await?;
        match call.registry().create(row, &key, stored, lifetime(row)).await? {
            Outcome::Done(entry) => {
                reserved.keep(entry.revision());
                return Ok(Written::Stored(entry));
            }
            Outcome::Lost(_) if base.is_some() && attempt < GENERATE_ATTEMPTS => {}
            Outcome::Lost(_) => return Err(taken()),
        }
    }
}

/// What only the server sets.
fn complete(row: &Resource, new: &mut Value) {
    input::default(row, new);
    object::set_metadata(new, "uid", &object::new_uid());
    object::set_metadata_time(new, "creationTimestamp", Timestamp::now());
    generic::prepare_create(row, new);
}

/// How long objects are kept, in seconds; 0: until they are deleted. Events tell what happened of late.
pub(crate) fn lifetime(row: &Resource) -> i64 {
    if row.storage_prefix == "events" { 3600 } else { 0 }
}
