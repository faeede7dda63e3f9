use serde_json::json;

use super::*;

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

#[test]
fn every_property_of_every_kind_has_a_number() {
    let mut missing = Vec::new();
    let names: std::collections::HashSet<&str> = MESSAGES.iter().map(|message| message.name).collect();
    fn has(message: &Message, name: &str) -> bool {
        message.fields.iter().any(|field| match field.element {
            Element::Inline(inner) => has(&MESSAGES[inner], name),
            _ => field.name == name,
        })
    }
    for message in &MESSAGES {
        let Some(schema) = schema::definition(message.name) else { continue };
        for (name, _) in schema.fields() {
            if !matches!(name, "apiVersion" | "kind") && !has(message, name) {
                missing.push(format!("{}.{name}", message.name));
            }
        }
    }
    for row in crate::resource::builtin() {
        let name = row.schema().type_name().unwrap();
        if !names.contains(name) {
            missing.push(name.to_owned());
        }
    }
    assert_eq!(missing, WITHOUT_NUMBER);
}

#[test]
fn damaged_bodies_are_refused() {
    assert_eq!(decode(b"{}"), Err(Error::NoMagic));
    assert!(matches!(decode(&envelope("v1", "Nothing", b"")), Err(Error::UnknownKind { .. })));
    let whole = envelope("v1", "ConfigMap", &bytes(1, &bytes(1, b"name")));
    for end in MAGIC.len() + 1..whole.len() {
        // Cut between two fields it is a shorter message; cut within one it is none. Neither panics.
        let _ = decode(&whole[..end]);
    }
    assert_eq!(decode(&whole[..whole.len() - 1]), Err(Error::Truncated));
    assert_eq!(decode(&envelope("v1", "ConfigMap", &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f])), Err(Error::Truncated));
}
