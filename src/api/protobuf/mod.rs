//! Kubernetes' protobuf: the form in which typed clients send built-in objects and ask for them
//! (`application/vnd.kubernetes.protobuf`). It is read into the same JSON values as everything else, and written from
//! them.
//!
//! A body is `k8s\0` and a `runtime.Unknown`: type, and the object's own message as bytes. The messages' fields are in
//! `data/protobuf.txt`; there is no code per kind. A stream of watch events is made of messages with their lengths
//! before them, in which an object stands as a body of its own.
//!
//! Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>.

mod list;
mod read;
mod table;
mod wire;
mod write;
mod writer;

pub use list::{List, event_head, is_known};

use serde_json::Value;

use crate::{object, presence, schema};
use table::Message;
use wire::Wire;
use writer::Writer;

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// What every body ends with, as Go writes it: no encoding, and no media type of what is in it.
const TAIL: &[u8] = &[3 << 3 | 2, 0, 4 << 3 | 2, 0];

/// Why a body could not be read, or an object not be written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("empty data")]
    NoData,
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    #[error("empty body")]
    NoBody,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: {0}")]
    Malformed(&'static str),
    #[error("proto: wrong wireType = {wire} for field {field}")]
    WrongType { wire: u8, field: String },
    #[error("proto: exceeded maximum recursion depth of messages")]
    TooDeep,
    #[error(
        "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\""
    )]
    UnknownKind { api_version: String, kind: String },
    #[error("cannot write the field {field} as protobuf: its value is not of the field's type")]
    Mismatch { field: &'static str },
    #[error("cannot write as protobuf what is no object")]
    NoObject,
}

/// A body, of which the type is read and the object is not yet.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// Empty if the body doesn't say it, as that of a client that knows what is expected.
    pub api_version: String,
    /// As `api_version`.
    pub kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads what is around the object.
    ///
    /// # Errors
    /// If that is damaged.
    pub fn read(body: &'a [u8]) -> Result<Self, Error> {
        let unknown = match body.strip_prefix(MAGIC) {
            None if body.is_empty() => return Err(Error::NoData),
            None => return Err(Error::NoMagic),
            Some([]) => return Err(Error::NoBody),
            Some(unknown) => unknown,
        };
        let mut envelope = Self { api_version: String::new(), kind: String::new(), raw: b"" };
        for field in Wire::fields(unknown) {
            match field? {
                (1, Wire::Bytes(type_meta)) => {
                    for field in Wire::fields(type_meta) {
                        match field? {
                            (1, Wire::Bytes(text)) => envelope.api_version = read::text(text)?,
                            (2, Wire::Bytes(text)) => envelope.kind = read::text(text)?,
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(bytes)) => envelope.raw = bytes,
                _ => {}
            }
        }
        Ok(envelope)
    }

    /// The object, with its `apiVersion` and `kind`. What is empty is left out, as in JSON.
    ///
    /// # Errors
    /// If it is damaged, or of a kind that has no message.
    pub fn object(self) -> Result<Value, Error> {
        let message = message(&self.api_version, &self.kind)?;
        let mut fields = serde_json::Map::new();
        read::message(self.raw, message, &mut fields, 0)?;
        let mut value = Value::Object(fields);
        // Fields that are no pointers in Go are always sent, though they are empty.
        if let Some(schema) = schema::definition(&message.definition()) {
            presence::normalize(&mut value, schema);
        }
        value["apiVersion"] = self.api_version.into();
        value["kind"] = self.kind.into();
        Ok(value)
    }
}

/// Where a field stands in its struct: protobuf's numbers go along with the order of the fields in Go. What has no number
/// stands first, as `apiVersion` and `kind` do.
pub fn field_place(definition: &str, field: &str) -> u32 {
    table::of_definition(definition)
        .and_then(|message| message.fields().iter().find(|known| known.name() == field))
        .map_or(0, |field| u32::from(field.number))
}

/// The object in a body that says of which type it is.
///
/// # Errors
/// As those of [`Envelope`].
pub fn decode(body: &[u8]) -> Result<Value, Error> {
    Envelope::read(body)?.object()
}

/// A body with an object, which says its `kind`; without an `apiVersion` it is of `v1`, as `APIVersions` is.
///
/// # Errors
/// [`Error::UnknownKind`] for kinds that have no message, as those of custom resources.
pub fn encode(object: &Value) -> Result<Vec<u8>, Error> {
    let api_version = Some(object::api_version(object)).filter(|given| !given.is_empty()).unwrap_or("v1");
    let kind = object::kind(object);
    let mut out = Writer::default();
    out.bytes(TAIL);
    let end = out.len();
    write::message(&mut out, message(api_version, kind)?, object.as_object().ok_or(Error::NoObject)?)?;
    out.close(2, end);
    type_meta(&mut out, api_version, kind);
    out.bytes(MAGIC);
    Ok(out.finish())
}

fn type_meta(out: &mut Writer, api_version: &str, kind: &str) {
    let end = out.len();
    out.bytes_field(2, kind.as_bytes());
    out.bytes_field(1, api_version.as_bytes());
    out.close(1, end);
}

fn message(api_version: &str, kind: &str) -> Result<&'static Message, Error> {
    table::find(api_version, kind)
        .ok_or_else(|| Error::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() })
}

#[cfg(test)]
mod tests;
