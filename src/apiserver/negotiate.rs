//! What the client wants to have back: media type and representation, from the `Accept` header.

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_ENCODING};
use k3s_api::status::Status;

use crate::request::Query;

/// An encoding of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    /// JSON with line breaks and two spaces of indent.
    PrettyJson,
    Yaml,
    Protobuf,
}

impl Format {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::PrettyJson => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => PROTOBUF,
        }
    }
}

impl Format {
    /// Whether what is asked for can be had so.
    fn has(self, shape: Shape, asked: Asked) -> bool {
        match shape {
            _ if self != Self::Protobuf => true,
            Shape::Object => !asked.custom,
            Shape::Table(_) => false,
            Shape::PartialMetadata(_) => true,
        }
    }
}

/// The media type of Kubernetes' protobuf.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// That of a stream of watch events.
pub(crate) const PROTOBUF_STREAM: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// A representation of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As they are.
    Object,
    /// `meta.k8s.io` `Table`, of that version.
    Table(&'static str),
    /// `meta.k8s.io` `PartialObjectMetadata` or `PartialObjectMetadataList`, of that version.
    PartialMetadata(&'static str),
}

/// What a response shall look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    pub format: Format,
    pub shape: Shape,
    pub gzip: bool,
}

impl Default for Accept {
    fn default() -> Self {
        Self { format: Format::Json, shape: Shape::Object, gzip: false }
    }
}

const TYPES: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];
const STREAM_TYPES: [&str; 2] = ["application/json;stream=watch", PROTOBUF_STREAM];

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asked {
    /// A path that can be watched.
    pub collection: bool,
    /// A custom resource: protobuf has no message for it. Its metadata alone can be had so all the same.
    pub custom: bool,
}

/// Chooses among what the client accepts.
///
/// # Errors
/// 406 if nothing of it can be had.
pub fn negotiate(headers: &HeaderMap, query: &Query, asked: Asked) -> Result<Accept, Status> {
    let accepted: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accepted = accepted.join(",");
    let gzip = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.split(';').next().is_some_and(|name| name.trim() == "gzip"));
    let pretty = match query.get("pretty") {
        Some(_) => query.flag("pretty"),
        None => headers
            .get(http::header::USER_AGENT)
            .and_then(|agent| agent.to_str().ok())
            .is_some_and(|agent| ["curl", "Wget", "Mozilla/5.0"].iter().any(|browser| agent.starts_with(browser))),
    };
    let json = if pretty { Format::PrettyJson } else { Format::Json };
    if accepted.trim().is_empty() {
        return Ok(Accept { format: json, shape: Shape::Object, gzip });
    }
    let mut clauses: Vec<Clause<'_>> = accepted.split(',').map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(a.wildcards().cmp(&b.wildcards())));
    for clause in &clauses {
        let format = match clause.media_type {
            "application/json" | "*/*" | "application/*" => json,
            "application/yaml" => Format::Yaml,
            PROTOBUF => Format::Protobuf,
            _ => continue,
        };
        if let Some(shape) = clause.shape().filter(|shape| format.has(*shape, asked)) {
            return Ok(Accept { format, shape, gzip });
        }
    }
    // Kubernetes refuses an unknown media type before it looks at parameters, with another message.
    if clauses.iter().any(|clause| TYPES.contains(&clause.media_type)) {
        let message = format!("only the following media types are accepted: {}", TYPES.join(", "));
        return Err(Status { message, details: None, ..Status::not_acceptable(&TYPES) });
    }
    let streams: &[&str] = if asked.collection { &STREAM_TYPES } else { &[] };
    Err(Status::not_acceptable(&[&TYPES, streams].concat()))
}

struct Clause<'a> {
    media_type: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        let parameters: Vec<_> = parts.filter_map(|part| part.split_once('=')).collect();
        let quality = parameters.iter().find(|(name, _)| *name == "q").and_then(|(_, value)| value.parse().ok());
        Self { media_type, parameters, quality: quality.unwrap_or(1.0) }
    }

    fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// Of two that the client likes as well, the one that says more goes first.
    fn wildcards(&self) -> usize {
        self.media_type.bytes().filter(|byte| *byte == b'*').count()
    }

    fn shape(&self) -> Option<Shape> {
        if !matches!(self.parameter("stream"), "" | "watch") {
            return None;
        }
        let version = match self.parameter("v") {
            "v1beta1" => "v1beta1",
            "v1" => "v1",
            _ => "",
        };
        match (self.parameter("as"), self.parameter("g"), version) {
            ("", _, _) => Some(Shape::Object),
            ("Table", "meta.k8s.io", "v1" | "v1beta1") => Some(Shape::Table(version)),
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") => {
                Some(Shape::PartialMetadata(version))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accept_of(value: &'static str, custom: bool) -> Result<Accept, Status> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]);
        negotiate(&headers, &Query::default(), Asked { collection: true, custom })
    }

    fn accept(value: &'static str) -> Result<Accept, Status> {
        accept_of(value, false)
    }

    #[test]
    fn the_first_representation_that_can_be_had_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl).expect("acceptable").shape, Shape::Table("v1"));
        let client_go = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(accept(client_go).expect("acceptable").format, Format::Protobuf);
        assert_eq!(accept("application/json;as=Other;v=v1;g=meta.k8s.io,*/*").expect("any").shape, Shape::Object);
        assert_eq!(accept("application/json;q=0.1,application/yaml").expect("acceptable").format, Format::Yaml);
    }

    #[test]
    fn protobuf_is_had_where_there_are_messages() {
        const CLIENT: &str = "application/vnd.kubernetes.protobuf, application/json;q=0.9, */*;q=0.8";
        const ONLY: &str = "application/vnd.kubernetes.protobuf";
        assert_eq!(accept(CLIENT).expect("acceptable").format, Format::Protobuf);
        assert_eq!(accept_of(CLIENT, true).expect("acceptable").format, Format::Json);
        assert_eq!(accept_of(ONLY, true).expect_err("a custom resource").code, 406);
        assert_eq!(
            accept("application/vnd.kubernetes.protobuf;stream=watch").expect("a stream").format,
            Format::Protobuf
        );
        assert_eq!(accept("application/vnd.kubernetes.protobuf;stream=other").expect_err("no stream").code, 406);
        let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(accept(table).expect_err("a table").code, 406);
        for custom in [false, true] {
            let metadata = accept_of(
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
                custom,
            );
            let metadata = metadata.expect("metadata");
            assert_eq!((metadata.format, metadata.shape), (Format::Protobuf, Shape::PartialMetadata("v1")));
        }
        assert_eq!(accept("*/*,application/vnd.kubernetes.protobuf").expect("acceptable").format, Format::Protobuf);
        assert_eq!(
            accept("application/vnd.kubernetes.protobuf;q=0.5,application/json").expect("acceptable").format,
            Format::Json
        );
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        assert!(accept("text/html").expect_err("html").message.starts_with("406: Not Acceptable"));
        let error = accept("application/json;as=Other;v=v1;g=meta.k8s.io").expect_err("no such representation");
        assert!(error.message.starts_with("only the following media types are accepted"), "{}", error.message);
    }
}
