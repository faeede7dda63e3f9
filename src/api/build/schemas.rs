//! The table of schemas.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use crate::builder::Builder;
use crate::roots::Roots;
use crate::table::Owned;

/// The table of all definitions, and each definition's node.
pub fn build(roots: &Roots) -> (Owned, BTreeMap<String, u32>) {
    let mut definitions = roots.definitions.clone();
    add_lists(&mut definitions, roots);
    add_semantics(&mut definitions);
    add_defaults(&mut definitions);
    for resource in &roots.resources {
        for field in ["metadata", "spec", "status"] {
            if let Some(field) =
                property(&mut definitions, &resource.definition, field).filter(|f| f.contains_key("$ref"))
            {
                field.insert("x-kubernetes-always".into(), true.into());
            }
        }
    }
    add_presence(&mut definitions);
    any_json(&mut definitions);
    let definitions = definitions.iter().map(|(name, schema)| (name.as_str(), schema)).collect();
    Builder::new(definitions, &|_| None).build()
}

/// k8s-openapi has one generic list, without a schema.
fn add_lists(definitions: &mut Map<String, Value>, roots: &Roots) {
    for resource in roots.resources.iter().filter(|resource| resource.listed) {
        let (kind, documentation) = (resource.kind, "https://git.k8s.io/community/contributors/devel/sig-architecture");
        let type_field = |meaning: &str| serde_json::json!({"type": "string", "description": format!("{meaning} More info: {documentation}/api-conventions.md")});
        let list = serde_json::json!({
            "description": format!("{kind}List is a list of {kind} objects."),
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": type_field("APIVersion defines the versioned schema of this representation of an object."),
                "kind": type_field("Kind is a string value representing the REST resource this object represents."),
                "metadata": {"$ref": "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
                             "description": "Standard list metadata.", "x-kubernetes-always": true},
                "items": {"type": "array", "description": format!("items is the list of {kind} objects."),
                          "items": {"$ref": format!("#/$defs/{}", resource.definition)}},
            },
        });
        definitions.insert(format!("{}List", resource.definition), list);
    }
}

fn property<'a>(
    definitions: &'a mut Map<String, Value>,
    name: &str,
    field: &str,
) -> Option<&'a mut Map<String, Value>> {
    definitions.get_mut(name)?.get_mut("properties")?.get_mut(field)?.as_object_mut()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(format!("data/{file}")).unwrap_or_else(|error| panic!("cannot read data/{file}: {error}"))
}

fn json(file: &str) -> Map<String, Value> {
    serde_json::from_str(&read(file)).unwrap_or_else(|error| panic!("data/{file}: {error}"))
}

/// List types, map types, patch merge keys and strategies. The empty field name is the type itself.
fn add_semantics(definitions: &mut Map<String, Value>) {
    let extensions = [
        ("listType", "x-kubernetes-list-type"),
        ("listMapKeys", "x-kubernetes-list-map-keys"),
        ("mapType", "x-kubernetes-map-type"),
        ("patchMergeKey", "x-kubernetes-patch-merge-key"),
        ("patchStrategy", "x-kubernetes-patch-strategy"),
    ];
    for (name, fields) in json("field-semantics-1.36.json") {
        for (field, facts) in fields.as_object().into_iter().flatten() {
            let schema = match field.as_str() {
                "" => definitions.get_mut(&name).and_then(Value::as_object_mut),
                field => property(definitions, &name, field),
            };
            let Some(schema) = schema else { continue };
            for (fact, extension) in extensions {
                if let Some(value) = facts.get(fact) {
                    schema.insert(extension.into(), value.clone());
                }
            }
        }
    }
}

fn add_defaults(definitions: &mut Map<String, Value>) {
    for (name, fields) in json("schema-defaults-1.36.json") {
        for (field, default) in fields.as_object().into_iter().flatten() {
            if let Some(schema) = property(definitions, &name, field) {
                schema.insert("default".into(), default.clone());
            }
        }
    }
}

/// What is required is written though empty; the rest is in `presence.txt`.
fn add_presence(definitions: &mut Map<String, Value>) {
    for schema in definitions.values_mut() {
        let required: Vec<String> = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|field| field.as_str().map(str::to_owned))
            .collect();
        for field in required {
            if let Some(field) =
                schema.get_mut("properties").and_then(|all| all.get_mut(&field)).and_then(Value::as_object_mut)
            {
                field.insert("x-kubernetes-always".into(), true.into());
            }
        }
    }
    for line in read("presence.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let extension = match words.next() {
            Some("always") => "x-kubernetes-always",
            Some("pointer") => "x-kubernetes-pointer",
            Some("type") => "x-kubernetes-go-type",
            _ => panic!("data/presence.txt: neither always, pointer nor type: {line}"),
        };
        let suffix = format!(".{}", words.next().unwrap_or_default());
        let name = definitions.keys().find(|name| name.ends_with(&suffix)).cloned();
        let name = name.unwrap_or_else(|| panic!("data/presence.txt: no such type: {line}"));
        for field in words {
            let (field, value): (&str, Value) = match (field.strip_prefix('!'), field.split_once('=')) {
                (Some(field), _) => (field, false.into()),
                (None, Some((field, name))) => (field, name.into()),
                (None, None) => (field, true.into()),
            };
            let schema = property(definitions, &name, field);
            let schema = schema.unwrap_or_else(|| panic!("data/presence.txt: {name} has no field {field}"));
            schema.insert(extension.into(), value);
        }
    }
}

/// Types that take any JSON: their schemas say `object`, or several types at once.
fn any_json(definitions: &mut Map<String, Value>) {
    for name in [
        "io.k8s.apimachinery.pkg.runtime.RawExtension",
        "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    ] {
        if let Some(schema) = definitions.get_mut(name).and_then(Value::as_object_mut) {
            schema.remove("type");
        }
    }
}

/// The table as Rust source.
pub fn source(table: &Owned, definitions: &BTreeMap<String, u32>) -> String {
    let mut out = String::new();
    let pair = |(start, len): (u32, u32)| format!("({start},{len})");
    let _ = write!(out, "static NODES: [Node; {}] = [", table.nodes.len());
    for n in &table.nodes {
        let _ = write!(
            out,
            "Node{{kind:{},flags:{},type_name:{},format:{},go_type:{},default:{},merge_key:{},description:{},description_len:{},\
             target:{},items:{},fields:{},required:{},map_keys:{}}},",
            n.kind,
            n.flags,
            n.type_name,
            n.format,
            n.go_type,
            n.default,
            n.merge_key,
            n.description,
            n.description_len,
            n.target,
            n.items,
            pair(n.fields),
            pair(n.required),
            pair(n.map_keys)
        );
    }
    let _ = write!(out, "];\nstatic FIELDS: [Field; {}] = [", table.fields.len());
    for field in &table.fields {
        let _ = write!(out, "Field{{name:{},node:{}}},", field.name, field.node);
    }
    let mut numbers = |name: &str, list: &[u32]| {
        let _ = write!(out, "];\nstatic {name}: [u32; {}] = [", list.len());
        for number in list {
            let _ = write!(out, "{number},");
        }
    };
    numbers("WORDS", &table.words);
    numbers("ENDS", &table.ends);
    numbers("DEFINITIONS", &definitions.values().copied().collect::<Vec<_>>());
    out.push_str(
        "];\n/// The schemas of all built-in resources.\npub static BUILTIN: Table = Table {
            nodes: std::borrow::Cow::Borrowed(&NODES),
            fields: std::borrow::Cow::Borrowed(&FIELDS),
            words: std::borrow::Cow::Borrowed(&WORDS),
            ends: std::borrow::Cow::Borrowed(&ENDS),
            text: std::borrow::Cow::Borrowed(include_str!(concat!(env!(\"OUT_DIR\"), \"/schema_text\"))),
            descriptions: std::borrow::Cow::Borrowed(include_str!(concat!(env!(\"OUT_DIR\"), \"/schema_descriptions\"))),
        };\n",
    );
    out
}
