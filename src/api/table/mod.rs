//! Tables: objects as `kubectl get` shows them (`meta.k8s.io/v1` `Table`).
//!
//! ```text
//! let rows = objects.map(|object| table::row(resource, object, include, now)).collect();
//! let table = table::table(Some(table::columns(resource)), rows, list_metadata);
//! ```
//!
//! Built-in resources have printers of their own, which say what Kubernetes' do; custom ones print the columns of their
//! definition. A watch sends a table of one row per event, with columns in the first only.

mod columns;
mod core;
mod custom;
mod fields;
mod jsonpath;
mod networking;
mod pods;
mod policy;
mod storage;
mod workloads;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::resource::Resource;
use crate::schema;
use crate::time::age;
use columns::{NAME_AND_AGE, NAME_AND_CREATION};
use fields::Fields;

/// Which part of the object goes along with its row (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// The value of the query parameter; absent and empty mean `Metadata`. `None` for any other.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "None" => Self::None,
            "" | "Metadata" => Self::Metadata,
            "Object" => Self::Object,
            _ => return None,
        })
    }
}

/// Where the description of a column comes from.
#[derive(Clone, Copy)]
enum Doc {
    Text(&'static str),
    /// A field of a type, whose description it is; the type is in `io.k8s.api` unless it says otherwise.
    Field(&'static str, &'static str),
}

/// A column of a built-in resource.
#[derive(Clone, Copy)]
struct Column {
    name: &'static str,
    type_: &'static str,
    format: &'static str,
    priority: i32,
    doc: Doc,
}

const fn column(name: &'static str, doc: Doc) -> Column {
    Column { name, type_: "string", format: "", priority: 0, doc }
}

const fn of(type_name: &'static str, field: &'static str) -> Doc {
    Doc::Field(type_name, field)
}

impl Column {
    const fn integer(mut self) -> Self {
        self.type_ = "integer";
        self
    }

    const fn boolean(mut self) -> Self {
        self.type_ = "boolean";
        self
    }

    const fn date(mut self) -> Self {
        self.type_ = "date";
        self
    }

    const fn name(mut self) -> Self {
        self.format = "name";
        self
    }

    /// Shown with `-o wide` only.
    const fn wide(mut self) -> Self {
        self.priority = 1;
        self
    }

    fn definition(&self) -> Value {
        let description = match self.doc {
            Doc::Text(text) => text,
            Doc::Field(type_name, field) => {
                let full = match type_name.starts_with("io.") {
                    true => schema::definition(type_name),
                    false => schema::definition(&format!("io.k8s.api.{type_name}")),
                };
                full.and_then(|schema| schema.field(field)).map_or("", |field| field.description())
            }
        };
        json!({"name": self.name, "type": self.type_, "format": self.format, "description": description,
            "priority": self.priority})
    }
}

type Cells = Vec<Value>;
/// Columns of a built-in resource and what stands in them.
type Printer = (&'static [Column], fn(Fields<'_>, Timestamp) -> Cells);

fn printer(resource: &Resource) -> Printer {
    let (group, plural) = (&*resource.group, &*resource.plural);
    workloads::printer(group, plural)
        .or_else(|| core::printer(group, plural))
        .or_else(|| networking::printer(group, plural))
        .or_else(|| storage::printer(group, plural))
        .or_else(|| policy::printer(group, plural))
        .unwrap_or((NAME_AND_CREATION, |object, _| {
            vec![object.name(), object.text("metadata.creationTimestamp").into()]
        }))
}

fn is_custom(resource: &Resource) -> bool {
    matches!(resource.schema, crate::resource::SchemaSource::Custom(_))
}

/// The `columnDefinitions` of a resource.
pub fn columns(resource: &Resource) -> Value {
    match is_custom(resource) {
        true => custom::columns(resource),
        false => printer(resource).0.iter().map(Column::definition).collect(),
    }
}

/// The cells of an object, one per column.
pub fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Cells {
    match is_custom(resource) {
        true => custom::cells(resource, object, now),
        false => printer(resource).1(Fields(object), now),
    }
}

/// A row of a table.
pub fn row(resource: &Resource, value: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let mut row = Map::from_iter([("cells".to_owned(), Value::Array(cells(resource, value, now)))]);
    if resource.group.is_empty()
        && resource.plural == "pods"
        && let Some(conditions) = pods::conditions(Fields(value))
    {
        row.insert("conditions".to_owned(), conditions);
    }
    let included = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => resource.partial_metadata(value),
        IncludeObject::Object => value.clone(),
    };
    row.insert("object".to_owned(), included);
    Value::Object(row)
}

/// A table. `columns` are left out in all but the first event of a watch; `metadata` is that of the list
/// (`resourceVersion`, `continue`, `remainingItemCount`) or of the one object (`resourceVersion`).
pub fn table(columns: Option<Value>, rows: Vec<Value>, metadata: Value) -> Value {
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns.unwrap_or_else(|| Value::Array(Vec::new())), "rows": rows})
}

/// The age of an object.
fn object_age(object: Fields<'_>, now: Timestamp) -> Value {
    age(object.get("metadata.creationTimestamp").and_then(Value::as_str), now).into()
}

#[cfg(test)]
mod tests;
