//! Continue tokens: where the next page of a list begins, and at which revision.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k3s_api::status::Status;
use k3s_kine::Revision;
use serde::{Deserialize, Serialize};

/// Kubernetes' token, so that clients that look into it find what they know.
#[derive(Debug, Serialize, Deserialize)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
}

/// A position in a list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The revision of the first page; 0 or less: whatever is newest.
    pub revision: Revision,
    /// The last key of the page before.
    pub after: String,
}

impl Token {
    pub fn encode(&self) -> String {
        let wire = Wire { v: "meta.k8s.io/v1".to_owned(), rv: self.revision, start: format!("{}\0", self.after) };
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// # Errors
    /// 400 if it is none of ours.
    pub fn decode(token: &str) -> Result<Self, Status> {
        let refuse =
            |why: String| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let illegal = |position: usize| refuse(format!("illegal base64 data at input byte {position}"));
        let trimmed = token.trim_end_matches('=');
        let json = BASE64_URL_SAFE_NO_PAD.decode(trimmed).map_err(|error| match error {
            base64::DecodeError::InvalidByte(position, _) => illegal(position),
            // Go's decoder finds a quantum that is too short at its beginning.
            _ => illegal(trimmed.len() / 4 * 4),
        })?;
        let wire: Wire = serde_json::from_slice(&json).map_err(|error| refuse(error.to_string()))?;
        if wire.v != "meta.k8s.io/v1" {
            return Err(refuse(
                "server does not recognize this encoded version".to_owned() + &format!(" {:?}", wire.v),
            ));
        }
        if wire.start.is_empty() || wire.start.split('/').any(|part| part == "..") {
            return Err(refuse(format!("unable to read continue token start key {:?}", wire.start)));
        }
        Ok(Self { revision: wire.rv, after: wire.start.trim_end_matches('\0').to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_URL_SAFE;

    use super::*;

    #[test]
    fn tokens_come_back_as_they_were() {
        let token = Token { revision: 7, after: "a/b".to_owned() };
        assert_eq!(Token::decode(&token.encode()).expect("ours"), token);
        let padded = BASE64_URL_SAFE.encode(br#"{"v":"meta.k8s.io/v1","rv":7,"start":"a/b\u0000"}"#);
        assert_eq!(Token::decode(&padded).expect("with padding"), token);
    }

    #[test]
    fn other_text_is_refused() {
        let error = Token::decode("bogus").expect_err("no token");
        assert_eq!(
            error.message,
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 4"
        );
    }
}
