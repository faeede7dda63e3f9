//! Whole objects of every kind, on their way in and out.

use jiff::Timestamp;
use k3s_api::decode::{self, FieldValidation};
use k3s_api::resource::{self, Resource};
use k3s_api::strategy::generic;
use k3s_api::{conversion, protobuf, table};
use serde_json::{Map, Value};

use crate::choices::Choices;
use crate::{Outcome, same};

pub fn some_resource(choices: &mut Choices<'_>) -> &'static Resource {
    let all: Vec<_> = resource::builtin().iter().collect();
    choices.of(&all)
}

/// An object of the kind that decodes, if the choices make one.
pub fn some_object(choices: &mut Choices<'_>, resource: &Resource) -> Option<Value> {
    let mut body = choices.of_schema(resource.schema());
    let object = body.as_object_mut()?;
    object.insert("apiVersion".into(), resource.api_version().as_ref().into());
    object.insert("kind".into(), resource.kind.as_ref().into());
    let body = serde_json::to_vec(&body).expect("JSON");
    decode::decode_object(&body, resource, FieldValidation::Ignore).ok().map(|decoded| decoded.value)
}

pub fn what_was_taken_is_taken_again(mut choices: Choices<'_>) -> Outcome {
    let resource = some_resource(&mut choices);
    let Some(object) = some_object(&mut choices, resource) else { return Ok(()) };
    let again = serde_json::to_vec(&object).expect("JSON");
    let again = decode::decode_object(&again, resource, FieldValidation::Strict);
    same("taken again", &again.map_err(|status| status.message)?.value, &object)
}

pub fn creating_updating_and_showing_it_ends(mut choices: Choices<'_>) -> Outcome {
    let resource = some_resource(&mut choices);
    let Some(mut object) = some_object(&mut choices, resource) else { return Ok(()) };
    generic::default(resource, &mut object);
    let once = object.clone();
    generic::default(resource, &mut object);
    same("defaults come once", &once, &object)?;
    generic::prepare_create(resource, &mut object);
    let _ = generic::validate(resource, &object);
    if let Some(mut new) = some_object(&mut choices, resource) {
        generic::default(resource, &mut new);
        let mut status = new.clone();
        generic::prepare_update(resource, &mut new, &object);
        let _ = generic::validate_update(resource, &new, &object);
        generic::prepare_status(resource, &mut status, &object);
        let _ = generic::validate_status(resource, &status, &object);
    }
    let _ = table::row(resource, &object, table::IncludeObject::Metadata, Timestamp::UNIX_EPOCH);
    conversion::to_stored(resource, &mut object);
    conversion::from_stored(resource, &mut object);
    Ok(())
}

/// The bytes themselves, and an object of the schema that is cut off or has some of them in it.
pub fn bytes_are_an_object_or_an_error(mut choices: Choices<'_>) -> Outcome {
    let resource = some_resource(&mut choices);
    let cut = choices.below(2) == 0;
    let at = choices.below(256) << 8 | choices.below(256);
    let raw = choices.rest();
    let mut damaged = serde_json::to_vec(&choices.of_schema(resource.schema())).expect("JSON");
    let at = at % damaged.len();
    if cut {
        damaged.truncate(at);
    } else {
        damaged.splice(at..at, choices.rest().iter().copied().take(8));
    }
    for validation in [FieldValidation::Ignore, FieldValidation::Warn, FieldValidation::Strict] {
        let _ = decode::decode_object(raw, resource, validation);
        let _ = decode::decode_object(&damaged, resource, validation);
    }
    Ok(())
}

/// The bytes as the message of some kind, half of that, and the bytes themselves.
pub fn protobuf_is_an_object_or_an_error(mut choices: Choices<'_>) -> Outcome {
    let resource = some_resource(&mut choices);
    let raw = choices.rest();
    let field = |number: u8, bytes: &[u8]| {
        let mut field = vec![number << 3 | 2];
        let mut length = bytes.len();
        while length >= 0x80 {
            field.push(length as u8 | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend(bytes);
        field
    };
    let meta = [field(1, resource.api_version().as_bytes()), field(2, resource.kind.as_bytes())].concat();
    let body = [b"k8s\0".to_vec(), field(1, &meta), field(2, raw)].concat();
    let _ = protobuf::decode(&body);
    let _ = protobuf::decode(&body[..body.len() / 2]);
    let _ = protobuf::decode(raw);
    Ok(())
}

pub fn an_object_comes_back_from_protobuf(mut choices: Choices<'_>) -> Outcome {
    let resource = some_resource(&mut choices);
    let Some(mut object) = some_object(&mut choices, resource) else { return Ok(()) };
    let body = protobuf::encode(&object).map_err(|error| error.to_string())?;
    let mut read = protobuf::decode(&body).map_err(|error| error.to_string())?;
    let again = protobuf::decode(&protobuf::encode(&read).expect("what was read"));
    same("read again", &again.as_ref(), &Ok(&read))?;
    // A null in a list or map is a zero value there; how that is written depends on its type.
    let has_null = has_null(&object);
    forget(&mut object);
    forget(&mut read);
    if has_null { Ok(()) } else { same("read", &read, &object) }
}

pub fn damaged_protobuf_is_an_object_or_an_error(mut choices: Choices<'_>) -> Outcome {
    let (at, skip) = (choices.below(256) << 8 | choices.below(256), choices.below(3));
    let resource = some_resource(&mut choices);
    let Some(object) = some_object(&mut choices, resource) else { return Ok(()) };
    let mut body = protobuf::encode(&object).expect("an object");
    let at = at % body.len();
    let end = (at + skip).min(body.len());
    body.splice(at..end, choices.rest().iter().copied().take(3));
    let Ok(read) = protobuf::decode(&body) else { return Ok(()) };
    let body = protobuf::encode(&read).map_err(|error| format!("{error} {read}"))?;
    same("read again", &protobuf::decode(&body).expect("what was written"), &read)
}

/// What protobuf knows no difference of: no list or map and an empty one, nothing and null. Fields that 1.36 has added, which
/// have no number yet, are not sent.
fn forget(value: &mut Value) {
    const WITHOUT_NUMBER: [&str; 11] = [
        "schedulingGroup",
        "nodeAllocatableResourceClaimStatuses",
        "message",
        "volumeStatus",
        "nodeAllocatableResourceMappings",
        "bools",
        "ints",
        "strings",
        "versions",
        "preventPodSchedulingIfMissing",
        "shardInfo",
    ];
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(forget);
            fields.retain(|name, value| {
                let is_empty = value.is_null()
                    || value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(Map::is_empty);
                !is_empty && !WITHOUT_NUMBER.contains(&name.as_str())
            });
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        _ => {}
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.values().any(has_null),
        Value::Array(items) => items.iter().any(has_null),
        value => value.is_null(),
    }
}
