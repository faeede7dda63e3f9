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
}

impl Format {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        if self == Self::Yaml { "application/yaml" } else { "application/json" }
    }
}

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

const TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const STREAM_TYPES: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// Chooses among what the client accepts. `collection` says whether the path can be watched.
///
/// # Errors
/// 406 if nothing of it can be had. Protobuf can't, yet: clients that prefer it accept JSON as well.
pub fn negotiate(headers: &HeaderMap, query: &Query, collection: bool) -> Result<Accept, Status> {
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
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    for clause in &clauses {
        let format = match clause.media_type {
            "application/json" | "*/*" | "application/*" => json,
            "application/yaml" => Format::Yaml,
            _ => continue,
        };
        if let Some(shape) = clause.shape() {
            return Ok(Accept { format, shape, gzip });
        }
    }
    // Kubernetes refuses an unknown media type before it looks at parameters, with another message.
    if clauses.iter().any(|clause| TYPES.contains(&clause.media_type)) {
        let message = format!("only the following media types are accepted: {}", TYPES.join(", "));
        return Err(Status { message, details: None, ..Status::not_acceptable(&TYPES) });
    }
    let streams: &[&str] = if collection { &STREAM_TYPES } else { &[] };
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

    fn shape(&self) -> Option<Shape> {
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

    fn accept(value: &'static str) -> Result<Accept, Status> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(value))]);
        negotiate(&headers, &Query::default(), true)
    }

    #[test]
    fn the_first_representation_that_can_be_had_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl).expect("acceptable").shape, Shape::Table("v1"));
        let client_go = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(accept(client_go).expect("acceptable").format, Format::Json);
        assert_eq!(accept("application/json;as=Other;v=v1;g=meta.k8s.io,*/*").expect("any").shape, Shape::Object);
        assert_eq!(accept("application/json;q=0.1,application/yaml").expect("acceptable").format, Format::Yaml);
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        assert!(accept("text/html").expect_err("html").message.starts_with("406: Not Acceptable"));
        let error = accept("application/json;as=Other;v=v1;g=meta.k8s.io").expect_err("no such representation");
        assert!(error.message.starts_with("only the following media types are accepted"), "{}", error.message);
    }
}
