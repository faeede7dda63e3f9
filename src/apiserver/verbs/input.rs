//! Request bodies: read with a limit, and decoded by their media type.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use k3s_api::decode;
use k3s_api::object;
use k3s_api::protobuf::Envelope;
use k3s_api::resource::Resource;
use k3s_api::status::Status;
use serde_json::Value;

use super::yaml;
use crate::call::Call;
use crate::negotiate::PROTOBUF;
use crate::options::FieldValidation;

/// The media types of objects, for messages.
const OBJECT_TYPES: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];
/// How much of a body that can't be read is shown.
const SHOWN: usize = 64;

/// The media type of a body, without parameters; JSON if it is not said.
pub(crate) fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match value.split(';').next().unwrap_or_default().trim() {
        "" => "application/json",
        media_type => media_type,
    }
}

/// The kind of object that a body is expected to have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
    /// Custom resources have no protobuf.
    pub custom: bool,
}

impl<'a> Expected<'a> {
    /// A built-in kind.
    pub fn of(group: &'a str, version: &'a str, kind: &'a str) -> Self {
        Self { group, version, kind, custom: false }
    }

    fn row(row: &'a Resource) -> Self {
        Self { group: &row.group, version: &row.version, kind: &row.kind, custom: decode::is_custom(row) }
    }

    fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }
}

/// The body as JSON text: YAML and protobuf are converted.
///
/// # Errors
/// 415 if it is none of these, 400 if the YAML or the protobuf can't be read.
pub(crate) fn json_text(headers: &HeaderMap, body: &Bytes, expected: Expected<'_>) -> Result<Bytes, Status> {
    match media_type(headers) {
        "application/json" => Ok(body.clone()),
        "application/yaml" => yaml_to_json(body),
        PROTOBUF => serde_json::to_vec(&from_protobuf(body, expected)?).map(Bytes::from).map_err(Status::internal),
        _ => Err(Status::unsupported_media_type(&OBJECT_TYPES)),
    }
}

/// The object in a body, which need not say of which kind it is.
fn from_protobuf(body: &[u8], expected: Expected<'_>) -> Result<Value, Status> {
    let kind = expected.kind;
    let mut envelope = Envelope::read(body).map_err(|error| {
        let shown = body.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect::<String>();
        let shown = match (body.first(), body.len() > SHOWN) {
            (None, _) => "<empty>".to_owned(),
            (Some(b'{'), long) => {
                let text = String::from_utf8_lossy(&body[..SHOWN.min(body.len())]).into_owned();
                text + if long { " ..." } else { "" }
            }
            (_, long) => shown + if long { " ..." } else { "" },
        };
        Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {error} ({shown})"))
    })?;
    if envelope.kind.is_empty() {
        envelope.kind = kind.to_owned();
    }
    if envelope.api_version.is_empty() {
        envelope.api_version = expected.api_version();
    }
    let (given, given_version) = (envelope.kind.clone(), object::group_version(&envelope.api_version).1.to_owned());
    let refuse = |why: String| {
        Status::bad_request(format!("{given} in version \"{given_version}\" cannot be handled as a {kind}: {why}"))
    };
    if expected.custom {
        return Err(refuse(
            "object *unstructured.Unstructured does not implement the protobuf marshalling interface and cannot be \
             encoded to a protobuf message"
                .to_owned(),
        ));
    }
    envelope.object().map_err(|error| refuse(error.to_string()))
}

/// How a complaint about YAML begins.
pub(crate) const NO_YAML: &str = "error converting YAML to JSON: ";

/// YAML as JSON text. Of a field that is there twice, the last one counts.
///
/// # Errors
/// 400 with what is wrong.
pub(crate) fn yaml_to_json(body: &[u8]) -> Result<Bytes, Status> {
    // JSON is YAML too, and is read with less ado: on less stack, above all.
    if serde_json::from_slice::<Value>(body).is_ok() {
        return Ok(Bytes::copy_from_slice(body));
    }
    let refuse = |error: String| Status::bad_request(format!("error decoding YAML: {NO_YAML}{error}"));
    let text = std::str::from_utf8(body).map_err(|error| refuse(error.to_string()))?;
    let value = yaml::read(text).map_err(refuse)?;
    serde_json::to_vec(&value).map(Bytes::from).map_err(Status::internal)
}

/// The fields that are twice in a body of YAML, or of JSON read as such: `line 3: key "a" already set in map`.
pub(crate) fn yaml_duplicates(body: &[u8]) -> Vec<String> {
    // JSON is read with less ado.
    if serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() && decode::duplicates(body).is_empty() {
        return Vec::new();
    }
    std::str::from_utf8(body).map(yaml::duplicates).unwrap_or_default()
}

/// The object in the body, typed, defaulted and pruned; what is wrong but no error becomes a warning.
///
/// # Errors
/// 400 for what can't be read, 415 for media types that can't.
pub(crate) fn object(call: &Call, body: &Bytes, validation: FieldValidation) -> Result<Value, Status> {
    let text = json_text(&call.headers, body, Expected::row(&call.row))?;
    let is_yaml = media_type(&call.headers) == "application/yaml" && validation != FieldValidation::Ignore;
    let duplicates = if is_yaml { yaml_duplicates(body) } else { Vec::new() };
    if duplicates.is_empty() {
        return decode(call, &text, validation);
    }
    // The text has lost its duplicates; they are told first, as one complaint.
    let lenient = if validation == FieldValidation::Strict { FieldValidation::Warn } else { validation };
    let decoded = decode_object(call, &text, lenient)?;
    if validation == FieldValidation::Strict {
        let complaints = std::iter::once(yaml::refusal(&duplicates)).chain(decoded.warnings).collect();
        let error = decode::Error::Strict(complaints);
        let (kind, version) = (&call.row.kind, &call.row.version);
        return Err(Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {kind}: {error}"
        )));
    }
    duplicates.into_iter().for_each(|duplicate| call.warn(duplicate));
    Ok(finish(call, decoded))
}

fn decode_object(call: &Call, text: &[u8], validation: FieldValidation) -> Result<decode::Decoded, Status> {
    let decoded = decode::decode_object(text, &call.row, strictness(validation));
    decoded.inspect_err(|_| warn_of_unknown_version(call, text, validation))
}

fn finish(call: &Call, decoded: decode::Decoded) -> Value {
    decoded.warnings.into_iter().for_each(|warning| call.warn(warning));
    let mut value = decoded.value;
    default(&call.row, &mut value);
    value
}

fn strictness(validation: FieldValidation) -> decode::FieldValidation {
    match validation {
        FieldValidation::Ignore => decode::FieldValidation::Ignore,
        FieldValidation::Warn => decode::FieldValidation::Warn,
        FieldValidation::Strict => decode::FieldValidation::Strict,
    }
}

/// As [`object`], of JSON text.
pub(crate) fn decode(call: &Call, text: &[u8], validation: FieldValidation) -> Result<Value, Status> {
    decode_object(call, text, validation).map(|decoded| finish(call, decoded))
}

/// Kubernetes decodes a custom resource by the version that it says it is of. Of one that is not defined it knows no
/// fields, and says so before it refuses the object.
fn warn_of_unknown_version(call: &Call, text: &[u8], validation: FieldValidation) {
    let Ok(value) = serde_json::from_slice::<Value>(text) else { return };
    let (group, version) = object::group_version(object::api_version(&value));
    let row = &call.row;
    let is_unknown = decode::is_custom(row)
        && group == row.group
        && object::kind(&value) == row.kind
        && call.registry().find(group, version, &row.plural).is_none();
    if validation != FieldValidation::Warn || !is_unknown {
        return;
    }
    let known = |name: &&String| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
    for name in value.as_object().into_iter().flat_map(|fields| fields.keys()).filter(known) {
        call.warn(format!("unknown field \"{name}\""));
    }
}

/// Fills in what was left out.
pub(crate) fn default(row: &Resource, value: &mut Value) {
    k3s_api::defaults::apply_static(value, row.schema());
    (row.strategy.default)(value);
    k3s_api::presence::normalize(value, row.schema());
}

/// The body of a request that takes another kind than the resource's own, as it is.
///
/// # Errors
/// 400 for what can't be read, 415 for media types that can't.
pub(crate) fn plain(headers: &HeaderMap, body: &Bytes, expected: Expected<'_>) -> Result<Value, Status> {
    let text = json_text(headers, body, expected)?;
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&text).map_err(|_| {
        let why = k3s_api::decode::syntax::error(&text).unwrap_or_else(|| "unexpected end of JSON input".to_owned());
        Status::bad_request(format!("couldn't get version/kind; json parse error: {why}"))
    })
}

/// Refuses an object whose name or namespace is not that of the URL, and fills in the namespace if it is left out.
///
/// # Errors
/// 400.
pub(crate) fn check_place(call: &Call, value: &mut Value) -> Result<(), Status> {
    check_namespace(call, value)?;
    check_name(call, value)
}

/// Refuses an object whose name is not that of the URL.
///
/// # Errors
/// 400.
pub(crate) fn check_name(call: &Call, value: &Value) -> Result<(), Status> {
    let expected = call.info.name.as_str();
    match object::name(value) {
        "" => Err(Status::bad_request(format!(
            "the name of the object ({expected} based on URL) was undeterminable: name must be provided"
        ))),
        name if name != expected => Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({expected})"
        ))),
        _ => Ok(()),
    }
}

/// Refuses an object whose namespace is not that of the URL, and fills it in.
///
/// # Errors
/// 400.
pub(crate) fn check_namespace(call: &Call, value: &mut Value) -> Result<(), Status> {
    let namespace = object::namespace(value);
    if !namespace.is_empty() && namespace != call.namespace() {
        let why = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Status::bad_request(why));
    }
    object::set_metadata(value, "namespace", call.namespace());
    Ok(())
}
