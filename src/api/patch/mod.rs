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
//! answer is [`undecodable`] for JSON and merge patches, and [`strategic::undecodable`] for strategic ones.

pub mod json;
pub mod merge;
pub mod strategic;

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
