//! OpenAPI: `/openapi/v3`, an index and a document per group and version, and `/openapi/v2`, all in one. Documents are
//! made from the rows and their schemas when they are asked for, which clients do once per version of the server: they
//! keep them under the hash that the index tells.

pub(crate) mod merge;
mod paths;
mod schema;

use std::collections::BTreeMap;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, VARY,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use k3s_api::status::Status;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use crate::discovery::GIT_VERSION;
use crate::registry::Row;
use crate::request::Query;
use crate::{ApiServer, Body, response};
use schema::Definitions;

/// The two forms of the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

/// Answers `/openapi/…`; `None` for other paths.
pub(crate) fn handle(server: &ApiServer, path: &str, query: &Query, headers: &HeaderMap) -> Option<Response<Body>> {
    let path = path.trim_end_matches('/');
    if path == "/openapi/v2" {
        return Some(v2(server, headers));
    }
    let document = path.strip_prefix("/openapi/v3")?;
    let rows = server.registry().resources();
    let document = document.trim_start_matches('/');
    if document.is_empty() {
        let mut index = index(&rows);
        for other in server.aggregated().all().iter() {
            if let Some(url) = &other.openapi {
                index["paths"][format!("apis/{}/{}", other.group, other.version)] = json!({"serverRelativeURL": url});
            }
        }
        let body = index.to_string().into_bytes();
        // Kubernetes serves this one without a type of its own.
        return Some(send(headers, body, "text/plain; charset=utf-8", None));
    }
    if !documents(&rows).contains(&document.to_owned()) {
        return Some(response::page_not_found());
    }
    if !accepts_json(headers) {
        return Some(response::status(&Status::not_acceptable(&["application/json"])));
    }
    let hash = hash(&rows, document);
    match query.get("hash") {
        Some(asked) if asked != hash => {
            let mut moved = Response::new(Body::Empty);
            *moved.status_mut() = StatusCode::MOVED_PERMANENTLY;
            let location = HeaderValue::from_str(&format!("/openapi/v3/{document}?hash={hash}"));
            if let Ok(location) = location {
                moved.headers_mut().insert(LOCATION, location);
            }
            return Some(moved);
        }
        _ => {}
    }
    if known(headers, &hash) {
        return Some(not_modified(&hash));
    }
    let body = v3(&rows, document).to_string().into_bytes();
    let mut response = send(headers, body, "application/json", Some(&hash));
    if query.get("hash").is_some() {
        // Under its hash it will never be another.
        let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
        response.headers_mut().insert(CACHE_CONTROL, forever);
    }
    Some(response)
}

/// The documents that there are, as paths without the leading slash.
fn documents(rows: &[Row]) -> Vec<String> {
    let mut documents: Vec<String> =
        [".well-known/openid-configuration", "api", "apis", "openid/v1/jwks", "version"].map(str::to_owned).into();
    for row in rows {
        match &*row.group {
            "" => documents.push(format!("api/{}", row.version)),
            group => documents.extend([format!("apis/{group}"), format!("apis/{group}/{}", row.version)]),
        }
    }
    documents.sort_unstable();
    documents.dedup();
    documents
}

fn index(rows: &[Row]) -> Value {
    let paths: Map<String, Value> = documents(rows)
        .into_iter()
        .map(|document| {
            let url = format!("/openapi/v3/{document}?hash={}", hash(rows, &document));
            (document, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// Changes when the document does: with the version of this server, and with custom resources.
fn hash(rows: &[Row], document: &str) -> String {
    let mut hash = Sha512::new();
    hash.update(GIT_VERSION);
    hash.update(document);
    if of(rows, document).iter().any(|row| matches!(row, Row::Custom(_))) {
        hash.update(v3(rows, document).to_string());
    }
    crate::authentication::hex(&hash.finalize()).to_uppercase()
}

/// The rows that a document describes.
fn of<'a>(rows: &'a [Row], document: &str) -> Vec<&'a Row> {
    match document.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => rows.iter().filter(|row| row.group.is_empty() && row.version == *version).collect(),
        ["apis", group, version] => rows.iter().filter(|row| row.group == *group && row.version == *version).collect(),
        _ => Vec::new(),
    }
}

fn v3(rows: &[Row], document: &str) -> Value {
    let of_document = of(rows, document);
    let mut definitions = Definitions::new(Dialect::V3, rows);
    let paths = if of_document.is_empty() {
        paths::plain(document)
    } else {
        paths::of(Dialect::V3, &of_document, &mut definitions)
    };
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {
            "schemas": definitions.finish(),
            "securitySchemes": {"BearerToken": bearer()},
        },
    })
}

fn v2(server: &ApiServer, headers: &HeaderMap) -> Response<Body> {
    if !accepts_json(headers) {
        return response::status(&Status::not_acceptable(&["application/json"]));
    }
    let rows = server.registry().resources();
    let others = server.aggregated().all();
    let others: Vec<&[u8]> = others.iter().filter_map(|other| other.swagger.as_deref()).collect();
    let mut digest = Sha512::new();
    for document in documents(&rows) {
        digest.update(hash(&rows, &document));
    }
    others.iter().for_each(|other| digest.update(other));
    let hash = crate::authentication::hex(&digest.finalize()).to_uppercase();
    if known(headers, &hash) {
        return not_modified(&hash);
    }
    let mut definitions = Definitions::new(Dialect::V2, &rows);
    let mut paths = BTreeMap::new();
    for document in documents(&rows) {
        let of_document = of(&rows, &document);
        let of_document = match of_document.is_empty() {
            true => paths::plain(&document),
            false => paths::of(Dialect::V2, &of_document, &mut definitions),
        };
        paths.extend(of_document);
    }
    let mut definitions = definitions.finish();
    for part in others {
        match serde_json::from_slice(part) {
            Ok(part) => merge::add(part, &mut paths, &mut definitions),
            Err(error) => return response::status(&Status::internal(error)),
        }
    }
    let document = json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": definitions,
        "securityDefinitions": {"BearerToken": bearer()},
        "security": [{"BearerToken": []}],
    });
    send(headers, document.to_string().into_bytes(), "application/json", Some(&hash))
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": GIT_VERSION})
}

fn bearer() -> Value {
    json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"})
}

/// Whether the client takes JSON; some ask for Google's protobuf of OpenAPI alone.
fn accepts_json(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if accepted.peek().is_none() {
        return true;
    }
    let json = |clause: &str| {
        let media_type = clause.split(';').next().unwrap_or_default().trim();
        matches!(media_type, "application/json" | "application/*" | "*/*" | "")
    };
    accepted.flat_map(|value| value.split(',')).any(json)
}

fn etag(hash: &str) -> String {
    format!("\"{hash}\"")
}

fn known(headers: &HeaderMap, hash: &str) -> bool {
    headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag(hash).as_bytes())
}

fn not_modified(hash: &str) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    if let Ok(etag) = HeaderValue::from_str(&etag(hash)) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
}

fn send(request: &HeaderMap, body: Vec<u8>, content_type: &'static str, hash: Option<&str>) -> Response<Body> {
    let codings = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let gzip = codings.flat_map(|value| value.split(',')).any(|coding| coding.trim().starts_with("gzip"));
    let packed = gzip.then(|| compress(&body)).flatten();
    let compressed = packed.is_some();
    let mut response = Response::new(Body::from(packed.unwrap_or(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if compressed {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Some(Ok(etag)) = hash.map(|hash| HeaderValue::from_str(&etag(hash))) {
        headers.insert(ETAG, etag);
    }
    response
}

/// Writing to memory fails only without any; then the client gets it as it is.
fn compress(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}
