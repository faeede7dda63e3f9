//! The resources that the API serves: a row each. Built-in rows are constants (`data/resources.txt`, joined with
//! k8s-openapi's types by the build script); rows of custom resources are made when their definition is established.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use crate::object;
use crate::schema::{self, Schema};
use crate::strategy::Strategy;
use crate::structural::CustomSchema;

include!(concat!(env!("OUT_DIR"), "/resource_table.rs"));

/// A resource: all that the generic pipeline has to know of it.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Empty for the core group.
    pub group: Cow<'static, str>,
    pub version: Cow<'static, str>,
    pub kind: Cow<'static, str>,
    pub list_kind: Cow<'static, str>,
    pub singular: Cow<'static, str>,
    pub plural: Cow<'static, str>,
    pub short_names: Cow<'static, [Cow<'static, str>]>,
    pub categories: Cow<'static, [Cow<'static, str>]>,
    pub namespaced: bool,
    pub verbs: Verbs,
    pub schema: SchemaSource,
    pub subresources: Cow<'static, [Subresource]>,
    /// The printer columns of a custom resource; those of built-in resources are in `table`.
    pub columns: Cow<'static, [PrinterColumn]>,
    /// Fields for selectors, besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Cow<'static, [SelectableField]>,
    pub strategy: &'static Strategy,
    /// The group of the version that is stored: another than `group` for `events.k8s.io`.
    pub storage_group: Cow<'static, str>,
    /// The version that is stored, where several are served.
    pub storage_version: Cow<'static, str>,
    /// Where objects lie in the datastore, below `/registry/`, as Kubernetes lays them.
    pub storage_prefix: Cow<'static, str>,
}

/// Where the schema of a resource is.
#[derive(Debug, Clone)]
pub enum SchemaSource {
    /// A node of the built-in table.
    Builtin(u32),
    /// A custom resource's own table; its root is the whole object.
    Custom(Arc<CustomSchema>),
}

/// A part of a resource with an endpoint of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    pub name: Cow<'static, str>,
    /// The group of its body.
    pub group: Cow<'static, str>,
    /// The version of its body.
    pub version: Cow<'static, str>,
    /// The kind of its body.
    pub kind: Cow<'static, str>,
    pub verbs: Verbs,
}

/// An additional printer column of a custom resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrinterColumn {
    pub name: Cow<'static, str>,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: Cow<'static, str>,
    pub format: Cow<'static, str>,
    pub description: Cow<'static, str>,
    /// 0 for the columns that are always shown.
    pub priority: i32,
    pub json_path: Cow<'static, str>,
}

/// A field that a field selector may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectableField {
    /// Field names joined by dots, from the root of the object.
    pub path: Cow<'static, str>,
    /// What the field reads as where it is absent.
    pub default: Cow<'static, str>,
}

/// A set of verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verbs(pub u8);

impl Verbs {
    pub const CREATE: Verbs = Verbs(1);
    pub const DELETE: Verbs = Verbs(1 << 1);
    pub const DELETECOLLECTION: Verbs = Verbs(1 << 2);
    pub const GET: Verbs = Verbs(1 << 3);
    pub const LIST: Verbs = Verbs(1 << 4);
    pub const PATCH: Verbs = Verbs(1 << 5);
    pub const UPDATE: Verbs = Verbs(1 << 6);
    pub const WATCH: Verbs = Verbs(1 << 7);
    /// All eight.
    pub const ALL: Verbs = Verbs(u8::MAX);

    const NAMES: [&'static str; 8] =
        ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

    /// Whether all verbs of `other` are in this set.
    pub fn contains(self, other: Verbs) -> bool {
        self.0 & other.0 == other.0
    }

    /// The verb of that name (`get`, `deletecollection`…).
    pub fn parse(name: &str) -> Option<Verbs> {
        Self::NAMES.iter().position(|verb| *verb == name).map(|bit| Verbs(1 << bit))
    }

    /// The names of the verbs in this set, sorted.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        (0..8).filter(move |bit| self.0 & (1 << bit) != 0).map(|bit| Self::NAMES[bit])
    }
}

impl std::ops::BitOr for Verbs {
    type Output = Verbs;

    fn bitor(self, other: Verbs) -> Verbs {
        Verbs(self.0 | other.0)
    }
}

impl Resource {
    /// The schema of the whole object.
    pub fn schema(&self) -> Schema<'_> {
        match &self.schema {
            SchemaSource::Builtin(node) => schema::BUILTIN.at(*node),
            SchemaSource::Custom(custom) => custom.table.root(),
        }
    }

    /// What a custom resource's definition says of its objects.
    pub fn custom(&self) -> Option<&CustomSchema> {
        match &self.schema {
            SchemaSource::Builtin(_) => None,
            SchemaSource::Custom(custom) => Some(custom),
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> Cow<'_, str> {
        match &*self.group {
            "" => Cow::Borrowed(&*self.version),
            group => Cow::Owned(format!("{group}/{}", self.version)),
        }
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|subresource| subresource.name == name)
    }

    /// Whether it has a status that is written apart (the `status` subresource).
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// An object reduced to `metadata`, as `meta.k8s.io/v1` `PartialObjectMetadata`.
    pub fn partial_metadata(&self, object: &Value) -> Value {
        let mut partial = object::partial_metadata(object);
        let hidden = self.strategy.internal_annotation;
        if !hidden.is_empty()
            && let Some(annotations) = partial["metadata"].get_mut("annotations").and_then(Value::as_object_mut)
        {
            annotations.remove(hidden);
            if annotations.is_empty() {
                object::metadata_mut(&mut partial).remove("annotations");
            }
        }
        partial
    }

    /// The names of its verbs in the order in which discovery tells them: of custom resources in one of their own.
    pub fn verb_names(&self) -> Vec<&'static str> {
        const CUSTOM: [&str; 8] = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"];
        match self.schema {
            SchemaSource::Custom(_) => CUSTOM.to_vec(),
            SchemaSource::Builtin(_) => self.verbs.names().collect(),
        }
    }

    /// Whether this row serves objects of another version as they are stored.
    pub fn is_storage_version(&self) -> bool {
        self.storage_group == self.group && self.storage_version == self.version
    }
}

/// The built-in resources, group by group in the order of discovery.
pub fn builtin() -> &'static [Resource] {
    &RESOURCES
}

/// The built-in resource at `/apis/{group}/{version}/{plural}`; the core group is empty.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|row| row.plural == plural && row.group == group && row.version == version)
}

/// The built-in resource of that kind.
pub fn find_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|row| row.kind == kind && row.group == group && row.version == version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Kind;

    #[test]
    fn rows_say_what_discovery_says() {
        let pods = find("", "v1", "pods").unwrap();
        assert_eq!((&*pods.kind, &*pods.list_kind, &*pods.singular), ("Pod", "PodList", "pod"));
        assert_eq!(pods.short_names[..], ["po"]);
        assert!(pods.namespaced && pods.verbs == Verbs::ALL && pods.has_status());
        let eviction = pods.subresource("eviction").unwrap();
        assert_eq!((&*eviction.group, &*eviction.version, &*eviction.kind), ("policy", "v1", "Eviction"));
        assert_eq!(eviction.verbs.names().collect::<Vec<_>>(), ["create"]);
        let namespaces = find("", "v1", "namespaces").unwrap();
        assert!(!namespaces.namespaced && !namespaces.verbs.contains(Verbs::DELETECOLLECTION));
        assert_eq!(find_kind("apps", "v1", "Deployment").unwrap().plural, "deployments");
    }

    #[test]
    fn every_row_has_its_schema() {
        assert_eq!(builtin().len(), 68);
        for row in builtin() {
            let schema = row.schema();
            assert_eq!(schema.kind(), Kind::Object, "{}", row.kind);
            assert!(schema.type_name().unwrap().ends_with(&format!(".{}", row.kind)));
            assert!(schema.field("metadata").is_some(), "{}", row.kind);
        }
    }

    #[test]
    fn verbs_have_names() {
        assert_eq!(Verbs::parse("watch"), Some(Verbs::WATCH));
        assert_eq!(Verbs::parse("connect"), None);
        assert_eq!((Verbs::GET | Verbs::CREATE).names().collect::<Vec<_>>(), ["create", "get"]);
    }
}
