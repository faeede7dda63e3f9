//! Whose token is this? (`authentication.k8s.io` `TokenReview`)

use k3s_api::status::{Status, aggregate};
use serde_json::{Map, Value, json};

use super::{texts, user_info};
use crate::authentication::{AUTHENTICATED, TokenError};
use crate::call::Call;

/// The status of the review.
///
/// # Errors
/// 400 without a token.
pub(super) async fn answer(call: &Call, review: &Value) -> Result<Value, Status> {
    let token = review["spec"]["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = texts(&review["spec"]["audiences"]);
    match call.server.authenticator().token(token, &audiences, call.registry()).await {
        Ok(mut accepted) => {
            if !accepted.user.groups.iter().any(|group| group == AUTHENTICATED) {
                accepted.user.groups.push(AUTHENTICATED.to_owned());
            }
            let mut status = Map::from_iter([
                ("authenticated".to_owned(), json!(true)),
                ("user".to_owned(), user_info(&accepted.user)),
            ]);
            if !accepted.audiences.is_empty() {
                status.insert("audiences".to_owned(), json!(accepted.audiences));
            }
            Ok(Value::Object(status))
        }
        Err(error) => {
            let mut errors = vec![TokenError::Unknown.to_string()];
            if !matches!(error, TokenError::Unknown) {
                errors.push(error.to_string());
            }
            Ok(json!({"user": {}, "error": aggregate(&errors)}))
        }
    }
}
