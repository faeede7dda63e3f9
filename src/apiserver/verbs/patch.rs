//! patch: JSON, merge and strategic merge patches, and server-side apply.

use bytes::Bytes;
use http::{Response, StatusCode};
use k3s_api::decode::{self, FieldValidation};
use k3s_api::object;
use k3s_api::patch::{self, PatchType};
use k3s_api::status::{Cause, Status};
use k3s_api::validation::{FieldError, Path};
use serde_json::Value;

use super::update::{self, Stored};
use super::{create, input, managed, yaml};
use crate::Body;
use crate::call::Call;
use crate::options::{self, WriteKind, WriteOptions};
use crate::registry::key;

/// How often a patch is tried again when the object has changed meanwhile.
const ATTEMPTS: usize = 5;

/// The kind of patch in the request.
///
/// # Errors
/// 415 if it is none.
pub(crate) fn patch_type(call: &Call) -> Result<PatchType, Status> {
    let custom = decode::is_custom(&call.row);
    PatchType::from_content_type(input::media_type(&call.headers))
        .filter(|kind| !(custom && *kind == PatchType::StrategicMerge))
        .ok_or_else(|| match input::media_type(&call.headers) {
            // A patch type that exists, but not for this kind.
            "application/strategic-merge-patch+json" => Status::unsupported_media_type(PatchType::accepted(custom)),
            _ => Status {
                message: "415: Unsupported Media Type".to_owned(),
                details: Some(Box::default()),
                ..Status::unsupported_media_type(PatchType::accepted(custom))
            },
        })
}

/// The options of a patch of that kind.
pub(crate) fn options(call: &Call, kind: PatchType) -> Result<WriteOptions, Status> {
    let options = if kind == PatchType::Apply { WriteKind::Apply } else { WriteKind::Patch };
    WriteOptions::parse(&call.query, options)
}

/// Answers with the object as the patch makes it.
pub(crate) async fn patch(call: &Call, body: &Bytes) -> Result<Response<Body>, Status> {
    let kind = patch_type(call)?;
    let options = options(call, kind)?;
    if kind == PatchType::Apply {
        return apply(call, body, &options).await;
    }
    let key = key(call.namespace(), &call.info.name);
    let mut current = update::current(call).await?;
    for _ in 0..ATTEMPTS {
        let Some(entry) = &current else { return Err(call.not_found()) };
        let old = call.read(entry).await?;
        let mut new = patched(call, kind, body, &old, options.field_validation)?;
        managed::track(call, &options, Some(&old), &mut new);
        match update::store(call, entry, &old, new, &options, &key).await? {
            Stored::Done(written) => {
                update::settle_written(call, &written).await;
                return written.respond(call, StatusCode::OK).await;
            }
            Stored::Lost(now) => current = now,
        }
    }
    Err(Status::modified(&call.row.group, &call.row.plural, &call.info.name))
}

/// The object with the patch applied, decoded and defaulted.
fn patched(
    call: &Call,
    kind: PatchType,
    body: &Bytes,
    old: &Value,
    validation: options::FieldValidation,
) -> Result<Value, Status> {
    let row = &call.row;
    let schema = row.schema();
    let ignores = validation == options::FieldValidation::Ignore;
    let mut complaints = if ignores { Vec::new() } else { patch::complaints(kind, body)? };
    let value = match kind {
        PatchType::Json => patch::json::apply(old, body)?,
        PatchType::Merge => patch::merge::apply(old, body)?,
        PatchType::StrategicMerge | PatchType::Apply => patch::strategic::apply(old, body, schema)?,
    };
    let strictness = if ignores { FieldValidation::Ignore } else { FieldValidation::Warn };
    let (decoded, text) = match kind {
        PatchType::StrategicMerge => (decode::decode_patched(value, schema, strictness), None),
        _ => {
            let text = patch::rendered(kind, old, body, &value, schema);
            (decode_patched(call, value, strictness), Some(text))
        }
    };
    let refuse = |error: decode::Error| match &text {
        Some(text) => patch::undecodable(text, &error.to_string()),
        None => patch::strategic::undecodable(body, &error.to_string()),
    };
    let decoded = decoded.map_err(refuse)?;
    complaints.extend(decoded.warnings);
    if validation == options::FieldValidation::Strict && !complaints.is_empty() {
        return Err(refuse(decode::Error::Strict(complaints)));
    }
    complaints.into_iter().for_each(|complaint| call.warn(complaint));
    let mut new = decoded.value;
    check_kind(call, kind, &mut new)?;
    input::check_namespace(call, &mut new)?;
    input::check_name(call, &new)?;
    input::default(row, &mut new);
    Ok(new)
}

/// Decodes what a JSON or merge patch made, by the kind that it says it is of.
fn decode_patched(call: &Call, value: Value, strictness: FieldValidation) -> Result<decode::Decoded, decode::Error> {
    let row = &call.row;
    let (version, kind) = (object::api_version(&value), object::kind(&value));
    if !decode::is_custom(row)
        && let Some(why) = decode::other_kind(version, kind, &row.group, &row.version, &row.kind)
    {
        return Err(decode::Error::Type(why));
    }
    decode::decode_value(value, row.schema(), strictness)
}

/// A patch cannot change the kind of an object. That of a built-in type is what it is decoded into, whatever it says; a
/// custom resource must say so itself.
fn check_kind(call: &Call, patch: PatchType, new: &mut Value) -> Result<(), Status> {
    let row = &call.row;
    let (version, kind) = (row.api_version(), &*row.kind);
    if decode::is_custom(row) && patch != PatchType::StrategicMerge {
        let wrong = [("kind", object::kind(new), kind), ("apiVersion", object::api_version(new), &*version)];
        let wrong = wrong.into_iter().filter(|(_, given, wanted)| given != wanted);
        let causes: Vec<Cause> = wrong
            .map(|(field, given, wanted)| {
                FieldError::invalid(&Path::new(field), given, format!("must be {wanted}")).into()
            })
            .collect();
        if !causes.is_empty() {
            return Err(Status::invalid(&row.group, kind, &call.info.name, causes));
        }
        return Ok(());
    }
    if let Some(fields) = new.as_object_mut() {
        fields.insert("apiVersion".to_owned(), version.into());
        fields.insert("kind".to_owned(), kind.into());
    }
    Ok(())
}

/// Server-side apply: creates the object if it isn't there.
async fn apply(call: &Call, body: &Bytes, options: &WriteOptions) -> Result<Response<Body>, Status> {
    let (configuration, duplicates) = configuration(body, options.field_validation)?;
    let key = key(call.namespace(), &call.info.name);
    let mut current = update::current(call).await?;
    for _ in 0..ATTEMPTS {
        let old = match &current {
            Some(entry) => Some(call.read(entry).await?),
            None => None,
        };
        let mut new = managed::apply(call, options, old.as_deref(), &configuration)?;
        if options.field_validation == options::FieldValidation::Strict && !duplicates.is_empty() {
            let why = format!("{}{}", input::NO_YAML, yaml::refusal(&duplicates));
            return Err(Status::bad_request(format!("error strict decoding YAML: {why}")));
        }
        duplicates.iter().for_each(|duplicate| call.warn(duplicate));
        if old.is_none() && !object::uid(&new).is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {}, and no existing object was found",
                object::uid(&new)
            );
            return Err(Status::conflict(&call.row.group, &call.row.plural, &call.info.name, why));
        }
        input::check_namespace(call, &mut new)?;
        input::check_name(call, &new)?;
        input::default(&call.row, &mut new);
        let (Some(entry), Some(old)) = (&current, &old) else {
            if !call.info.subresource.is_empty() {
                return Err(call.not_found());
            }
            let written = create::store(call, new, options).await?;
            update::settle_written(call, &written).await;
            return written.respond(call, StatusCode::CREATED).await;
        };
        match update::store(call, entry, old, new, options, &key).await? {
            Stored::Done(written) => {
                update::settle_written(call, &written).await;
                return written.respond(call, StatusCode::OK).await;
            }
            Stored::Lost(now) => current = now,
        }
    }
    Err(Status::modified(&call.row.group, &call.row.plural, &call.info.name))
}

/// The configuration in the body, and the fields that it has twice unless nobody wants to know.
fn configuration(body: &Bytes, validation: options::FieldValidation) -> Result<(Value, Vec<String>), Status> {
    let text = input::yaml_to_json(body)?;
    let configuration: Value = serde_json::from_slice(&text).map_err(Status::internal)?;
    if !configuration.is_object() && !configuration.is_null() {
        return Err(Status::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: {}",
            patch::wrong_type(&configuration, "map[string]interface {}")
        )));
    }
    let duplicates = match validation {
        options::FieldValidation::Ignore => Vec::new(),
        _ => input::yaml_duplicates(body),
    };
    Ok((configuration, duplicates))
}
