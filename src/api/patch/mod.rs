//! Patches: how a stored object becomes the wanted one.
//!
//! ```text
//! let patched = match kind {
//!     PatchType::Json => patch::json::apply(&current, body)?,
//!     PatchType::Merge => patch::merge::apply(&current, body)?,
//!     PatchType::StrategicMerge => patch::strategic::apply(&current, body, schema)?,
//!     PatchType::Apply => crate::apply::apply(…)?,
//! };
//! ```
//!
//! What comes out is not decoded yet: it is to be decoded and defaulted like the body of an update. If that fails, the
//! answer is [`undecodable`] for JSON and merge patches, with the text that [`rendered`] makes. What comes out of a
//! strategic patch is decoded with `decode::decode_patched`, and if that fails answered with
//! [`strategic::undecodable`]. Unless unknown and duplicate fields are to be ignored, [`complaints`] is asked first.

pub mod json;
pub mod merge;
mod rendered;
pub mod strategic;

pub use rendered::rendered;

use serde_json::Value;

use crate::decode::syntax;
use crate::quote::quote;
use crate::status::{Cause, Status};

/// The kinds of patch, by their media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Kubernetes' own, for built-in kinds only.
    StrategicMerge,
    /// Server-side apply.
    Apply,
}

impl PatchType {
    /// The patch type of a `Content-Type` header; parameters behind a `;` don't matter.
    pub fn from_content_type(content_type: &str) -> Option<Self> {
        Some(match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Self::Json,
            "application/merge-patch+json" => Self::Merge,
            "application/strategic-merge-patch+json" => Self::StrategicMerge,
            "application/apply-patch+yaml" => Self::Apply,
            _ => return None,
        })
    }

    /// The media types a resource takes; custom resources have no strategic merge patch.
    pub fn accepted(custom: bool) -> &'static [&'static str] {
        if custom {
            &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"]
        } else {
            &[
                "application/json-patch+json",
                "application/merge-patch+json",
                "application/strategic-merge-patch+json",
                "application/apply-patch+yaml",
            ]
        }
    }
}

/// What a strict reading (`fieldValidation` of `Warn` or `Strict`) has to say of the patch itself: fields that are there
/// twice, or that the operations of a JSON patch don't have.
///
/// # Errors
/// 400 if the body is no patch of the kind.
pub fn complaints(kind: PatchType, body: &[u8]) -> Result<Vec<String>, Status> {
    match kind {
        PatchType::Json => json::complaints(body),
        PatchType::Merge => merge::complaints(body),
        // What else is wrong with it is told when it is applied.
        PatchType::StrategicMerge => Ok(crate::decode::duplicates(body)),
        PatchType::Apply => Ok(Vec::new()),
    }
}

/// The JSON of a patch, or what Go says when it cannot read it.
fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body).map_err(|error| syntax::error(body).unwrap_or_else(|| error.to_string()))
}

/// A patch that is JSON of another type than `wanted`, in Go's words.
pub fn wrong_type(patch: &Value, wanted: &str) -> String {
    let found = match patch {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    format!("json: cannot unmarshal {found} into Go value of type {wanted}")
}

/// The answer when the patched object is not one of its kind: 422 about the field `patch`, with the whole patched
/// object (as JSON) as the value and the decoding error as the reason.
pub fn undecodable(patched: &str, error: &str) -> Status {
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {}: {error}", quote(patched)),
        field: "patch".to_owned(),
    };
    Status::invalid("", "", "", vec![cause])
}
