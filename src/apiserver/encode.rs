//! Responses with objects: as they are stored, or in the representation the client asked for.

mod protobuf_list;

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::{HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use k3s_api::resource::Resource;
use k3s_api::status::Status;
use k3s_api::table::{self, IncludeObject};
use k3s_api::{object, protobuf};
use serde_json::{Value, json};

use crate::body::Gather;
use crate::call::Call;
use crate::negotiate::{Accept, Format, Shape};
use crate::registry::{Entry, convert};
use crate::{Body, BoxError};

/// Bodies that are longer are compressed for clients that can read that. (Kubernetes' limit.)
const GZIP_FROM: usize = 128 << 10;
/// How much of a list is put together at a time while it is sent.
const CHUNK: usize = 64 << 10;

/// The metadata of a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct ListMeta {
    pub resource_version: String,
    pub continue_token: String,
    pub remaining: Option<usize>,
}

impl ListMeta {
    /// As lists of that kind have it: those of custom resources always name the continue token.
    fn of(&self, row: &Resource) -> Value {
        let mut meta = self.to_value();
        if k3s_api::decode::is_custom(row) {
            meta["continue"] = self.continue_token.clone().into();
        }
        meta
    }

    fn to_value(&self) -> Value {
        let mut meta = json!({"resourceVersion": self.resource_version});
        if !self.continue_token.is_empty() {
            meta["continue"] = self.continue_token.clone().into();
        }
        if let Some(remaining) = self.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
        meta
    }
}

/// A stored object (of a custom resource in the call's version: see [`crate::conversion`]). Its bytes are sent as they
/// are, if nothing else is asked for.
pub(crate) fn entry(call: &Call, code: StatusCode, entry: &Arc<Entry>) -> Result<Response<Body>, Status> {
    if call.accept.shape == Shape::Object && call.accept.format == Format::Json && convert::is_plain(&call.row) {
        return Ok(finish(call.accept, code, entry.bytes().clone()));
    }
    value(call, code, &*convert::read(&call.row, entry)?)
}

/// An object that is not stored as it is: of a dry run, another version or kind.
pub(crate) fn value(call: &Call, code: StatusCode, value: &Value) -> Result<Response<Body>, Status> {
    let document = match call.accept.shape {
        Shape::Object if call.accept.format == Format::Json => {
            let version = object::resource_version(value).parse().ok();
            let encoded = object::encode(value);
            let versioned = version.and_then(|version| object::with_resource_version(&encoded, version));
            return Ok(finish(call.accept, code, versioned.unwrap_or(encoded).into()));
        }
        Shape::Object => return document(call.accept, code, value),
        Shape::PartialMetadata(version) => partial(&call.row, value, version),
        Shape::Table(version) => {
            let meta = ListMeta { resource_version: object::resource_version(value).to_owned(), ..ListMeta::default() };
            table(call, version, &meta, [Ok(Arc::new(value.clone()))].into_iter(), true)?
        }
    };
    document_of(call.accept, code, &document)
}

/// A status, in the format the client asked for.
pub(crate) fn status(accept: Accept, status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.http_code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let value = serde_json::to_value(status).unwrap_or_default();
    let accept = Accept { gzip: false, ..accept };
    let mut response = document_of(accept, code, &value).unwrap_or_else(|_| crate::response::status(status));
    if let Some(seconds) = status.retry_after_seconds() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Any document, in the format the client asked for, whatever representation it prefers.
pub(crate) fn document(accept: Accept, code: StatusCode, value: &Value) -> Result<Response<Body>, Status> {
    document_of(accept, code, value)
}

fn document_of(accept: Accept, code: StatusCode, value: &Value) -> Result<Response<Body>, Status> {
    let bytes = match accept.format {
        Format::Json => serde_json::to_vec(value).map_err(Status::internal)?,
        Format::PrettyJson => serde_json::to_vec_pretty(value).map_err(Status::internal)?,
        Format::Yaml => yaml(value)?.into_bytes(),
        Format::Protobuf => protobuf::encode(value).map_err(not_writable)?,
    };
    Ok(finish(accept, code, bytes.into()))
}

/// Why an object can't be had as protobuf: 406 if its kind can't.
pub(crate) fn not_writable(error: protobuf::Error) -> Status {
    match error {
        protobuf::Error::UnknownKind { .. } => {
            let message = format!(
                "object does not implement the protobuf marshalling interface and cannot be encoded to a \
                    protobuf message: {error}"
            );
            Status { message, details: None, ..Status::not_acceptable(&[]) }
        }
        error => Status::internal(error),
    }
}

/// YAML as Kubernetes writes it.
pub(crate) fn yaml(value: &Value) -> Result<String, Status> {
    serde_saphyr::to_string(value).map_err(Status::internal)
}

/// A list. The entries are in key order and of the call's resource (custom ones of its version too).
pub(crate) fn list(call: &Call, meta: &ListMeta, entries: Vec<Arc<Entry>>) -> Result<Response<Body>, Status> {
    let accept = call.accept;
    let values = || entries.iter().map(|entry| convert::read(&call.row, entry));
    match accept.shape {
        Shape::Object if accept.format == Format::Json && convert::is_plain(&call.row) => {
            Ok(joined(call, meta, entries))
        }
        Shape::Object if accept.format == Format::Protobuf => protobuf_list::list(call, meta, entries),
        Shape::Object => {
            let mut items = Vec::with_capacity(entries.len());
            for value in values() {
                items.push(untyped(&call.row, Arc::unwrap_or_clone(value?)));
            }
            let list = json!({
                "kind": call.row.list_kind, "apiVersion": call.row.api_version(), "metadata": meta.of(&call.row),
                "items": items,
            });
            document_of(accept, StatusCode::OK, &list)
        }
        Shape::PartialMetadata(version) => {
            let mut items = Vec::with_capacity(entries.len());
            for value in values() {
                items.push(partial(&call.row, &*value?, version));
            }
            let list = json!({
                "kind": "PartialObjectMetadataList", "apiVersion": format!("meta.k8s.io/{version}"),
                "metadata": meta.to_value(), "items": items,
            });
            document_of(accept, StatusCode::OK, &list)
        }
        Shape::Table(version) => document_of(accept, StatusCode::OK, &table(call, version, meta, values(), true)?),
    }
}

/// The items of typed lists carry no type of their own; those of custom resources do.
fn untyped(row: &Resource, mut value: Value) -> Value {
    if matches!(row.schema, k3s_api::resource::SchemaSource::Builtin(_))
        && let Some(map) = value.as_object_mut()
    {
        map.remove("apiVersion");
        map.remove("kind");
    }
    value
}

/// A list made of the bytes of its objects.
fn joined(call: &Call, meta: &ListMeta, entries: Vec<Arc<Entry>>) -> Response<Body> {
    let row = &call.row;
    let (kind, api_version) = (&row.list_kind, row.api_version());
    let head = format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{},"items":["#, meta.of(row));
    let typed = matches!(row.schema, k3s_api::resource::SchemaSource::Custom(_));
    // Of an item whose type the list says once this part is left out.
    let own_type = format!(r#""apiVersion":"{api_version}","kind":"{}","#, row.kind);
    let size = head.len() + 2 + entries.iter().map(|entry| entry.bytes().len() + 1).sum::<usize>();
    let (mut head, mut entries) = (Some(head), entries.into_iter().peekable());
    let mut over = false;
    let chunks = std::iter::from_fn(move || {
        if over {
            return None;
        }
        let mut chunk = Gather::with_capacity(CHUNK.min(size) + 4096);
        if let Some(head) = head.take() {
            chunk.put_slice(head.as_bytes());
        }
        while chunk.len() < CHUNK
            && let Some(entry) = entries.next()
        {
            if typed {
                chunk.put(entry.bytes(), 0);
            } else {
                chunk.put_slice(b"{");
                chunk.put(entry.bytes(), entry.metadata_at(&own_type));
            }
            if entries.peek().is_some() {
                chunk.put_slice(b",");
            }
        }
        // The closing bracket goes with the last chunk, so that small lists are one.
        if entries.peek().is_none() {
            over = true;
            chunk.put_slice(b"]}");
        }
        Some(chunk.finish())
    });
    stream_body(call.accept, size, chunks.flatten())
}

/// A body that is made while it is sent, compressed if it is worth it.
fn stream_body(
    accept: Accept,
    size: usize,
    mut chunks: impl Iterator<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    let compress = accept.gzip && size > GZIP_FROM;
    let body = if compress {
        let mut encoder = Some(GzEncoder::new(Vec::with_capacity(CHUNK), Compression::fast()));
        Body::stream(stream::iter(std::iter::from_fn(move || {
            let gzip = encoder.as_mut()?;
            let chunk = match chunks.next() {
                Some(chunk) => gzip.write_all(&chunk).map(|()| std::mem::take(gzip.get_mut())),
                None => encoder.take()?.finish(),
            };
            Some(chunk.map(Bytes::from).map_err(BoxError::from))
        })))
    } else if size <= CHUNK {
        Body::Parts(chunks.collect())
    } else {
        Body::stream(stream::iter(chunks.map(Ok)))
    };
    let mut response = Response::new(body);
    head(accept, &mut response, compress);
    response
}

fn finish(accept: Accept, code: StatusCode, bytes: Bytes) -> Response<Body> {
    let size = bytes.len();
    let mut response = stream_body_of(accept, size, bytes);
    *response.status_mut() = code;
    response
}

fn stream_body_of(accept: Accept, size: usize, bytes: Bytes) -> Response<Body> {
    if accept.gzip && size > GZIP_FROM {
        return stream_body(accept, size, std::iter::once(bytes));
    }
    let mut response = Response::new(Body::from(bytes));
    head(accept, &mut response, false);
    response
}

fn head(accept: Accept, response: &mut Response<Body>, compressed: bool) {
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(accept.format.content_type()));
    if compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// An object reduced to its metadata.
pub(crate) fn partial(row: &Resource, value: &Value, version: &str) -> Value {
    let mut partial = row.partial_metadata(value);
    if version != "v1" {
        partial["apiVersion"] = format!("meta.k8s.io/{version}").into();
    }
    partial
}

/// Objects as a table: `columns` says whether to name the columns (in a watch only the first event does).
pub(crate) fn table(
    call: &Call,
    version: &str,
    meta: &ListMeta,
    values: impl Iterator<Item = Result<Arc<Value>, crate::registry::Error>>,
    columns: bool,
) -> Result<Value, Status> {
    let include = call.query.get("includeObject").unwrap_or_default();
    let include = IncludeObject::parse(include)
        .ok_or_else(|| Status::bad_request(format!("unrecognized includeObject value: {include:?}")))?;
    let now = Timestamp::now();
    let mut rows = Vec::new();
    for value in values {
        rows.push(table::row(&call.row, &*value?, include, now));
    }
    let mut table = table::table(columns.then(|| table::columns(&call.row)), rows, meta.to_value());
    if version != "v1" {
        table["apiVersion"] = format!("meta.k8s.io/{version}").into();
    }
    Ok(table)
}
