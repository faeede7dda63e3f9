//! What went wrong with a database server.

use crate::Error;

/// Why statements were not executed. Several callers may have to be told of one.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// The server is not there, stops, starts, or has cut the connection: it may work in a moment.
    Unavailable(String),
    /// Someone else's transaction was in the way: it will work at the next try.
    Again(String),
    /// User name, password or certificate.
    Denied(String),
    /// The server's disk is full.
    NoSpace(String),
    /// The tables are not what they should be.
    Schema(String),
    Other(String),
}

impl Failure {
    /// Whether another try may help.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Failure::Unavailable(_) | Failure::Again(_))
    }

    /// What it means to the caller; `server` is where, for people.
    pub(super) fn to_error(&self, server: &str, doing: &'static str) -> Error {
        let server = server.to_owned();
        match self {
            Failure::Unavailable(detail) | Failure::Again(detail) => {
                Error::Unavailable { server, detail: format!("{doing}: {detail}") }
            }
            Failure::Denied(detail) => Error::Denied { server, detail: detail.clone() },
            Failure::NoSpace(_) => Error::NoSpace { path: server },
            Failure::Schema(detail) => Error::Schema { server, detail: detail.clone() },
            Failure::Other(detail) => Error::Backend { doing, detail: format!("{server}: {detail}") },
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Unavailable(detail)
            | Failure::Again(detail)
            | Failure::Denied(detail)
            | Failure::NoSpace(detail)
            | Failure::Schema(detail)
            | Failure::Other(detail) => f.write_str(detail),
        }
    }
}
