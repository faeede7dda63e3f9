//! Why the registry could not do its work.

use k3s_api::status::Status;
use k3s_kine::Revision;

/// A failure below the API: it reaches clients as a `Status` with code 5xx.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Datastore(#[from] k3s_kine::Error),
    /// A stored value is no JSON object.
    #[error("the object at {key} is damaged: {detail}")]
    Damaged { key: String, detail: String },
    /// A stored value can't be decrypted.
    #[error("unable to transform key {key:?}: {source}")]
    Encryption { key: String, source: crate::encryption::ValueError },
    /// The cache did not reach a revision in time: it is in the future, or the datastore is slow.
    #[error("Too large resource version: {asked}, current: {current}")]
    TooLarge { asked: Revision, current: Revision },
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let number = |revision: Revision| u64::try_from(revision).unwrap_or_default();
        match error {
            Error::TooLarge { asked, current } => Status::too_large_resource_version(number(asked), number(current)),
            Error::Datastore(k3s_kine::Error::Compacted { asked, compacted }) => {
                Status::too_old_resource_version(number(asked), number(compacted))
            }
            Error::Datastore(k3s_kine::Error::Closed) => Status::service_unavailable("the server is shutting down"),
            error => Status::internal(error),
        }
    }
}
