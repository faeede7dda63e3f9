//! Kubernetes' protobuf: the form in which typed clients send built-in objects
//! (`application/vnd.kubernetes.protobuf`). It is read into the same JSON values as everything else.
//!
//! A body is `k8s\0` and a `runtime.Unknown`: type, and the object's own message as bytes. The messages' fields are in
//! `data/protobuf.txt`; there is no code per kind.
//!
//! Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>.

mod read;
mod wire;

use serde_json::Value;

use crate::{object, presence, schema};
use wire::Wire;

include!(concat!(env!("OUT_DIR"), "/protobuf_table.rs"));

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// A message: the name of its definition, and its fields.
struct Message {
    name: &'static str,
    fields: &'static [Field],
}

struct Field {
    number: u32,
    /// As it is in JSON.
    name: &'static str,
    shape: Shape,
    element: Element,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    List,
    /// From strings.
    Map,
}

/// What a field, an element of a list or a value of a map is. Numbers are those of [`MESSAGES`].
#[derive(Clone, Copy)]
enum Element {
    String,
    /// Base64 in JSON.
    Bytes,
    Bool,
    Integer,
    Double,
    Message(usize),
    /// Its fields are those of the object around it, in JSON.
    Inline(usize),
    /// Seconds and nanoseconds; an RFC 3339 text in JSON.
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON text as bytes.
    Raw,
    /// A message of nothing but a list of strings; a list in JSON.
    Strings,
    /// Of which one field is set: a schema, or something else in its place.
    Either(usize),
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: {0}")]
    Malformed(&'static str),
    #[error("proto: exceeded maximum recursion depth of messages")]
    TooDeep,
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind { api_version: String, kind: String },
}

/// The object in a body, with its `apiVersion` and `kind`. What is empty is left out, as in JSON.
///
/// # Errors
/// If the body is damaged, or of a kind that has no message.
pub fn decode(body: &[u8]) -> Result<Value, Error> {
    let unknown = body.strip_prefix(MAGIC).ok_or(Error::NoMagic)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &b""[..]);
    for field in Wire::fields(unknown) {
        match field? {
            (1, Wire::Bytes(type_meta)) => {
                for field in Wire::fields(type_meta) {
                    match field? {
                        (1, Wire::Bytes(text)) => api_version = read::text(text)?,
                        (2, Wire::Bytes(text)) => kind = read::text(text)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let message = find(&api_version, &kind);
    let message = message.ok_or_else(|| Error::UnknownKind { api_version: api_version.clone(), kind: kind.clone() })?;
    let mut fields = serde_json::Map::new();
    read::message(raw, message, &mut fields, 0)?;
    let mut value = Value::Object(fields);
    // Fields that are no pointers in Go are always sent, though they are empty.
    if let Some(schema) = schema::definition(message.name) {
        presence::normalize(&mut value, schema);
    }
    value["apiVersion"] = api_version.into();
    value["kind"] = kind.into();
    Ok(value)
}

/// Where a field stands in its struct: protobuf's numbers go along with the order of the fields in Go. What has no number
/// stands first, as `apiVersion` and `kind` do.
pub fn field_place(definition: &str, field: &str) -> u32 {
    let message = MESSAGES.iter().find(|message| message.name == definition);
    let field = message.and_then(|message| message.fields.iter().find(|known| known.name == field));
    field.map_or(0, |field| field.number)
}

fn find(api_version: &str, kind: &str) -> Option<&'static Message> {
    let (group, version) = object::group_version(api_version);
    let package = match group {
        "" => "io.k8s.api.core".to_owned(),
        "apiextensions.k8s.io" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
        "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".to_owned(),
        group => format!("io.k8s.api.{}", group.split('.').next().unwrap_or_default()),
    };
    // Options are of every group.
    let names = [format!("{package}.{version}.{kind}"), format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}")];
    names.iter().find_map(|name| MESSAGES.iter().find(|message| message.name == name))
}

#[cfg(test)]
mod tests;
