use serde_json::json;

use super::table::{Element, Field};
use super::*;
use crate::resource::Verbs;

/// A field of bytes.
fn bytes(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC, &bytes(1, &type_meta), &bytes(2, raw)].concat()
}

#[test]
fn an_object_is_read_and_what_is_empty_left_out() {
    let label = bytes(11, &[bytes(1, b"a"), bytes(2, b"b")].concat());
    let metadata = [bytes(1, b"c"), bytes(2, b""), bytes(8, b""), label].concat();
    let data = bytes(2, &[bytes(1, b"k"), bytes(2, b"v")].concat());
    let raw = [bytes(1, &metadata), data].concat();
    assert_eq!(
        decode(&envelope("v1", "ConfigMap", &raw)).unwrap(),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": "b"}},
            "data": {"k": "v"}})
    );
}

#[test]
fn inline_messages_numbers_and_unions_are_as_in_json() {
    // Volume { name, volumeSource { emptyDir {} } }; Container { name, ports [{ containerPort }] }
    let volume = [bytes(1, b"v"), bytes(2, &bytes(2, b""))].concat();
    let port = [&[3 << 3, 0x90, 0x3f][..], &bytes(4, b"TCP")].concat();
    let container = [bytes(1, b"c"), bytes(6, &port)].concat();
    let spec = [bytes(1, &volume), bytes(2, &container), vec![4 << 3, 0]].concat();
    let pod = decode(&envelope("v1", "Pod", &bytes(2, &spec))).unwrap();
    assert_eq!(pod["spec"]["volumes"], json!([{"name": "v", "emptyDir": {}}]));
    assert_eq!(pod["spec"]["containers"][0]["ports"], json!([{"containerPort": 8080, "protocol": "TCP"}]));
    // A pointer to zero stays.
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 0);
}

/// Fields that 1.36 has added, whose numbers the definitions at hand don't have yet. They are skipped in protobuf.
const WITHOUT_NUMBER: [&str; 11] = [
    "io.k8s.api.core.v1.PodSpec.schedulingGroup",
    "io.k8s.api.core.v1.PodStatus.nodeAllocatableResourceClaimStatuses",
    "io.k8s.api.core.v1.ResourceHealth.message",
    "io.k8s.api.core.v1.VolumeMountStatus.volumeStatus",
    "io.k8s.api.resource.v1.Device.nodeAllocatableResourceMappings",
    "io.k8s.api.resource.v1.DeviceAttribute.bools",
    "io.k8s.api.resource.v1.DeviceAttribute.ints",
    "io.k8s.api.resource.v1.DeviceAttribute.strings",
    "io.k8s.api.resource.v1.DeviceAttribute.versions",
    "io.k8s.api.storage.v1.CSIDriverSpec.preventPodSchedulingIfMissing",
    "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta.shardInfo",
];

fn properties(message: &Message) -> Option<Vec<&'static str>> {
    Some(schema::definition(&message.definition())?.fields().map(|(name, _)| name).collect())
}

/// The fields of a message and of those that are inline in it.
fn names(message: &Message) -> Vec<&'static str> {
    let inner = |field: &Field| match field.element {
        Element::Inline => names(field.message()),
        _ => vec![field.name()],
    };
    message.fields().iter().flat_map(inner).collect()
}

#[test]
fn every_property_of_every_kind_has_a_number() {
    let mut missing = Vec::new();
    for message in table::all() {
        let names = names(message);
        for name in properties(message).unwrap_or_default() {
            if !matches!(name, "apiVersion" | "kind") && !names.contains(&name) {
                missing.push(format!("{}.{name}", message.definition()));
            }
        }
    }
    for row in crate::resource::builtin() {
        for kind in [&row.kind, &row.list_kind].into_iter().filter(|kind| !kind.is_empty()) {
            if !is_known(&row.api_version(), kind) && (kind == &row.kind || row.verbs.contains(Verbs::LIST)) {
                missing.push(format!("{}.{kind}", row.api_version()));
            }
        }
    }
    assert_eq!(missing, WITHOUT_NUMBER);
}

#[test]
fn every_field_is_one_of_json_and_has_a_number_of_its_own() {
    let (mut unknown, mut twice) = (Vec::new(), Vec::new());
    for message in table::all() {
        // What is no object in JSON has no properties there.
        if let Some(properties) = properties(message).filter(|properties| !properties.is_empty()) {
            let names = names(message).into_iter().filter(|name| !properties.contains(name));
            unknown.extend(names.map(|name| format!("{}.{name}", message.definition())));
        }
        let numbers: Vec<u8> = message.fields().iter().map(|field| field.number).collect();
        if !numbers.is_sorted_by(|a, b| a < b) {
            twice.push(message.definition());
        }
    }
    assert_eq!((unknown, twice), (Vec::<String>::new(), Vec::<String>::new()));
}

#[test]
fn the_fields_of_every_list_are_where_a_list_is_put_together() {
    for row in crate::resource::builtin().iter().filter(|row| row.verbs.contains(Verbs::LIST)) {
        let message = message(&row.api_version(), &row.list_kind).unwrap();
        let fields: Vec<_> = message.fields().iter().map(|field| (field.number, field.name())).collect();
        assert_eq!(fields, [(1, "metadata"), (2, "items")], "{}", row.list_kind);
    }
}

#[test]
fn damaged_bodies_are_refused() {
    assert_eq!(decode(b""), Err(Error::NoData));
    assert_eq!(decode(b"{}"), Err(Error::NoMagic));
    assert_eq!(decode(MAGIC), Err(Error::NoBody));
    assert!(matches!(decode(&envelope("v1", "Nothing", b"")), Err(Error::UnknownKind { .. })));
    let whole = envelope("v1", "ConfigMap", &bytes(1, &bytes(1, b"name")));
    for end in MAGIC.len() + 1..whole.len() {
        // Cut between two fields it is a shorter message; cut within one it is none. Neither panics.
        let _ = decode(&whole[..end]);
    }
    assert_eq!(decode(&whole[..whole.len() - 1]), Err(Error::Truncated));
    assert_eq!(decode(&envelope("v1", "ConfigMap", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f])), Err(Error::Truncated));
}

fn config_map(raw: &[u8]) -> Result<Value, Error> {
    decode(&envelope("v1", "ConfigMap", raw))
}

#[test]
fn what_is_wrong_is_told_as_go_does() {
    // metadata as a number; a name that is no text.
    let error = config_map(&[1 << 3, 1]).unwrap_err();
    assert_eq!(error.to_string(), "proto: wrong wireType = 0 for field Metadata");
    assert!(matches!(config_map(&bytes(1, &bytes(1, &[0xff]))), Err(Error::Malformed(_))));
    assert!(matches!(config_map(&[0]), Err(Error::Malformed("illegal tag 0"))));
    assert!(config_map(&bytes(2, b"")).is_ok(), "an entry without key and value is empty");
}

#[test]
fn messages_are_not_deeper_than_is_bearable() {
    let mut schema = Vec::new();
    for _ in 0..300 {
        // `not` is field 28 of a schema.
        let mut out = Writer::default();
        out.bytes_field(28, &schema);
        schema = out.finish();
    }
    let mut out = Writer::default();
    // CustomResourceDefinition { spec { versions [{ schema { openAPIV3Schema } }] } }
    for number in [1, 4, 7, 2] {
        let inner = std::mem::take(&mut out).finish();
        let inner = if inner.is_empty() { &schema } else { &inner };
        out.bytes_field(number, inner);
    }
    let raw = out.finish();
    let mut body = Writer::default();
    body.bytes_field(2, &raw);
    type_meta(&mut body, "apiextensions.k8s.io/v1", "CustomResourceDefinition");
    body.bytes(MAGIC);
    assert_eq!(decode(&body.finish()), Err(Error::TooDeep));
}

#[test]
fn fields_that_are_unknown_are_skipped() {
    let mut metadata = Writer::default();
    metadata.varint_field(100, 5);
    metadata.fixed64_field(101, 6);
    metadata.bytes_field(102, b"unknown");
    metadata.bytes_field(1, b"c");
    assert_eq!(config_map(&bytes(1, &metadata.finish())).unwrap()["metadata"], json!({"name": "c"}));
}

#[test]
fn an_object_is_written_as_go_writes_it_without_what_is_empty() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "labels": {"a": "b"},
        "creationTimestamp": "1970-01-01T00:00:05Z"}, "data": {"k": "v"}, "binaryData": {"b": "AQI="}, "immutable": false});
    let label = bytes(11, &[bytes(1, b"a"), bytes(2, b"b")].concat());
    let created = bytes(8, &[1 << 3, 5, 2 << 3, 0]);
    let metadata = bytes(1, &[bytes(1, b"c"), created, label].concat());
    let data = bytes(2, &[bytes(1, b"k"), bytes(2, b"v")].concat());
    let binary = bytes(3, &[bytes(1, b"b"), bytes(2, &[1, 2])].concat());
    let raw = [metadata, data, binary, vec![4 << 3, 0]].concat();
    assert_eq!(encode(&object).unwrap(), [&envelope("v1", "ConfigMap", &raw), TAIL].concat());
    assert_eq!(decode(&encode(&object).unwrap()).unwrap(), object);
}

#[test]
fn each_form_of_value_comes_back() {
    for object in [
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "status": {}, "spec": {
            "terminationGracePeriodSeconds": 0, "priority": -7, "overhead": {"cpu": "250m"},
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "s", "projected": {"sources": [
                {"secret": {"name": "x", "optional": false}}]}}],
            "containers": [{"name": "c", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}, "ports": [
                {"containerPort": 80}], "livenessProbe": {"httpGet": {"port": "http"}}, "readinessProbe": {"tcpSocket": {
                "port": 0}}, "env": [{"name": "A"}]}]}}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {
            "renewTime": "2026-01-02T03:04:05.600000Z", "leaseTransitions": 3}}),
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {}, "spec": {"token": "t"},
            "status": {"user": {"extra": {"a": ["b", "c"]}}}}),
        json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"}, "revision": 3,
            "data": {"spec": {"a": [1, null, 1.5, "x"]}}}),
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {}, "spec": {"replicas": 2},
            "status": {"replicas": 0}}),
        json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 404,
            "reason": "NotFound", "details": {"causes": [{"field": "a", "reason": "b"}], "retryAfterSeconds": 1}}),
    ] {
        assert_eq!(decode(&encode(&object).unwrap()).unwrap(), object);
    }
}

#[test]
fn schemas_and_what_stands_in_their_place_come_back() {
    let schema = |schema: Value| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a.b"},
            "spec": {"group": "b", "names": {"kind": "A", "plural": "a"}, "scope": "Cluster", "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
    };
    for one in [
        json!({"additionalProperties": true}),
        json!({"additionalProperties": false}),
        json!({"additionalProperties": {"type": "string"}}),
        json!({"items": {"type": "string"}}),
        json!({"items": [{"type": "string"}, {"type": "integer"}]}),
        json!({"dependencies": {"a": ["b"], "c": {"type": "string"}}}),
        json!({"default": {"a": [1]}, "enum": ["a", 1, null], "example": 1.5, "maximum": 3, "minimum": 0.5}),
        json!({"default": false}),
        json!({"default": 0, "additionalItems": false}),
        json!({"$ref": "a", "$schema": "b", "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-list-map-keys": ["a"]}),
    ] {
        let sent = encode(&schema(one.clone())).unwrap();
        let read = decode(&sent).unwrap();
        assert_eq!(read["spec"]["versions"][0]["schema"]["openAPIV3Schema"], one);
    }
}

#[test]
fn what_is_not_of_its_type_is_refused() {
    let encoded = encode(&json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": 1}}));
    assert_eq!(encoded, Err(Error::Mismatch { field: "data" }));
    assert!(matches!(encode(&json!({"apiVersion": "a.b/v1", "kind": "ConfigMap"})), Err(Error::UnknownKind { .. })));
}

#[test]
fn a_list_put_together_is_the_one_written_at_once() {
    let metadata = json!({"resourceVersion": "7", "remainingItemCount": 1});
    let items =
        [json!({"metadata": {"name": "a"}, "data": {"k": "v".repeat(200)}}), json!({"metadata": {"name": "b"}})];
    let whole = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items});
    let list = List::new("v1", "ConfigMapList").unwrap();
    let items: Vec<u8> = items.iter().flat_map(|item| list.item(item).unwrap()).collect();
    let head = list.head(&metadata, items.len()).unwrap();
    assert_eq!([&head, &items[..], List::TAIL].concat(), encode(&whole).unwrap());
}

#[test]
fn an_event_has_its_length_before_it_and_an_object_in_it() {
    let object = vec![b'x'; 300];
    let head = event_head("ADDED", object.len());
    let length = u32::from_be_bytes(head[..4].try_into().unwrap());
    assert_eq!(length as usize, head.len() - 4 + object.len());
    let raw = [&[0x0a, 0xac, 2], &object[..]].concat();
    assert_eq!([&head[4..], &object].concat(), [&bytes(1, b"ADDED"), &[0x12, 0xaf, 2][..], &raw].concat());
}

#[test]
fn documents_of_discovery_and_metadata_have_messages() {
    for (api_version, kind) in [
        ("v1", "APIVersions"),
        ("v1", "APIGroupList"),
        ("v1", "APIGroup"),
        ("v1", "APIResourceList"),
        ("apidiscovery.k8s.io/v2", "APIGroupDiscoveryList"),
        ("apidiscovery.k8s.io/v2beta1", "APIGroupDiscoveryList"),
        ("meta.k8s.io/v1", "PartialObjectMetadata"),
        ("meta.k8s.io/v1beta1", "PartialObjectMetadata"),
        ("meta.k8s.io/v1beta1", "PartialObjectMetadataList"),
        ("v1", "Status"),
        ("apps/v1", "DeleteOptions"),
    ] {
        assert!(is_known(api_version, kind), "{api_version} {kind}");
    }
    assert!(!is_known("meta.k8s.io/v1", "Table") && !is_known("a.b/v1", "Pod"));
    // In v1beta1 the two fields of the list have each other's number.
    let list = |version: &str| {
        let list =
            json!({"apiVersion": format!("meta.k8s.io/{version}"), "kind": "PartialObjectMetadataList", "items": [{}]});
        encode(&list).unwrap()
    };
    assert!(list("v1").ends_with(&[&bytes(2, b""), TAIL].concat()));
    assert!(list("v1beta1").ends_with(&[&bytes(1, b""), TAIL].concat()));
}
