//! The answer to a request that policies do not allow.

use k3s_api::status::{Cause, Reason, Status};
use serde_json::Value;

use crate::admission::Attributes;

/// What a policy found.
pub struct Finding {
    /// The whole sentence, which names policy and binding.
    pub message: String,
    /// Of the policy's own: `Unauthorized`, `Forbidden`, `Invalid` or `RequestEntityTooLarge`.
    pub reason: String,
}

/// The refusal of a validation: what is forbidden, in the words of the first finding, with all of them as causes.
pub fn denied(at: &Attributes<'_>, new: &Value, findings: &[Finding]) -> Status {
    let mut status = refusal(at, new, findings.iter().map(|finding| finding.message.as_str()));
    let (code, reason) = match findings.first().map(|first| first.reason.as_str()) {
        Some("Unauthorized") => (401, Reason::Unauthorized),
        Some("Forbidden") => (403, Reason::Forbidden),
        Some("RequestEntityTooLarge") => (413, Reason::RequestEntityTooLarge),
        _ => (422, Reason::Invalid),
    };
    (status.code, status.reason) = (code, Some(reason));
    status
}

/// The refusal of a mutation that could not be done, in the words of the first failure and no others. `is_expression`: the first of them is about an expression, not
/// about the configuration.
pub fn failed(at: &Attributes<'_>, new: &Value, messages: &[String], is_expression: bool) -> Status {
    let status = refusal(at, new, messages.iter().map(String::as_str));
    let mut status = status.with_message(messages.first().cloned().unwrap_or_default());
    if is_expression {
        status.reason = Some(Reason::Invalid);
    }
    status
}

fn refusal<'m>(at: &Attributes<'_>, new: &Value, messages: impl Iterator<Item = &'m str>) -> Status {
    let causes: Vec<Cause> =
        messages.map(|message| Cause { message: message.to_owned(), ..Cause::default() }).collect();
    let first = causes.first().map(|cause| cause.message.clone()).unwrap_or_default();
    at.forbidden(new, &first).with_details(|details| details.causes = causes)
}
