//! The table of messages, as the build script has made it of `data/protobuf.txt`.
//!
//! There are thousands of fields: each is a few numbers, and no pointer that would have to be relocated at start.

use crate::object;

include!(concat!(env!("OUT_DIR"), "/protobuf_table.rs"));

/// A message. Its name is that of a definition.
pub(super) struct Message {
    package: u8,
    kind: u16,
    first: u16,
    fields: u8,
}

#[derive(Clone, Copy)]
pub(super) struct Field {
    pub number: u8,
    pub shape: Shape,
    pub element: Element,
    name: u16,
    message: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    /// From strings.
    Map,
}

/// What a field, an element of a list or a value of a map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    String,
    /// Base64 in JSON.
    Bytes,
    Bool,
    Integer,
    Double,
    Message,
    /// A message whose fields are those of the object around it, in JSON.
    Inline,
    /// Seconds and nanoseconds; an RFC 3339 text in JSON.
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// JSON text as bytes.
    Raw,
    /// A message of nothing but a list of strings; a list in JSON.
    Strings,
    /// A message of which one field is set: a schema, or something else in its place.
    Either,
}

impl Message {
    pub fn package(&self) -> &'static str {
        PACKAGES[usize::from(self.package)]
    }

    pub fn kind(&self) -> &'static str {
        name(self.kind)
    }

    /// The name of its definition, such as `io.k8s.api.core.v1.Pod`.
    pub fn definition(&self) -> String {
        format!("{}.{}", self.package(), self.kind())
    }

    /// In the order of their numbers.
    pub fn fields(&self) -> &'static [Field] {
        let first = usize::from(self.first);
        &FIELDS[first..first + usize::from(self.fields)]
    }
}

impl Field {
    /// As it is in JSON.
    pub fn name(&self) -> &'static str {
        name(self.name)
    }

    /// The message, if it is of one.
    pub fn message(&self) -> &'static Message {
        &MESSAGES[usize::from(self.message)]
    }
}

fn name(number: u16) -> &'static str {
    let number = usize::from(number);
    let start = number.checked_sub(1).map_or(0, |before| usize::from(NAME_ENDS[before]));
    &NAMES[start..usize::from(NAME_ENDS[number])]
}

/// The message of a kind.
pub(super) fn find(api_version: &str, kind: &str) -> Option<&'static Message> {
    const META: &str = "io.k8s.apimachinery.pkg.apis.meta";
    let (group, version) = object::group_version(api_version);
    let group = match group {
        "" => "io.k8s.api.core".to_owned(),
        "apiextensions.k8s.io" => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
        "apiregistration.k8s.io" => "io.k8s.kube-aggregator.pkg.apis.apiregistration".to_owned(),
        "meta.k8s.io" => META.to_owned(),
        group => format!("io.k8s.api.{}", group.split('.').next().unwrap_or_default()),
    };
    let of = |package: String| {
        let package = PACKAGES.iter().position(|known| *known == package)?;
        MESSAGES.iter().find(|message| usize::from(message.package) == package && message.kind() == kind)
    };
    // Options and statuses are of every group.
    of(format!("{group}.{version}")).or_else(|| of(format!("{META}.v1")))
}

/// The message of a definition.
pub(super) fn of_definition(name: &str) -> Option<&'static Message> {
    let (package, kind) = name.rsplit_once('.')?;
    MESSAGES.iter().find(|message| message.package() == package && message.kind() == kind)
}

/// All messages, for tests.
#[cfg(test)]
pub(super) fn all() -> &'static [Message] {
    &MESSAGES
}
