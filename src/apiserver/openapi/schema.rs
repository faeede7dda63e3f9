//! Schemas as OpenAPI writes them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k3s_api::schema::{Kind, ListType, MapType, Schema, definition};
use serde_json::{Map, Value, json};

use super::Dialect;
use crate::registry::Row;

/// The definitions of a document: what its paths refer to, and what that refers to.
pub(super) struct Definitions {
    dialect: Dialect,
    wanted: BTreeSet<String>,
    /// Definitions that stand in no table, as those of custom resources.
    own: BTreeMap<String, Value>,
    /// The group, version and kind of definitions that are whole objects.
    kinds: HashMap<String, Vec<Value>>,
}

impl Definitions {
    /// None yet; `rows` say which definitions are objects of the API.
    pub fn new(dialect: Dialect, rows: &[Row]) -> Self {
        let mut kinds: HashMap<String, Vec<Value>> = HashMap::new();
        for row in rows {
            let Some(name) = row.schema().type_name() else { continue };
            let kind = |kind: &str| json!({"group": row.group, "version": row.version, "kind": kind});
            kinds.entry(name.to_owned()).or_default().push(kind(&row.kind));
            if let Some((package, _)) = name.rsplit_once('.') {
                kinds.entry(format!("{package}.{}", row.list_kind)).or_default().push(kind(&row.list_kind));
            }
        }
        Self { dialect, wanted: BTreeSet::new(), own: BTreeMap::new(), kinds }
    }

    /// A reference to the definition of that name, which will be among them.
    pub fn reference(&mut self, name: &str) -> Value {
        self.wanted.insert(name.to_owned());
        let place = match self.dialect {
            Dialect::V2 => "#/definitions",
            Dialect::V3 => "#/components/schemas",
        };
        json!({"$ref": format!("{place}/{name}")})
    }

    /// The definition of a resource's objects; one of the built-in table or one made for it.
    pub fn object(&mut self, row: &Row) -> Value {
        if let Some(name) = row.schema().type_name() {
            return self.reference(name);
        }
        let name = custom_name(row, &row.kind);
        if !self.own.contains_key(&name) {
            let mut document = self.expand(row.schema());
            document["x-kubernetes-group-version-kind"] =
                json!([{"group": row.group, "version": row.version, "kind": row.kind}]);
            self.own.insert(name.clone(), document);
        }
        self.reference(&name)
    }

    /// The definition of a list of a resource's objects.
    pub fn list(&mut self, row: &Row) -> Value {
        let package = row.schema().type_name().and_then(|name| name.rsplit_once('.')).map(|(package, _)| package);
        let name = match package {
            Some(package) => format!("{package}.{}", row.list_kind),
            None => custom_name(row, &row.list_kind),
        };
        if definition(&name).is_none() && !self.own.contains_key(&name) {
            let items = self.object(row);
            let metadata = self.reference("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta");
            self.own.insert(
                name.clone(),
                json!({"type": "object", "required": ["items"],
                    "description": format!("{} is a list of {}", row.list_kind, row.kind),
                    "properties": {
                        "apiVersion": {"type": "string"}, "kind": {"type": "string"},
                        "metadata": metadata, "items": {"type": "array", "items": items}},
                    "x-kubernetes-group-version-kind":
                        [{"group": row.group, "version": row.version, "kind": row.list_kind}]}),
            );
        }
        self.reference(&name)
    }

    /// All definitions by name.
    pub fn finish(mut self) -> Map<String, Value> {
        let mut out = Map::new();
        while let Some(name) = self.wanted.pop_first() {
            if out.contains_key(&name) {
                continue;
            }
            let document = match (self.own.remove(&name), definition(&name)) {
                (Some(own), _) => own,
                (None, Some(schema)) => {
                    let mut document = self.expand(schema);
                    if let Some(kinds) = self.kinds.get(&name) {
                        document["x-kubernetes-group-version-kind"] = json!(kinds);
                    }
                    document
                }
                // Nothing is known of it but its name.
                (None, None) => json!({"type": "object"}),
            };
            out.insert(name, document);
        }
        out
    }

    /// A schema where it is used: a reference, if it has a name.
    fn used(&mut self, schema: Schema<'_>) -> Value {
        let Some(name) = schema.type_name() else { return self.expand(schema) };
        let reference = self.reference(name);
        let mut document = match self.dialect {
            // Version 3 ignores what stands beside a reference.
            Dialect::V3 => json!({"allOf": [reference]}),
            Dialect::V2 => reference,
        };
        let description = schema.description();
        let own = definition(name).map(|definition| definition.description());
        if !description.is_empty() && own != Some(description) {
            document["description"] = json!(description);
        }
        if let Some(default) = schema.default() {
            document["default"] = default;
        }
        document
    }

    /// A schema in full.
    fn expand(&mut self, schema: Schema<'_>) -> Value {
        let mut out = Map::new();
        let mut put = |key: &str, value: Value| {
            out.insert(key.to_owned(), value);
        };
        if !schema.description().is_empty() {
            put("description", json!(schema.description()));
        }
        if let Some(default) = schema.default() {
            put("default", default);
        }
        match schema.kind() {
            Kind::Object => {
                put("type", json!("object"));
                let fields: Map<String, Value> =
                    schema.fields().map(|(name, field)| (name.to_owned(), self.used(field))).collect();
                if !fields.is_empty() {
                    put("properties", Value::Object(fields));
                }
                let required: Vec<&str> = schema.required().collect();
                if !required.is_empty() {
                    put("required", json!(required));
                }
            }
            Kind::Map => {
                put("type", json!("object"));
                if let Some(values) = schema.values() {
                    put("additionalProperties", self.used(values));
                }
            }
            Kind::Array => {
                put("type", json!("array"));
                if let Some(items) = schema.items() {
                    put("items", self.used(items));
                }
                let list_type = match schema.list_type() {
                    ListType::Atomic => "atomic",
                    ListType::Set => "set",
                    ListType::Map => "map",
                };
                put("x-kubernetes-list-type", json!(list_type));
                let keys: Vec<&str> = schema.map_keys().collect();
                if !keys.is_empty() {
                    put("x-kubernetes-list-map-keys", json!(keys));
                }
            }
            Kind::String => put("type", json!("string")),
            Kind::Integer => put("type", json!("integer")),
            Kind::Number => put("type", json!("number")),
            Kind::Boolean => put("type", json!("boolean")),
            Kind::IntOrString if self.dialect == Dialect::V2 => put("type", json!("string")),
            Kind::IntOrString => put("oneOf", json!([{"type": "string"}, {"type": "number"}])),
            Kind::Any => {
                if schema.type_name().is_some_and(|name| name.ends_with("RawExtension") || name.ends_with("FieldsV1")) {
                    put("type", json!("object"));
                }
            }
        }
        if let Some(format) = schema.format() {
            put("format", json!(format));
        }
        if matches!(schema.kind(), Kind::Object | Kind::Map) && schema.map_type() == MapType::Atomic {
            put("x-kubernetes-map-type", json!("atomic"));
        }
        if schema.preserves_unknown() && schema.kind() == Kind::Object {
            put("x-kubernetes-preserve-unknown-fields", json!(true));
        }
        if let Some(key) = schema.patch_merge_key() {
            put("x-kubernetes-patch-merge-key", json!(key));
        }
        let strategy = schema.patch_strategy();
        let strategies: Vec<&str> = [(strategy.merge, "merge"), (strategy.retain_keys, "retainKeys")]
            .iter()
            .filter(|s| s.0)
            .map(|s| s.1)
            .collect();
        if !strategies.is_empty() {
            put("x-kubernetes-patch-strategy", json!(strategies.join(",")));
        }
        Value::Object(out)
    }
}

/// `com.example.v1.Thing` for the kind Thing of example.com/v1.
fn custom_name(row: &Row, kind: &str) -> String {
    let group: Vec<&str> = row.group.rsplit('.').collect();
    format!("{}.{}.{kind}", group.join("."), row.version)
}
