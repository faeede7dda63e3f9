//! What becomes of a request whose webhook does not say yes.

use k3s_api::quote::quote;
use k3s_api::status::Status;
use serde_json::Value;

use super::hook::Hook;

/// Why a webhook has not let a request pass.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// It could not be asked, or what it said is no answer. Its failure policy decides.
    Calling(String),
    /// It, or what is around it, refuses.
    Refused(Status),
}

impl Failure {
    /// The answer to the request, if there is to be one.
    ///
    /// # Errors
    /// The refusal.
    pub fn decide(self, hook: &Hook) -> Result<(), Status> {
        match self {
            Self::Refused(status) => Err(status),
            Self::Calling(reason) => {
                let message = format!("failed calling webhook {}: {reason}", quote(&hook.name));
                if hook.must_answer {
                    return Err(Status::internal(message));
                }
                tracing::warn!(webhook = hook.name, reason, "failed calling webhook, failing open");
                Ok(())
            }
        }
    }
}

/// The refusal of the webhook of that name: the status that it gave, if it gave one.
pub fn denied(name: &str, given: Option<&Value>) -> Status {
    let mut status = Status::received(given.unwrap_or(&Value::Null));
    // A refusal is never told as a success.
    if status.code < 400 {
        status.code = 400;
    }
    let by = format!("admission webhook {} denied the request", quote(name));
    let reason = given.and_then(|given| given["reason"].as_str()).unwrap_or_default();
    status.message = match (status.message.as_str(), reason) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    status
}

#[cfg(test)]
mod tests {
    use k3s_api::status::Reason;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_says_what_the_webhook_said() {
        for (given, code, message) in [
            (None, 400, "admission webhook \"w\" denied the request without explanation"),
            (Some(json!({"message": "no"})), 400, "admission webhook \"w\" denied the request: no"),
            (Some(json!({"reason": "Because"})), 400, "admission webhook \"w\" denied the request: Because"),
            (Some(json!({"code": 200, "message": "no"})), 400, "admission webhook \"w\" denied the request: no"),
            (Some(json!({"code": 409, "message": "no"})), 409, "admission webhook \"w\" denied the request: no"),
        ] {
            let status = denied("w", given.as_ref());
            assert_eq!((status.code, status.message.as_str()), (code, message));
        }
        let given = json!({"reason": "Forbidden", "code": 403, "details": {"name": "x"}});
        let status = denied("w", Some(&given));
        assert_eq!(status.reason, Some(Reason::Forbidden));
        assert_eq!(status.details.map(|details| details.name).as_deref(), Some("x"));
    }
}
