//! From a request's body to an object of a known type: types checked, unknown and duplicate fields reported, names of
//! fields and amounts in their canonical form, in the words of Kubernetes' decoder.
//!
//! A body is read once and in order. Errors come in the order in which Go's decoder finds them: first what is no JSON
//! ([`syntax`]), then what has the wrong type (only the first is told), then, if they are to be refused, all unknown
//! and duplicate fields together.
//!
//! Built-in types are decoded strictly. Of a custom resource only the metadata is; whether the rest has the right
//! types is a matter of validation, as in Kubernetes.

pub mod syntax;
mod walk;

use serde::Deserializer;
use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::object;
use crate::presence;
use crate::resource::{Resource, SchemaSource};
use crate::schema::Schema;
use crate::status::Status;

/// What to do about unknown and duplicate fields (`?fieldValidation=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop them without a word.
    Ignore,
    /// Drop them and say so in a warning.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

/// Why a body is no object of the type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no JSON.
    #[error("{0}")]
    Syntax(String),
    /// A value has the wrong type or form.
    #[error("{0}")]
    Type(String),
    /// Fields are unknown or duplicate, and [`FieldValidation::Strict`] was asked for.
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
}

/// A decoded object, and what the client is to be told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub value: Value,
    /// `unknown field "spec.foo"`, `duplicate field "data.a"`, for Warning headers.
    pub warnings: Vec<String>,
}

/// Decodes JSON against a schema.
pub fn decode(body: &[u8], schema: Schema, validation: FieldValidation) -> Result<Decoded, Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let mut state = walk::State::new(walk::Words::Json);
    let value = walk::Walk::root(&mut state, schema)
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| Error::Syntax(syntax::error(body).unwrap_or_else(|| error.to_string())))?;
    finish(value, state, schema, validation)
}

/// The fields that are twice in the same object of a body, wherever that is: `duplicate field "data.a"`.
pub fn duplicates(body: &[u8]) -> Vec<String> {
    let mut state = walk::State::everywhere(walk::Words::Json);
    // What is no JSON has been told, or will be, by who decodes it.
    let _ = walk::Walk::untyped(&mut state).deserialize(&mut serde_json::Deserializer::from_slice(body));
    state.strict
}

/// Decodes a value that was read before, of YAML or as the result of a patch.
pub fn decode_value(value: Value, schema: Schema, validation: FieldValidation) -> Result<Decoded, Error> {
    walk_value(value, schema, validation, walk::Words::Json)
}

/// Decodes the result of a patch that was applied to values, where the decoder has other words for a wrong type
/// (`unrecognized type: int32`).
pub fn decode_patched(value: Value, schema: Schema, validation: FieldValidation) -> Result<Decoded, Error> {
    walk_value(value, schema, validation, walk::Words::Unstructured)
}

fn walk_value(value: Value, schema: Schema, validation: FieldValidation, words: walk::Words) -> Result<Decoded, Error> {
    fn drive<'de, D: Deserializer<'de>>(walk: walk::Walk, deserializer: D) -> Result<Value, D::Error> {
        walk.deserialize(deserializer)
    }
    let mut state = walk::State::new(words);
    let value = drive(walk::Walk::root(&mut state, schema), value).map_err(|error| Error::Syntax(error.to_string()))?;
    finish(value, state, schema, validation)
}

fn finish(mut value: Value, state: walk::State, schema: Schema, validation: FieldValidation) -> Result<Decoded, Error> {
    if let Some(error) = state.error {
        return Err(Error::Type(error));
    }
    let warnings = match validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Strict if !state.strict.is_empty() => return Err(Error::Strict(state.strict)),
        FieldValidation::Warn | FieldValidation::Strict => state.strict,
    };
    presence::normalize(&mut value, schema);
    Ok(Decoded { value, warnings })
}

/// Decodes the body of a write to a resource: its `apiVersion` and `kind` may be left out, but not be others.
///
/// Errors are the answers that Kubernetes gives.
pub fn decode_object(body: &[u8], resource: &Resource, validation: FieldValidation) -> Result<Decoded, Status> {
    decode_kind(body, &resource.group, &resource.version, &resource.kind, resource.schema(), validation)
}

/// Decodes the body of a write to a subresource of another kind, such as `Scale` or `Eviction`.
pub fn decode_kind(
    body: &[u8],
    group: &str,
    version: &str,
    kind: &str,
    schema: Schema,
    validation: FieldValidation,
) -> Result<Decoded, Status> {
    let type_meta = TypeMeta::read(body).map_err(|error| unrecognized(kind, body, &error))?;
    let mut decoded = decode(body, schema, validation)
        .map_err(|error| Status::bad_request(type_meta.refusal(version, kind, &error)))?;
    if decoded.value.is_null() {
        decoded.value = Value::Object(Default::default());
        presence::normalize(&mut decoded.value, schema);
    }
    settle_kind(&mut decoded.value, group, version, kind)?;
    Ok(decoded)
}

/// The same for a value that was read before, of YAML or as the result of a patch.
pub fn decode_object_value(value: Value, resource: &Resource, validation: FieldValidation) -> Result<Decoded, Status> {
    let type_meta =
        TypeMeta { api_version: object::api_version(&value).to_owned(), kind: object::kind(&value).to_owned() };
    let mut decoded = decode_value(value, resource.schema(), validation)
        .map_err(|error| Status::bad_request(type_meta.refusal(&resource.version, &resource.kind, &error)))?;
    if decoded.value.is_null() {
        decoded.value = Value::Object(Default::default());
        presence::normalize(&mut decoded.value, resource.schema());
    }
    settle_kind(&mut decoded.value, &resource.group, &resource.version, &resource.kind)?;
    Ok(decoded)
}

/// Whether unknown types are told as those of custom resources.
pub fn is_custom(resource: &Resource) -> bool {
    matches!(resource.schema, SchemaSource::Custom(_))
}

/// Writes `apiVersion` and `kind` into an object that says neither, and refuses one that says it is another.
fn settle_kind(value: &mut Value, group: &str, version: &str, kind: &str) -> Result<(), Status> {
    let expected = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let (given, given_kind) = (object::api_version(value).to_owned(), object::kind(value).to_owned());
    if let Some(why) = other_kind(&given, &given_kind, group, version, kind) {
        let (_, given_version) = object::group_version(&given);
        let version = if given_version.is_empty() { version } else { given_version };
        let given_kind = if given_kind.is_empty() { kind } else { &given_kind };
        return Err(Status::bad_request(format!(
            "{given_kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
        )));
    }
    if !given.is_empty() && given != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({given}) does not match the expected API version ({expected})"
        )));
    }
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".into(), expected.into());
        fields.insert("kind".into(), kind.into());
    }
    Ok(())
}

/// Why an object that says it is of `api_version` and `given_kind`, either of which may be empty, cannot become one of
/// the kind; `None` if it can, or if only the version is another.
pub fn other_kind(api_version: &str, given_kind: &str, group: &str, version: &str, kind: &str) -> Option<String> {
    let (given_group, given_version) = object::group_version(api_version);
    let given_kind = if given_kind.is_empty() { kind } else { given_kind };
    let known = |group: &str, version: &str, kind: &str| crate::resource::find_kind(group, version, kind).is_some();
    // What custom resources say they are is compared later.
    let is_other = given_kind != kind || (!api_version.is_empty() && known(group, version, kind));
    if is_other && !api_version.is_empty() && !known(given_group, given_version, given_kind) {
        return Some(format!(
            "no kind \"{given_kind}\" is registered for version \"{api_version}\" in scheme \
             \"pkg/api/legacyscheme/scheme.go:30\""
        ));
    }
    (given_kind != kind).then(|| {
        let package = if group.is_empty() { "core" } else { group.split('.').next().unwrap_or_default() };
        let version = if given_version.is_empty() { version } else { given_version };
        format!("converting ({version}.{given_kind}) to ({package}.{kind}): unknown conversion")
    })
}

/// `apiVersion` and `kind` as the body says them.
struct TypeMeta {
    api_version: String,
    kind: String,
}

impl TypeMeta {
    fn read(body: &[u8]) -> Result<Self, String> {
        /// Everything else in the body is skipped.
        #[derive(serde::Deserialize)]
        struct Fields {
            #[serde(rename = "apiVersion", default)]
            api_version: Option<Value>,
            #[serde(default)]
            kind: Option<Value>,
        }
        const TYPE: &str =
            r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
        if let Some(error) = (!looks_whole(body)).then(|| syntax::error(body)).flatten() {
            return Err(error);
        }
        let word = |what: &str| format!("json: cannot unmarshal {what} into Go value of type {TYPE}");
        match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'[') => return Err(word("array")),
            Some(b'"') => return Err(word("string")),
            Some(b't' | b'f') => return Err(word("bool")),
            Some(b'-' | b'0'..=b'9') => return Err(word("number")),
            Some(b'n') => return Ok(Self { api_version: String::new(), kind: String::new() }),
            _ => {}
        }
        match serde_json::from_slice::<Fields>(body) {
            Ok(fields) => {
                let text = |value: Option<Value>, name: &str| match value {
                    None | Some(Value::Null) => Ok(String::new()),
                    Some(Value::String(text)) => Ok(text),
                    Some(other) => Err(format!(
                        "json: cannot unmarshal {} into Go struct field .{name} of type string",
                        walk::json_type(&other)
                    )),
                };
                Ok(Self { api_version: text(fields.api_version, "apiVersion")?, kind: text(fields.kind, "kind")? })
            }
            // Twice the same key is no error here.
            Err(_) => match syntax::error(body) {
                Some(error) => Err(error),
                None => Ok(serde_json::from_slice::<Value>(body).map_or(
                    Self { api_version: String::new(), kind: String::new() },
                    |value| Self {
                        api_version: object::api_version(&value).to_owned(),
                        kind: object::kind(&value).to_owned(),
                    },
                )),
            },
        }
    }

    fn refusal(&self, version: &str, kind: &str, error: &Error) -> String {
        let (_, given_version) = object::group_version(&self.api_version);
        let given_version = if given_version.is_empty() { version } else { given_version };
        let given_kind = if self.kind.is_empty() { kind } else { &self.kind };
        format!("{given_kind} in version \"{given_version}\" cannot be handled as a {kind}: {error}")
    }
}

/// A body that ends like an object is not scanned before it is decoded.
fn looks_whole(body: &[u8]) -> bool {
    let trimmed = body.trim_ascii();
    trimmed.starts_with(b"{") && trimmed.ends_with(b"}")
}

/// The answer to a body of which not even the kind can be told. It shows the body's first bytes in hexadecimal.
fn unrecognized(kind: &str, body: &[u8], error: &str) -> Status {
    const SHOWN: usize = 64;
    let shown: String = match body.len() {
        0 => "<empty>".to_owned(),
        _ => body.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect(),
    };
    let more = if body.len() > SHOWN { " ..." } else { "" };
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {kind}): couldn't get version/kind; json parse error: \
         {error} ({shown}{more})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(plural: &str, body: &str) -> String {
        let (group, plural) = plural.split_once('/').map_or(("", plural), |(group, plural)| (group, plural));
        let resource = crate::resource::find(group, "v1", plural).unwrap();
        decode_object(body.as_bytes(), resource, FieldValidation::Strict).unwrap_err().message
    }

    #[test]
    fn wrong_types_are_told_as_go_does() {
        for (plural, body, message) in [
            (
                "configmaps",
                r#"{"data":{"a":1}}"#,
                r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.data of type string"#,
            ),
            (
                "configmaps",
                r#"{"metadata":{"name":true}}"#,
                r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.name of type string"#,
            ),
            (
                "configmaps",
                r#"{"binaryData":{"a":"!!"}}"#,
                r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: illegal base64 data at input byte 0"#,
            ),
            (
                "pods",
                r#"{"spec":{"hostNetwork":"yes"}}"#,
                r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool"#,
            ),
            (
                "pods",
                r#"{"spec":{"containers":[{"workingDir":1}]}}"#,
                r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field Container.spec.containers.workingDir of type string"#,
            ),
            (
                "pods",
                r#"{"spec":{"containers":[{"securityContext":{"capabilities":{"add":"X"}}}]}}"#,
                r#"Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal string into Go struct field Capabilities.spec.containers.securityContext.capabilities.add of type []v1.Capability"#,
            ),
            (
                "pods",
                r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
                r#"Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#,
            ),
            (
                "apps/deployments",
                r#"{"spec":{"replicas":99999999999}}"#,
                r#"Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32"#,
            ),
            (
                "configmaps",
                r#"{"kind":"ConfigMap","extra":1}"#,
                r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "extra""#,
            ),
            (
                "pods",
                r#"{"spec":{"containers":[{"name":"a","name":"b","bogus":{"x":1}}]}}"#,
                r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: duplicate field "spec.containers[0].name", unknown field "spec.containers[0].bogus""#,
            ),
            (
                "configmaps",
                r#"{"kind":"Secret","apiVersion":"v1"}"#,
                r#"Secret in version "v1" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion"#,
            ),
            (
                "configmaps",
                r#"{"apiVersion":"v2"}"#,
                r#"ConfigMap in version "v2" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "v2" in scheme "pkg/api/legacyscheme/scheme.go:30""#,
            ),
            (
                "autoscaling/horizontalpodautoscalers",
                r#"{"apiVersion":"autoscaling/v2"}"#,
                "the API version in the data (autoscaling/v2) does not match the expected API version (autoscaling/v1)",
            ),
            (
                "configmaps",
                "",
                "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
            ),
            (
                "configmaps",
                "[]",
                r#"the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (5b5d)"#,
            ),
        ] {
            assert_eq!(refusal(plural, body), message);
        }
    }

    #[test]
    fn unknown_and_duplicate_fields_are_dropped_with_a_warning() {
        let resource = crate::resource::find("", "v1", "configmaps").unwrap();
        let body = br#"{"metadata":{"name":"dupk"},"data":{"a":"1","a":"2"},"x":1}"#;
        let decoded = decode_object(body, resource, FieldValidation::Warn).unwrap();
        assert_eq!(decoded.warnings, [r#"duplicate field "data.a""#, r#"unknown field "x""#]);
        assert_eq!(
            decoded.value,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dupk"}, "data": {"a": "2"}})
        );
        assert!(decode_object(body, resource, FieldValidation::Ignore).unwrap().warnings.is_empty());
        let null = decode_object(b"null", resource, FieldValidation::Strict).unwrap();
        assert_eq!(null.value, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}));
    }

    #[test]
    fn amounts_and_times_are_written_in_one_way() {
        let schema = crate::schema::definition("io.k8s.api.core.v1.PersistentVolumeClaim").unwrap();
        let body = br#"{"metadata":{"name":"a","creationTimestamp":"2024-01-02T03:04:05+02:00"},
            "spec":{"storageClassName":"","accessModes":null,"resources":{"requests":{"storage":"1024Mi","x":0.5,"y":2}}}}"#;
        assert_eq!(
            decode(body, schema, FieldValidation::Strict).unwrap().value,
            json!({"metadata": {"name": "a", "creationTimestamp": "2024-01-02T01:04:05Z"}, "status": {},
                   "spec": {"storageClassName": "", "resources": {"requests": {"storage": "1Gi", "x": "500m", "y": "2"}}}})
        );
    }

    #[test]
    fn a_custom_resource_is_checked_in_its_metadata_only() {
        let table = crate::schema::Table::from_json(&json!({"type": "object", "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"},
            "metadata": {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},
            "spec": {"type": "object", "properties": {"size": {"type": "integer"}, "name": {"type": "string"}}}}}));
        let body = br#"{"metadata":{"name":"a"},"spec":{"size":"x","name":"","junk":1}}"#;
        let decoded = decode(body, table.root(), FieldValidation::Warn).unwrap();
        assert_eq!(decoded.value, json!({"metadata": {"name": "a"}, "spec": {"size": "x", "name": ""}}));
        assert_eq!(decoded.warnings, [r#"unknown field "spec.junk""#]);
        assert!(decode(br#"{"metadata":{"labels":1}}"#, table.root(), FieldValidation::Warn).is_err());
    }

    #[test]
    fn a_patched_value_has_other_words() {
        let schema = crate::schema::definition("io.k8s.api.apps.v1.Deployment").unwrap();
        let value = json!({"spec": {"replicas": "three"}});
        let error = decode_patched(value, schema, FieldValidation::Ignore).unwrap_err();
        assert_eq!(error.to_string(), "unrecognized type: int32");
    }
}
