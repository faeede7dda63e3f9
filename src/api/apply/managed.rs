//! `metadata.managedFields`: who has set which fields.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fieldset::Set;
use crate::object::metadata_mut;
use crate::quote::quote;
use crate::time::{format_seconds, parse};

/// More managers than these that merely update are put together as [`ANCIENT`].
const MAX_UPDATERS: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// How a manager came to its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

/// One entry: a manager and its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub manager: String,
    pub operation: Operation,
    /// The version in which the fields are named.
    pub api_version: String,
    /// The subresource it was written through; empty for the object itself.
    pub subresource: String,
    pub time: Option<Timestamp>,
    pub fields: Set,
}

impl Entry {
    /// Whether both are the same manager. One that applies is the same in all versions.
    pub(super) fn is_same_manager(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// The manager as conflicts name it.
    pub(super) fn describe(&self) -> String {
        let mut text = quote(&self.manager);
        if !self.subresource.is_empty() {
            text.push_str(" with subresource ");
            text.push_str(&quote(&self.subresource));
        }
        if self.operation == Operation::Update {
            text.push_str(" using ");
            text.push_str(&self.api_version);
        }
        text
    }

    fn to_value(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager,
            "operation": if self.operation == Operation::Apply { "Apply" } else { "Update" },
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_value(),
        });
        if let Some(time) = self.time {
            entry["time"] = format_seconds(time).into();
        }
        if !self.subresource.is_empty() {
            entry["subresource"] = self.subresource.as_str().into();
        }
        entry
    }

    fn from_value(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        if text("fieldsType") != "FieldsV1" {
            return None;
        }
        Some(Self {
            manager: text("manager").to_owned(),
            operation: match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return None,
            },
            api_version: Some(text("apiVersion")).filter(|version| !version.is_empty())?.to_owned(),
            subresource: text("subresource").to_owned(),
            time: parse(text("time")),
            fields: entry.get("fieldsV1").map_or_else(|| Some(Set::default()), Set::from_value)?,
        })
    }
}

/// The entries of an object; `None` if they cannot be read.
pub fn decode(object: &Value) -> Option<Vec<Entry>> {
    match object.get("metadata").and_then(|metadata| metadata.get("managedFields")) {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(entries)) => entries.iter().map(Entry::from_value).collect(),
        Some(_) => None,
    }
}

/// Whether a request asks to forget all managers: a list of one empty entry.
pub(super) fn is_reset(object: &Value) -> bool {
    let entries = object.get("metadata").and_then(|metadata| metadata.get("managedFields")).and_then(Value::as_array);
    let empty = |entry: &Value| entry.as_object().is_some_and(|fields| fields.values().all(|v| v.is_null() || v == ""));
    entries.is_some_and(|entries| matches!(entries.as_slice(), [entry] if empty(entry)))
}

/// Writes the entries into an object, in Kubernetes' order: appliers first, then by time.
pub fn encode(object: &mut Value, mut entries: Vec<Entry>) {
    let metadata: &mut Map<String, Value> = metadata_mut(object);
    entries.retain(|entry| !entry.fields.is_empty());
    if entries.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| (entry.operation, entry.time.map(Timestamp::as_second));
        let names = |entry: &Entry| (entry.manager.clone(), entry.api_version.clone(), entry.subresource.clone());
        key(a).cmp(&key(b)).then_with(|| names(a).cmp(&names(b)))
    });
    metadata.insert("managedFields".to_owned(), entries.iter().map(Entry::to_value).collect());
}

/// Puts the oldest updaters together when there are too many.
pub(super) fn cap(entries: &mut Vec<Entry>) {
    let mut updaters: Vec<usize> =
        (0..entries.len()).filter(|index| entries[*index].operation == Operation::Update).collect();
    if updaters.len() <= MAX_UPDATERS {
        return;
    }
    updaters.sort_by_key(|index| (entries[*index].time, entries[*index].manager.clone()));
    let old = updaters[..updaters.len() - MAX_UPDATERS + 1].to_vec();
    let mut merged: Vec<Entry> = Vec::new();
    for index in &old {
        let entry = &entries[*index];
        match merged.iter_mut().find(|ancient| ancient.api_version == entry.api_version) {
            Some(ancient) => {
                ancient.fields = std::mem::take(&mut ancient.fields).union(&entry.fields);
                ancient.time = ancient.time.max(entry.time);
            }
            None => merged.push(Entry { manager: ANCIENT.to_owned(), subresource: String::new(), ..entry.clone() }),
        }
    }
    let mut index = 0;
    entries.retain(|_| {
        index += 1;
        !old.contains(&(index - 1))
    });
    entries.extend(merged);
}

/// The name of the manager of a request: its `fieldManager`, or else what stands before the first `/` of its user
/// agent, printable and at most 128 bytes long.
pub fn manager_name(field_manager: &str, user_agent: &str) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let mut name = String::new();
    for c in user_agent.split('/').next().unwrap_or_default().chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > 128 {
            break;
        }
        name.push(c);
    }
    name
}

/// Keeps the stored `managedFields` in `new` if they differ from those of `live` in their times only, so that writing an
/// object again as it is writes nothing. `true` if they did.
pub fn keep_times(live: &Value, new: &mut Value) -> bool {
    let fields = |object: &Value| object.get("metadata").and_then(|metadata| metadata.get("managedFields")).cloned();
    let (Some(Value::Array(before)), Some(Value::Array(mut after))) = (fields(live), fields(new)) else { return false };
    let same = |a: &Value, b: &Value| match (a.as_object(), b.as_object()) {
        (Some(a), Some(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| name == "time" || b.get(name) == Some(value))
        }
        _ => false,
    };
    // The new time may have changed the order.
    for entry in &before {
        match after.iter().position(|other| same(entry, other)) {
            Some(index) => drop(after.swap_remove(index)),
            None => return false,
        }
    }
    if !after.is_empty() {
        return false;
    }
    metadata_mut(new).insert("managedFields".to_owned(), Value::Array(before));
    true
}
