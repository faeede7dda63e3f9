//! Rows of custom resources, made from `CustomResourceDefinition`s.

use std::borrow::Cow;
use std::sync::Arc;

use k3s_api::object::{at, text};
use k3s_api::resource::{PrinterColumn, Resource, SchemaSource, SelectableField, Subresource, Verbs};
use k3s_api::schema::Table;
use k3s_api::strategy::{GENERIC, Strategy};
use k3s_api::structural::rules::Rules;
use k3s_api::structural::{CustomSchema, ScalePaths, Structural};
use k3s_api::validation::Path;
use k3s_kine::Revision;
use serde_json::{Value, json};

use crate::conversion::webhook::ConversionWebhook;

/// What custom resources have in common.
static CUSTOM: Strategy = Strategy { generation: true, allow_unconditional_update: false, ..GENERIC };

/// A custom resource's row, and what only custom resources have.
#[derive(Debug)]
pub struct Custom {
    pub resource: Resource,
    /// The version of the definition that it was made of.
    definition: Revision,
    /// Its definition is being deleted: no objects are created any more.
    pub(crate) is_terminating: bool,
    /// What converts objects between the versions; None: only their `apiVersion` differs.
    pub(crate) conversion: Option<Arc<ConversionWebhook>>,
}

impl Custom {
    /// Whether it was made of the same version of the same definition.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let (own, other_row) = (&self.resource, &other.resource);
        self.definition == other.definition
            && (&own.group, &own.version, &own.plural) == (&other_row.group, &other_row.version, &other_row.plural)
    }
}

fn owned(value: Option<&Value>) -> Cow<'static, str> {
    Cow::Owned(value.and_then(Value::as_str).unwrap_or_default().to_owned())
}

fn texts(value: Option<&Value>) -> Cow<'static, [Cow<'static, str>]> {
    let list = value.and_then(Value::as_array).into_iter().flatten();
    Cow::Owned(list.map(|item| owned(Some(item))).collect())
}

/// The value of a condition in the definition's status.
pub(crate) fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = at(definition, &["status", "conditions"]).and_then(Value::as_array);
    conditions.into_iter().flatten().find(|condition| condition["type"] == kind)
}

/// Whether the definition's resources are served.
fn is_established(definition: &Value) -> bool {
    condition(definition, "Established").is_some_and(|condition| condition["status"] == "True")
}

/// The rows of an established definition: one per version that is served.
pub(super) fn rows(definition: &Value, revision: Revision) -> Vec<Custom> {
    let versions = at(definition, &["spec", "versions"]).and_then(Value::as_array);
    let versions: Vec<&Value> = versions.into_iter().flatten().collect();
    let stored = versions.iter().find(|version| version["storage"] == true).map(|version| owned(version.get("name")));
    let (Some(stored), true) = (stored, is_established(definition)) else { return Vec::new() };
    let served = versions.into_iter().filter(|version| version["served"] == true);
    let conversion = ConversionWebhook::of(definition).map(Arc::new);
    let row = |version| Custom {
        resource: row(definition, version, &stored),
        definition: revision,
        is_terminating: condition(definition, "Terminating").is_some_and(|condition| condition["status"] == "True"),
        conversion: conversion.clone(),
    };
    served.map(row).collect()
}

fn row(definition: &Value, version: &Value, stored: &str) -> Resource {
    let name = |field: &str| at(definition, &["status", "acceptedNames", field]);
    let (group, plural) = (owned(at(definition, &["spec", "group"])), owned(name("plural")));
    Resource {
        version: owned(version.get("name")),
        kind: owned(name("kind")),
        list_kind: owned(name("listKind")),
        singular: owned(name("singular")),
        short_names: texts(name("shortNames")),
        categories: texts(name("categories")),
        namespaced: text(definition, &["spec", "scope"]) == Some("Namespaced"),
        verbs: Verbs::ALL,
        schema: SchemaSource::Custom(Arc::new(custom_schema(version))),
        subresources: Cow::Owned(subresources(version, &group, &owned(name("kind")))),
        columns: Cow::Owned(columns(version)),
        selectable_fields: Cow::Owned(selectable_fields(version)),
        strategy: &CUSTOM,
        storage_group: group.clone(),
        storage_version: stored.to_owned().into(),
        storage_prefix: format!("{group}/{plural}").into(),
        group,
        plural,
    }
}

fn custom_schema(version: &Value) -> CustomSchema {
    let schema = schema(version);
    let mut errors = Vec::new();
    let rules = Rules::compile(&schema, &Path::new("schema"), &mut errors);
    for error in &errors {
        // The definition was validated when it was written: by another version of this server.
        tracing::warn!(%error, "a rule of a custom resource is not enforced");
    }
    CustomSchema {
        table: Table::from_json(&schema),
        structural: Structural::parse(&schema),
        rules,
        scale: scale(version),
    }
}

/// The version's schema, with what every object has.
fn schema(version: &Value) -> Value {
    let mut schema = at(version, &["schema", "openAPIV3Schema"]).cloned().unwrap_or_else(|| json!({"type": "object"}));
    let properties = &mut schema["properties"];
    if !properties.is_object() {
        *properties = json!({});
    }
    properties["apiVersion"] = json!({"type": "string"});
    properties["kind"] = json!({"type": "string"});
    let metadata = "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    properties["metadata"] = json!({"$ref": metadata});
    schema
}

fn subresources(version: &Value, group: &str, kind: &str) -> Vec<Subresource> {
    let of = |name: &'static str, group: &str, version: Cow<'static, str>, kind: &str| Subresource {
        name: name.into(),
        group: group.to_owned().into(),
        version,
        kind: kind.to_owned().into(),
        verbs: Verbs::GET | Verbs::PATCH | Verbs::UPDATE,
    };
    let has = |name: &str| at(version, &["subresources", name]).is_some_and(|value| !value.is_null());
    let mut subresources = Vec::new();
    if has("status") {
        subresources.push(of("status", group, owned(version.get("name")), kind));
    }
    if has("scale") {
        subresources.push(of("scale", "autoscaling", "v1".into(), "Scale"));
    }
    subresources
}

/// `.spec.replicas` as field names. (Paths of subresources have no indices and no filters.)
fn path(text: &str) -> Vec<String> {
    text.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn scale(version: &Value) -> Option<ScalePaths> {
    let scale = at(version, &["subresources", "scale"])?;
    Some(ScalePaths {
        spec_replicas: path(text(scale, &["specReplicasPath"])?),
        status_replicas: path(text(scale, &["statusReplicasPath"])?),
        label_selector: text(scale, &["labelSelectorPath"]).filter(|path| !path.is_empty()).map(path),
    })
}

fn columns(version: &Value) -> Vec<PrinterColumn> {
    let columns = version.get("additionalPrinterColumns").and_then(Value::as_array).into_iter().flatten();
    columns
        .map(|column| PrinterColumn {
            name: owned(column.get("name")),
            type_: owned(column.get("type")),
            format: owned(column.get("format")),
            description: owned(column.get("description")),
            priority: column
                .get("priority")
                .and_then(Value::as_i64)
                .and_then(|n| n.try_into().ok())
                .unwrap_or_default(),
            json_path: owned(column.get("jsonPath")),
        })
        .collect()
}

fn selectable_fields(version: &Value) -> Vec<SelectableField> {
    let fields = version.get("selectableFields").and_then(Value::as_array).into_iter().flatten();
    fields
        .filter_map(|field| Some(text(field, &["jsonPath"])?.trim_start_matches('.').to_owned()))
        .map(|path| SelectableField { path: path.into(), default: "".into() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_becomes_a_row_per_served_version() {
        let definition = json!({
            "spec": {"group": "g.example", "scope": "Namespaced", "versions": [
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale":
                    {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.replicas"}}},
                {"name": "v1beta1", "served": true, "storage": false},
                {"name": "v1alpha1", "served": false, "storage": false},
            ]},
            "status": {"acceptedNames": {"plural": "widgets", "kind": "Widget", "listKind": "WidgetList"},
                "conditions": [{"type": "Established", "status": "True"}]},
        });
        let rows = rows(&definition, 5);
        assert_eq!(rows.len(), 2);
        assert!(rows[0].resource.has_status() && rows[0].resource.is_storage_version());
        assert!(!rows[1].resource.is_storage_version());
        assert_eq!(
            rows[0]
                .resource
                .custom()
                .and_then(|custom| custom.scale.as_ref())
                .map(|scale| scale.spec_replicas.join("."))
                .as_deref(),
            Some("spec.size")
        );
        assert_eq!(rows[0].resource.storage_prefix, "g.example/widgets");
    }
}
