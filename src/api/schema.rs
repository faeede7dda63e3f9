//! What fields an object has: one type over the schemas of all built-in resources and over those of custom resources.
//!
//! The built-in table is generated when this crate is built (`build.rs`) from the JSON schemas of `k8s-openapi` and,
//! for what those leave out, from the files in `data/`: list types and patch strategies
//! (`field-semantics-1.36.json`), static defaults (`schema-defaults-1.36.json`), and which fields Kubernetes writes
//! though they are empty (`presence.txt`).

pub mod builder;
mod table;

use serde_json::Value;

pub use table::Table;
use table::{BUILTIN_BIT, FLAGS, Field, NONE, Node, kinds};

include!(concat!(env!("OUT_DIR"), "/schema_table.rs"));

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Named fields, each with its schema.
    Object,
    /// Any keys, values of one schema.
    Map,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    /// `IntOrString`, and `Quantity`, which takes any number.
    IntOrString,
    /// Any JSON value (`RawExtension`, `JSON`, `FieldsV1`).
    Any,
}

/// How a list is merged (`x-kubernetes-list-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    Map,
}

/// How an object is merged (`x-kubernetes-map-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapType {
    Granular,
    Atomic,
}

/// What a strategic merge patch does with a field (`x-kubernetes-patch-strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    pub merge: bool,
    pub retain_keys: bool,
}

/// The schema of a value: a position in a [`Table`].
#[derive(Debug, Clone, Copy)]
pub struct Schema<'a> {
    table: &'a Table,
    node: u32,
}

impl<'a> Schema<'a> {
    fn node(self) -> &'a Node {
        &self.table.nodes[self.node as usize]
    }

    /// The schema at a node, which may stand for one of the built-in table.
    fn at(self, node: u32) -> Self {
        match self.table.nodes[node as usize].target {
            target if target != NONE && target & BUILTIN_BIT != 0 => {
                Self { table: &BUILTIN, node: target & !BUILTIN_BIT }
            }
            _ => Self { node, ..self },
        }
    }

    /// What the value is.
    pub fn kind(self) -> Kind {
        match self.node().kind {
            kinds::OBJECT => Kind::Object,
            kinds::MAP => Kind::Map,
            kinds::ARRAY => Kind::Array,
            kinds::STRING => Kind::String,
            kinds::INTEGER => Kind::Integer,
            kinds::NUMBER => Kind::Number,
            kinds::BOOLEAN => Kind::Boolean,
            kinds::INT_OR_STRING => Kind::IntOrString,
            _ => Kind::Any,
        }
    }

    fn field_slice(self) -> &'a [Field] {
        let (start, len) = self.node().fields;
        &self.table.fields[start as usize..(start + len) as usize]
    }

    /// The property of that name, of an [`Kind::Object`].
    pub fn field(self, name: &str) -> Option<Schema<'a>> {
        let fields = self.field_slice();
        let index = fields.binary_search_by(|field| self.table.string(field.name).cmp(name)).ok()?;
        Some(self.at(fields[index].node))
    }

    /// All properties of an [`Kind::Object`], sorted by name.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, Schema<'a>)> {
        self.field_slice().iter().map(move |field| (self.table.string(field.name), self.at(field.node)))
    }

    fn words(self, (start, len): (u32, u32)) -> impl Iterator<Item = &'a str> {
        self.table.words[start as usize..(start + len) as usize].iter().map(move |id| self.table.string(*id))
    }

    /// The names of the properties that must be there.
    pub fn required(self) -> impl Iterator<Item = &'a str> {
        self.words(self.node().required)
    }

    fn inner(self, kind: Kind) -> Option<Schema<'a>> {
        (self.kind() == kind && self.node().items != NONE).then(|| self.at(self.node().items))
    }

    /// The elements of an [`Kind::Array`].
    pub fn items(self) -> Option<Schema<'a>> {
        self.inner(Kind::Array)
    }

    /// The values of a [`Kind::Map`].
    pub fn values(self) -> Option<Schema<'a>> {
        self.inner(Kind::Map)
    }

    /// What lies at a key of an object or map.
    pub fn child(self, key: &str) -> Option<Schema<'a>> {
        match self.kind() {
            Kind::Map => self.values(),
            _ => self.field(key),
        }
    }

    fn has(self, flag: u32) -> bool {
        self.node().flags & flag != 0
    }

    /// How an [`Kind::Array`] is merged by server-side apply; atomic unless it says otherwise.
    pub fn list_type(self) -> ListType {
        match () {
            () if self.has(FLAGS.list_map) => ListType::Map,
            () if self.has(FLAGS.list_set) => ListType::Set,
            () => ListType::Atomic,
        }
    }

    /// The fields that identify an element of a [`ListType::Map`].
    pub fn map_keys(self) -> impl Iterator<Item = &'a str> {
        self.words(self.node().map_keys)
    }

    /// How an object or map is merged by server-side apply.
    pub fn map_type(self) -> MapType {
        if self.has(FLAGS.map_atomic) { MapType::Atomic } else { MapType::Granular }
    }

    /// The field that identifies an element in a strategic merge patch.
    pub fn patch_merge_key(self) -> Option<&'a str> {
        self.text(self.node().merge_key)
    }

    /// What a strategic merge patch does with this field.
    pub fn patch_strategy(self) -> PatchStrategy {
        PatchStrategy { merge: self.has(FLAGS.patch_merge), retain_keys: self.has(FLAGS.patch_retain_keys) }
    }

    fn text(self, id: u32) -> Option<&'a str> {
        (id != 0).then(|| self.table.string(id))
    }

    /// The value that the field has when it is absent.
    pub fn default(self) -> Option<Value> {
        self.text(self.node().default).and_then(|json| serde_json::from_str(json).ok())
    }

    /// Whether any field below, or this one, has a default: cheap, so that defaulting needn't parse in vain.
    pub fn has_default(self) -> bool {
        self.node().default != 0
    }

    /// `int32`, `int64`, `double`, `byte`, `date-time`…
    pub fn format(self) -> Option<&'a str> {
        self.text(self.node().format)
    }

    /// The documentation of the field or type; empty if it has none.
    pub fn description(self) -> &'a str {
        let (start, len) = (self.node().description as usize, self.node().description_len as usize);
        &self.table.descriptions[start..start + len]
    }

    /// The name of the definition that this is or refers to, such as `io.k8s.api.core.v1.Pod`.
    pub fn type_name(self) -> Option<&'a str> {
        self.text(self.node().type_name)
    }

    /// What Go calls the type of the value, as it stands in error messages: `int32`, `[]v1.Container`.
    pub fn go_type(self) -> String {
        if let Some(name) = self.text(self.node().go_type) {
            return name.to_owned();
        }
        let named = |otherwise: &str| self.type_name().map_or_else(|| otherwise.to_owned(), go_name);
        match self.kind() {
            Kind::Array if self.format() == Some("byte") => "[]uint8".to_owned(),
            Kind::Array => format!("[]{}", self.items().map_or_else(|| "string".to_owned(), Schema::go_type)),
            Kind::Map => format!("map[string]{}", self.values().map_or_else(|| "string".to_owned(), Schema::go_type)),
            Kind::String if self.format() == Some("byte") => "[]uint8".to_owned(),
            Kind::String => named("string"),
            Kind::Integer => self.format().unwrap_or("int64").to_owned(),
            Kind::Number => "float64".to_owned(),
            Kind::Boolean => "bool".to_owned(),
            Kind::Object | Kind::IntOrString | Kind::Any => named("interface {}"),
        }
    }

    /// Whether this is a type of Kubernetes' own, rather than of a custom resource.
    pub fn is_builtin(self) -> bool {
        std::ptr::eq(self.table, &BUILTIN)
    }

    /// Whether fields that the schema doesn't name are kept.
    pub fn preserves_unknown(self) -> bool {
        self.has(FLAGS.preserve_unknown) || self.kind() == Kind::Any
    }

    /// Whether the value is a whole object with `apiVersion`, `kind` and `metadata` of its own.
    pub fn is_embedded_resource(self) -> bool {
        self.has(FLAGS.embedded_resource)
    }

    /// Whether `null` is a value of this field, other than its absence.
    pub fn is_nullable(self) -> bool {
        self.has(FLAGS.nullable)
    }

    /// Whether an empty value (`""`, 0, false, an empty list) differs from an absent one: in Go, a pointer.
    pub fn is_pointer(self) -> bool {
        self.has(FLAGS.pointer)
    }

    /// Whether Kubernetes writes the field though it is empty: in Go, a struct by value or a field without `omitempty`.
    pub fn is_always_present(self) -> bool {
        self.has(FLAGS.always)
    }
}

/// The built-in definition of that name, such as `io.k8s.api.core.v1.Pod`.
pub fn definition(name: &str) -> Option<Schema<'static>> {
    let index = DEFINITIONS.binary_search_by(|node| definition_name(*node).cmp(name)).ok()?;
    Some(Schema { table: &BUILTIN, node: DEFINITIONS[index] })
}

/// All built-in definitions, sorted by name.
pub fn definitions() -> impl Iterator<Item = (&'static str, Schema<'static>)> {
    DEFINITIONS.iter().map(|node| (definition_name(*node), Schema { table: &BUILTIN, node: *node }))
}

/// `v1.Pod` of `io.k8s.api.core.v1.Pod`.
fn go_name(definition: &str) -> String {
    let mut segments = definition.rsplit('.');
    let (name, package) = (segments.next().unwrap_or_default(), segments.next().unwrap_or_default());
    format!("{package}.{name}")
}

fn definition_name(node: u32) -> &'static str {
    BUILTIN.string(BUILTIN.nodes[node as usize].type_name)
}

impl Table {
    /// The schema at a node.
    pub(crate) fn at(&self, node: u32) -> Schema<'_> {
        Schema { table: self, node }
    }

    /// The table of a custom resource's schema (`openAPIV3Schema`); its root is [`Table::root`].
    pub fn from_json(schema: &Value) -> Table {
        let builtin = |name: &str| definition(name).map(|schema| schema.node);
        let definitions = [("", schema)].into_iter().collect();
        let (owned, _) = builder::Builder::new(definitions, &builtin).build();
        Table {
            nodes: owned.nodes.into(),
            fields: owned.fields.into(),
            words: owned.words.into(),
            ends: owned.ends.into(),
            text: owned.text.into(),
            descriptions: owned.descriptions.into(),
        }
    }

    /// The first schema of the table.
    pub fn root(&self) -> Schema<'_> {
        Schema { table: self, node: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_described_down_to_its_fields() {
        let pod = definition("io.k8s.api.core.v1.Pod").unwrap();
        let containers = pod.field("spec").unwrap().field("containers").unwrap();
        assert_eq!(containers.kind(), Kind::Array);
        assert_eq!(containers.list_type(), ListType::Map);
        assert_eq!(containers.map_keys().collect::<Vec<_>>(), ["name"]);
        assert_eq!(containers.patch_merge_key(), Some("name"));
        assert!(containers.patch_strategy().merge);
        let container = containers.items().unwrap();
        assert_eq!(container.type_name(), Some("io.k8s.api.core.v1.Container"));
        let port = container.field("ports").unwrap().items().unwrap();
        assert_eq!(port.field("protocol").unwrap().default(), Some("TCP".into()));
        assert_eq!(port.field("containerPort").unwrap().format(), Some("int32"));
        assert_eq!(port.required().collect::<Vec<_>>(), ["containerPort"]);
        assert!(container.field("resources").unwrap().is_always_present());
        let labels = pod.field("metadata").unwrap().field("labels").unwrap();
        assert_eq!(labels.child("any").unwrap().kind(), Kind::String);
        assert_eq!(pod.field("spec").unwrap().field("nodeSelector").unwrap().map_type(), MapType::Atomic);
    }

    #[test]
    fn definitions_that_refer_to_themselves_have_no_end() {
        let props = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let mut schema = definition(props).unwrap();
        for _ in 0..50 {
            schema = schema.field("properties").unwrap().values().unwrap();
            assert_eq!(schema.type_name(), Some(props));
        }
    }

    #[test]
    fn a_custom_schema_reaches_into_the_built_in_one() {
        let table = Table::from_json(&serde_json::json!({
            "type": "object",
            "properties": {
                "metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                         "properties": {"size": {"type": "integer", "default": 3}}},
            },
        }));
        let root = table.root();
        assert_eq!(root.kind(), Kind::Object);
        let name = root.field("metadata").unwrap().field("name").unwrap();
        assert_eq!(name.kind(), Kind::String);
        let spec = root.field("spec").unwrap();
        assert!(spec.preserves_unknown());
        assert_eq!(spec.field("size").unwrap().default(), Some(3.into()));
    }

    #[test]
    fn every_definition_is_found_by_its_name() {
        assert!(definitions().count() > 400);
        for (name, _) in definitions() {
            assert_eq!(definition(name).unwrap().type_name(), Some(name));
        }
    }
}
