//! OpenAPI of version 2 that other servers write, made part of this server's: what belongs to their group, with the
//! definitions that it uses. Where names clash, this server's stay and the others' are renamed, as in Kubernetes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// How a definition is referred to.
const REFERENCE: &str = "#/definitions/";

/// The part of a server's document that is about a group's version: its `paths` and `definitions`.
pub(crate) fn part(mut document: Value, group: &str, version: &str) -> Value {
    let root = format!("/apis/{group}/{version}");
    let is_own = |path: &str| path.strip_prefix(&root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let mut paths = take(&mut document, "paths");
    paths.retain(|path, _| is_own(path));
    // Parameters that several operations share would have to be renamed, too; they are few, and stand where they are used.
    let parameters = take(&mut document, "parameters");
    for path in paths.values_mut() {
        inline(path, &parameters);
    }
    let mut definitions = take(&mut document, "definitions");
    let mut used = BTreeSet::new();
    let mut open: Vec<String> = paths.values().flat_map(references).collect();
    while let Some(name) = open.pop() {
        if let Some(definition) = definitions.get(&name)
            && used.insert(name)
        {
            open.extend(references(definition));
        }
    }
    // What has kinds of this version is described, even if no path says that it is used.
    let has_kind = |definition: &Value| {
        let kinds = definition["x-kubernetes-group-version-kind"].as_array().into_iter().flatten();
        kinds.into_iter().any(|kind| kind["group"] == group && kind["version"] == version)
    };
    definitions.retain(|name, definition| used.contains(name) || has_kind(definition));
    serde_json::json!({"paths": paths, "definitions": definitions})
}

/// Adds such a part. Paths that are there already stay as they are.
pub(super) fn add(part: Value, paths: &mut BTreeMap<String, Value>, definitions: &mut Map<String, Value>) {
    let mut part = part;
    let (mut others, own) = (take(&mut part, "definitions"), take(&mut part, "paths"));
    let mut renamed = BTreeMap::new();
    for (name, definition) in &others {
        match definitions.get(name) {
            Some(known) if known != definition => {
                let free = (2..).map(|number| format!("{name}_v{number}")).find(|new| !definitions.contains_key(new));
                renamed.extend(free.map(|new| (name.clone(), new)));
            }
            _ => {}
        }
    }
    for definition in others.values_mut() {
        rename(definition, &renamed);
    }
    for (name, definition) in others {
        let name = renamed.get(&name).cloned().unwrap_or(name);
        definitions.entry(name).or_insert(definition);
    }
    for (path, mut operations) in own {
        rename(&mut operations, &renamed);
        paths.entry(path).or_insert(operations);
    }
}

fn take(document: &mut Value, field: &str) -> Map<String, Value> {
    match document.get_mut(field).map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// The definitions that are referred to, directly.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix(REFERENCE));
            own.map(str::to_owned).into_iter().chain(map.values().flat_map(references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

fn rename(value: &mut Value, renamed: &BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            let new = map.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix(REFERENCE));
            if let Some(new) = new.and_then(|old| renamed.get(old)) {
                map.insert("$ref".to_owned(), format!("{REFERENCE}{new}").into());
            }
            map.values_mut().for_each(|value| rename(value, renamed));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rename(value, renamed)),
        _ => {}
    }
}

/// Puts shared parameters where they are referred to.
fn inline(value: &mut Value, parameters: &Map<String, Value>) {
    match value {
        Value::Object(map) => {
            let shared = map.get("$ref").and_then(Value::as_str).and_then(|to| to.strip_prefix("#/parameters/"));
            if let Some(shared) = shared.and_then(|name| parameters.get(name)) {
                *value = shared.clone();
                return;
            }
            map.values_mut().for_each(|value| inline(value, parameters));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| inline(value, parameters)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document() -> Value {
        json!({
            "swagger": "2.0",
            "paths": {
                "/apis/g.example/v1/things": {"get": {"parameters": [{"$ref": "#/parameters/limit-x"}],
                    "responses": {"200": {"schema": {"$ref": "#/definitions/ThingList"}}}}},
                "/apis/g.example/v10/things": {"get": {}},
                "/version": {"get": {}},
            },
            "parameters": {"limit-x": {"name": "limit", "in": "query"}},
            "definitions": {
                "ThingList": {"properties": {"items": {"items": {"$ref": "#/definitions/Thing"}}}},
                "Thing": {"properties": {"metadata": {"$ref": "#/definitions/Meta"}}},
                "Meta": {"description": "theirs"},
                "Info": {"description": "of /version"},
                "Options": {"x-kubernetes-group-version-kind": [{"group": "g.example", "version": "v1", "kind": "O"}]},
            },
        })
    }

    #[test]
    fn the_part_of_a_version_is_its_paths_with_all_that_they_use() {
        let part = part(document(), "g.example", "v1");
        let keys = |field: &str| part[field].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys("paths"), ["/apis/g.example/v1/things"]);
        assert_eq!(keys("definitions"), ["Meta", "Options", "Thing", "ThingList"]);
        let parameters = &part["paths"]["/apis/g.example/v1/things"]["get"]["parameters"];
        assert_eq!(*parameters, json!([{"name": "limit", "in": "query"}]));
    }

    #[test]
    fn a_definition_of_the_same_name_is_renamed_unless_it_is_the_same() {
        let mut definitions = Map::from_iter([
            ("Meta".to_owned(), json!({"description": "ours"})),
            ("Meta_v2".to_owned(), json!({"description": "of a third"})),
            ("Thing".to_owned(), document()["definitions"]["Thing"].clone()),
        ]);
        let mut paths = BTreeMap::from([("/version".to_owned(), json!("ours"))]);
        add(part(document(), "g.example", "v1"), &mut paths, &mut definitions);
        assert_eq!(definitions["Meta"]["description"], "ours");
        assert_eq!(definitions["Meta_v3"]["description"], "theirs");
        assert_eq!(paths["/version"], "ours");
        let response = &paths["/apis/g.example/v1/things"]["get"]["responses"]["200"];
        assert_eq!(response["schema"]["$ref"], "#/definitions/ThingList");
    }

    #[test]
    fn what_is_no_document_adds_nothing() {
        let (mut paths, mut definitions) = (BTreeMap::new(), Map::new());
        for document in [Value::Null, json!([1]), json!({"paths": 1, "definitions": "x"})] {
            add(part(document, "g.example", "v1"), &mut paths, &mut definitions);
        }
        assert!(paths.is_empty() && definitions.is_empty());
    }
}
