//! Statuses that come from somebody else: a webhook's reason for refusing, another server's error.

use serde::Deserialize;
use serde_json::Value;

use super::{Details, Reason, Status};

impl Status {
    /// A `Status` as it was received, whatever is missing or of another type left empty. A code of 0 was not given.
    pub fn received(status: &Value) -> Self {
        let part = |name: &str| status.get(name).filter(|value| !value.is_null());
        let code = part("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let reason = part("reason").filter(|reason| *reason != "").and_then(|r| Reason::deserialize(r).ok());
        let details = part("details").and_then(|details| Details::deserialize(details).ok());
        Self {
            code: code.unwrap_or_default(),
            reason,
            message: part("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
            details: details.map(Box::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_comes_back_as_it_was_sent() {
        let sent = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 418,
            "message": "m", "reason": "TooHot", "details": {"kind": "tea", "causes": [{"message": "kettle"}]}});
        let status = Status::received(&sent);
        assert_eq!(status.reason, Some(Reason::Other("TooHot".into())));
        assert_eq!(serde_json::to_value(&status).expect("JSON"), sent);
        assert_eq!(Status::received(&json!({"reason": "Forbidden"})).reason, Some(Reason::Forbidden));
        assert_eq!(Status::received(&json!({"code": "x", "reason": ""})).code, 0);
    }
}
