//! Which objects of a collection are meant.

use std::borrow::Cow;
use std::sync::Arc;

use k3s_api::resource::Resource;
use k3s_api::selector::{fields, labels};
use k3s_api::status::Status;
use serde::Deserialize;

use crate::call::Call;
use crate::options::ListOptions;
use crate::registry::{Entry, Error, convert};

/// A label and a field selector.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selection {
    labels: labels::Selector,
    fields: fields::Selector,
}

impl Selection {
    /// Reads the selectors of a request on that resource.
    pub fn parse(row: &Resource, options: &ListOptions) -> Result<Self, Status> {
        let labels: labels::Selector =
            options.label_selector.parse().map_err(|error: k3s_api::selector::Error| bad(&error))?;
        let fields: fields::Selector =
            options.field_selector.parse().map_err(|error: k3s_api::selector::Error| bad(&error))?;
        fields.check(row).map_err(|error| bad(&error))?;
        Ok(Self { labels, fields })
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Whether the object is selected. It is decoded only as far as the selectors ask.
    pub fn matches(&self, row: &Resource, entry: &Entry) -> Result<bool, Error> {
        let key_only = self.fields.terms().iter().all(|term| term.field.starts_with("metadata."));
        if key_only && !self.fields.matches_with(|field| key_field(entry, field)) {
            return Ok(false);
        }
        if !key_only {
            let value = convert::read(row, entry)?;
            let selected = self.fields.matches_with(|field| {
                let own = row.selectable_fields.iter().find(|own| own.path == field);
                match (fields::value(&value, field), own) {
                    (Cow::Borrowed(""), Some(own)) => Cow::Owned(own.default.to_string()),
                    (found, _) => Cow::Owned(found.into_owned()),
                }
            });
            if !selected {
                return Ok(false);
            }
        }
        if self.labels.is_everything() {
            return Ok(true);
        }
        let damaged =
            |error: serde_json::Error| Error::Damaged { key: entry.key().to_string(), detail: error.to_string() };
        let object: Labelled<'_> = serde_json::from_slice(entry.bytes()).map_err(damaged)?;
        let labels = object.metadata.labels;
        Ok(self.labels.matches_with(|key| labels.iter().find(|(name, _)| name == key).map(|(_, value)| &**value)))
    }

    /// The selected entries among some. They are converted to the call's version only if it takes that to tell.
    ///
    /// # Errors
    /// If one cannot be converted.
    pub async fn among(&self, call: &Call, mut entries: Vec<Arc<Entry>>) -> Result<Vec<Arc<Entry>>, Status> {
        if self.fields.terms().iter().any(|term| !term.field.starts_with("metadata.")) {
            entries = call.conversion().entries(&call.row, entries).await?;
        }
        Ok(self.filter(&call.row, entries)?)
    }

    /// The selected entries among some.
    fn filter(&self, row: &Resource, entries: Vec<Arc<Entry>>) -> Result<Vec<Arc<Entry>>, Error> {
        if self.is_everything() {
            return Ok(entries);
        }
        let mut selected = Vec::new();
        for entry in entries {
            if self.matches(row, &entry)? {
                selected.push(entry);
            }
        }
        Ok(selected)
    }
}

fn bad(error: &k3s_api::selector::Error) -> Status {
    Status::bad_request(error.to_string())
}

fn key_field<'a>(entry: &'a Entry, field: &str) -> Cow<'a, str> {
    Cow::Borrowed(match field {
        "metadata.name" => entry.name(),
        "metadata.namespace" => entry.namespace(),
        _ => "",
    })
}

/// Labels with their values.
type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// The part of an object that a label selector reads.
#[derive(Deserialize)]
struct Labelled<'a> {
    #[serde(borrow)]
    metadata: LabelledMetadata<'a>,
}

#[derive(Deserialize)]
struct LabelledMetadata<'a> {
    #[serde(borrow, default, deserialize_with = "pairs")]
    labels: Pairs<'a>,
}

/// A map's pairs, borrowed from the JSON where it has no escapes.
fn pairs<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Pairs<'de>, D::Error> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    struct Visitor;
    impl<'de> serde::de::Visitor<'de> for Visitor {
        type Value = Pairs<'de>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a map of labels")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some((Text(key), Text(value))) = map.next_entry()? {
                pairs.push((key, value));
            }
            Ok(pairs)
        }
    }
    from.deserialize_map(Visitor)
}
