//! Selectors: which objects of a list or watch are meant.

pub mod fields;
pub mod labels;

use crate::status::Status;

/// Why a selector cannot be used. The messages are Kubernetes'; the API answers them with 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Status::bad_request(error.0)
    }
}
