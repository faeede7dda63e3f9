//! Lists and watch events, put together of objects that are written one by one: a list of many objects is never there
//! as a whole.

use serde_json::Value;

use super::table::{self, Message};
use super::writer::Writer;
use super::{Error, MAGIC, TAIL, type_meta, write};

/// A list of a built-in kind, on its way: its [`List::head`], its items, its [`List::TAIL`].
pub struct List {
    api_version: String,
    kind: String,
    message: &'static Message,
    item: &'static Message,
    items: u8,
}

impl List {
    /// What follows the items.
    pub const TAIL: &'static [u8] = TAIL;

    /// A list of that kind.
    ///
    /// # Errors
    /// If protobuf has none.
    pub fn new(api_version: &str, kind: &str) -> Result<Self, Error> {
        let message = super::message(api_version, kind)?;
        let items = message.fields().iter().find(|field| field.name() == "items");
        let items = items.ok_or_else(|| Error::UnknownKind { api_version: api_version.into(), kind: kind.into() })?;
        let (item, items) = (items.message(), items.number);
        Ok(Self { api_version: api_version.into(), kind: kind.into(), message, item, items })
    }

    /// One of the items.
    ///
    /// # Errors
    /// If the object isn't of the kind's form.
    pub fn item(&self, object: &Value) -> Result<Vec<u8>, Error> {
        let mut out = Writer::default();
        write::message(&mut out, self.item, object.as_object().ok_or(Error::NoObject)?)?;
        out.close(self.items, 0);
        Ok(out.finish())
    }

    /// What precedes items that are of `length` bytes together. `metadata` is the list's.
    ///
    /// # Errors
    /// If the metadata isn't of its form.
    pub fn head(&self, metadata: &Value, length: usize) -> Result<Vec<u8>, Error> {
        let mut out = Writer::default();
        let list = [("metadata".to_owned(), metadata.clone())].into_iter().collect();
        write::message(&mut out, self.message, &list)?;
        out.open(2, 0, length);
        type_meta(&mut out, &self.api_version, &self.kind);
        out.bytes(MAGIC);
        Ok(out.finish())
    }
}

/// What precedes, in a stream of watch events, an encoded object of `length` bytes: the length of the event, its type
/// (`ADDED`), and where the object stands in it.
pub fn event_head(kind: &str, length: usize) -> Vec<u8> {
    let mut out = Writer::default();
    out.open(1, 0, length);
    out.open(2, 0, length);
    out.bytes_field(1, kind.as_bytes());
    // Kubernetes' limit of an object is far below that of the length.
    let event = u32::try_from(out.len() + length).unwrap_or(u32::MAX);
    out.bytes(&event.to_be_bytes());
    out.finish()
}

/// Whether a kind can be had as protobuf.
pub fn is_known(api_version: &str, kind: &str) -> bool {
    table::find(api_version, kind).is_some()
}
