//! Whole objects of every kind, on their way in and out.

use jiff::Timestamp;
use k3s_api::decode::{self, FieldValidation};
use k3s_api::resource::{self, Resource};
use k3s_api::strategy::generic;
use k3s_api::{conversion, protobuf, table};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use crate::choices::{Choices, choices};

pub fn some_resource(choices: &mut Choices) -> &'static Resource {
    let all: Vec<_> = resource::builtin().iter().collect();
    choices.of(&all)
}

/// An object of the kind that decodes, if the choices make one.
pub fn some_object(choices: &mut Choices, resource: &Resource) -> Option<Value> {
    let mut body = choices.of_schema(resource.schema());
    let object = body.as_object_mut()?;
    object.insert("apiVersion".into(), resource.api_version().as_ref().into());
    object.insert("kind".into(), resource.kind.as_ref().into());
    let body = serde_json::to_vec(&body).expect("JSON");
    decode::decode_object(&body, resource, FieldValidation::Ignore).ok().map(|decoded| decoded.value)
}

proptest! {
    #[test]
    fn what_was_taken_is_taken_again(mut choices in choices()) {
        let resource = some_resource(&mut choices);
        if let Some(object) = some_object(&mut choices, resource) {
            let again = serde_json::to_vec(&object).expect("JSON");
            let again = decode::decode_object(&again, resource, FieldValidation::Strict);
            let again = again.map_err(|status| TestCaseError::fail(status.message.clone()))?;
            prop_assert_eq!(again.value, object);
        }
    }

    #[test]
    fn creating_updating_and_showing_it_ends(mut choices in choices()) {
        let resource = some_resource(&mut choices);
        let Some(mut object) = some_object(&mut choices, resource) else { return Ok(()) };
        generic::default(resource, &mut object);
        let once = object.clone();
        generic::default(resource, &mut object);
        prop_assert_eq!(&once, &object, "defaults come once");
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
    }

    #[test]
    fn bytes_are_an_object_or_an_error(
        mut choices in choices(), at in any::<prop::sample::Index>(), with in vec(any::<u8>(), 0..8), cut in any::<bool>(),
    ) {
        let resource = some_resource(&mut choices);
        let mut body = serde_json::to_vec(&choices.of_schema(resource.schema())).expect("JSON");
        let at = at.index(body.len());
        if cut { body.truncate(at) } else { body.splice(at..at, with); }
        for validation in [FieldValidation::Ignore, FieldValidation::Warn, FieldValidation::Strict] {
            let _ = decode::decode_object(&body, resource, validation);
        }
    }

    #[test]
    fn depth_is_bounded(depth in 100_usize..200_000, open in prop::sample::select(&["[", "{\"a\":", "{\"spec\":"][..])) {
        let resource = resource::find("", "v1", "configmaps").expect("a resource");
        prop_assert!(decode::decode_object(open.repeat(depth).as_bytes(), resource, FieldValidation::Warn).is_err());
    }

    #[test]
    fn protobuf_is_an_object_or_an_error(kind in prop::sample::select(&["Pod", "Deployment", "Namespace"][..]), raw in vec(any::<u8>(), 0..300)) {
        let version = if kind == "Deployment" { "apps/v1" } else { "v1" };
        let meta = [&[0x0a, version.len() as u8][..], version.as_bytes(), &[0x12, kind.len() as u8], kind.as_bytes()].concat();
        let mut body = [b"k8s\0", &[0x0a, meta.len() as u8][..], &meta].concat();
        body.push(0x12);
        let mut length = raw.len();
        while length >= 0x80 { body.push(length as u8 | 0x80); length >>= 7; }
        body.push(length as u8);
        body.extend(&raw);
        let _ = protobuf::decode(&body);
        let _ = protobuf::decode(&body[..body.len() / 2]);
        let _ = protobuf::decode(&raw);
    }
}
