//! patch: JSON, merge and strategic merge patches, and server-side apply.

use bytes::Bytes;
use http::{Response, StatusCode};
use k3s_api::decode::{self, FieldValidation};
use k3s_api::object;
use k3s_api::patch::{self, PatchType};
use k3s_api::status::Status;
use serde_json::Value;

use super::update::{self, Stored};
use super::{create, input, managed};
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
    let value = match kind {
        PatchType::Json => patch::json::apply(old, body)?,
        PatchType::Merge => patch::merge::apply(old, body)?,
        PatchType::StrategicMerge | PatchType::Apply => patch::strategic::apply(old, body, schema)?,
    };
    let strictness = match validation {
        options::FieldValidation::Ignore => FieldValidation::Ignore,
        options::FieldValidation::Warn => FieldValidation::Warn,
        options::FieldValidation::Strict => FieldValidation::Strict,
    };
    let text = value.to_string();
    let decoded = if kind == PatchType::StrategicMerge {
        decode::decode_patched(value, schema, strictness)
            .map_err(|error| patch::strategic::undecodable(body, &error.to_string()))?
    } else {
        decode::decode_value(value, schema, strictness)
            .map_err(|error| patch::undecodable(&text, &error.to_string()))?
    };
    for warning in decoded.warnings {
        call.warn(warning);
    }
    let mut new = decoded.value;
    if object::kind(&new) != row.kind || object::api_version(&new) != row.api_version() {
        let why = format!(
            "the patch makes {}, Kind={} of {}, Kind={}",
            object::api_version(&new),
            object::kind(&new),
            row.api_version(),
            row.kind
        );
        return Err(Status::bad_request(why));
    }
    input::default(row, &mut new);
    Ok(new)
}

/// Server-side apply: creates the object if it isn't there.
async fn apply(call: &Call, body: &Bytes, options: &WriteOptions) -> Result<Response<Body>, Status> {
    let text = input::yaml_to_json(body)?;
    let configuration: Value = serde_json::from_slice(&text).map_err(Status::internal)?;
    let name = object::name(&configuration);
    if !name.is_empty() && name != call.info.name {
        let why = format!("the name of the object ({name}) does not match the name on the URL ({})", call.info.name);
        return Err(Status::bad_request(why));
    }
    let key = key(call.namespace(), &call.info.name);
    let mut current = update::current(call).await?;
    for _ in 0..ATTEMPTS {
        let old = match &current {
            Some(entry) => Some(call.read(entry).await?),
            None => None,
        };
        if let Some(old) = &old
            && !object::uid(&configuration).is_empty()
            && object::uid(&configuration) != object::uid(old)
        {
            let (given, stored) = (object::uid(&configuration), object::uid(old));
            let why = format!("uid mismatch: the provided object specified uid {given}, and {stored} was found");
            return Err(Status::conflict(&call.row.group, &call.row.plural, &call.info.name, why));
        }
        let mut new = managed::apply(call, options, old.as_deref(), &configuration)?;
        input::default(&call.row, &mut new);
        input::check_place(call, &mut new)?;
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
