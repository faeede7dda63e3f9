//! What went wrong with etcd: its refusals, which it words for its clients, and connections that break.
//! Source: <https://github.com/etcd-io/etcd/blob/main/api/v3rpc/rpctypes/error.go>.

use std::{error::Error as StdError, io};

use tonic::{Code, ConnectError, Status};

use crate::Error;

/// Why a question was not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Nobody was reached who could do it: nothing was done.
    Unreached(String),
    /// The connection broke, or the member can't do it at the moment. A write may have been done.
    Away(String),
    /// One side does not trust the other's certificate.
    Untrusted(String),
    /// etcd does not let us in.
    Denied(String),
    Refused(Refusal),
    Other(String),
}

/// What etcd refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    Compacted,
    Future,
    EmptyKey,
    KeyNotFound,
    LeaseNotFound,
    LeaseExists,
    LeaseTooLong,
    NoSpace,
}

impl Refusal {
    fn of(message: &str) -> Option<Self> {
        Some(match message {
            "etcdserver: mvcc: required revision has been compacted" => Refusal::Compacted,
            "etcdserver: mvcc: required revision is a future revision" => Refusal::Future,
            "etcdserver: key is not provided" => Refusal::EmptyKey,
            "etcdserver: key not found" => Refusal::KeyNotFound,
            "etcdserver: requested lease not found" => Refusal::LeaseNotFound,
            "etcdserver: lease already exists" => Refusal::LeaseExists,
            "etcdserver: too large lease TTL" => Refusal::LeaseTooLong,
            "etcdserver: mvcc: database space exceeded" => Refusal::NoSpace,
            _ => return None,
        })
    }
}

impl Failure {
    /// What `status` means that the member at `url`, or the connection to it, gave.
    pub(super) fn new(url: &str, status: &Status) -> Self {
        let message = status.message();
        if let Some(source) = status.source() {
            // It is not from etcd.
            let causes = causes(source);
            let mut text = Vec::from([message.to_owned()]);
            text.extend(causes.iter().map(ToString::to_string));
            text.dedup();
            let detail = format!("{url}: {}", text.join(": "));
            return match () {
                () if causes.iter().any(|cause| cause.is::<rustls::Error>()) => Failure::Untrusted(detail),
                () if causes.iter().any(|cause| cause.is::<ConnectError>()) => Failure::Unreached(detail),
                () => Failure::Away(detail),
            };
        }
        if let Some(refusal) = Refusal::of(message) {
            return Failure::Refused(refusal);
        }
        let detail = format!("{url}: {message}");
        match status.code() {
            // Which a member says before it does anything: see the sign `hasleader`.
            Code::Unavailable if message == "etcdserver: no leader" => Failure::Unreached(detail),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => Failure::Away(detail),
            Code::Unauthenticated | Code::PermissionDenied => Failure::Denied(detail),
            Code::InvalidArgument if message == "etcdserver: user name is empty" => {
                Failure::Denied(format!("{detail}; it wants a client certificate with a user's name"))
            }
            _ => Failure::Other(detail),
        }
    }

    /// Whether another try, perhaps at another member, may help.
    pub(super) fn passes(&self) -> bool {
        matches!(self, Failure::Unreached(_) | Failure::Away(_) | Failure::Untrusted(_))
    }

    /// Whether it is certain that nothing was done.
    pub(super) fn nothing_done(&self) -> bool {
        !matches!(self, Failure::Away(_))
    }

    /// What it means to the caller, where that does not depend on the question; `server` is where, for people.
    pub(super) fn to_error(&self, server: &str, doing: &'static str) -> Error {
        let server = server.to_owned();
        let unavailable =
            |detail: &str| Error::Unavailable { server: server.clone(), detail: format!("{doing}: {detail}") };
        match self {
            Failure::Unreached(detail) | Failure::Away(detail) => unavailable(detail),
            Failure::Untrusted(detail) => unavailable(&format!("the certificate is not accepted: {detail}")),
            Failure::Denied(detail) => Error::Denied { server, detail: detail.clone() },
            Failure::Refused(Refusal::EmptyKey) => Error::EmptyKey,
            Failure::Refused(Refusal::NoSpace) => Error::NoSpace {
                path: format!(
                    "{server}, whose quota is used up: compact it, then 'etcdctl defrag' and 'etcdctl alarm disarm'"
                ),
            },
            Failure::Refused(refusal) => Error::Backend { doing, detail: format!("{server}: {refusal:?}") },
            Failure::Other(detail) => Error::Backend { doing, detail: detail.clone() },
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Unreached(detail)
            | Failure::Away(detail)
            | Failure::Untrusted(detail)
            | Failure::Denied(detail)
            | Failure::Other(detail) => f.write_str(detail),
            Failure::Refused(refusal) => write!(f, "{refusal:?}"),
        }
    }
}

/// An error and what caused it. An I/O error names as its cause that of the error in it, and not that itself.
fn causes<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        causes.push(cause);
        let inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner.map_or_else(|| cause.source(), |inner| Some(inner));
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_words_say_what_it_means() {
        let failure = |code, message: &str| Failure::new("http://a", &Status::new(code, message));
        let refused = failure(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted");
        assert_eq!(refused, Failure::Refused(Refusal::Compacted));
        assert!(failure(Code::Unavailable, "etcdserver: no leader").nothing_done());
        let late = failure(Code::Unavailable, "etcdserver: request timed out");
        assert!(late.passes() && !late.nothing_done());
        assert!(matches!(failure(Code::PermissionDenied, "etcdserver: permission denied"), Failure::Denied(_)));
        let nameless = failure(Code::InvalidArgument, "etcdserver: user name is empty");
        assert!(nameless.to_string().contains("client certificate"), "{nameless}");
        assert!(matches!(failure(Code::InvalidArgument, "etcdserver: request is too large"), Failure::Other(_)));
    }

    #[test]
    fn a_certificate_shows_within_an_io_error() {
        let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let status = Status::from_error(Box::new(io::Error::new(io::ErrorKind::InvalidData, unknown)));
        let failure = Failure::new("https://a", &status);
        assert!(matches!(failure, Failure::Untrusted(_)), "{failure:?}");
        let error = failure.to_error("https://a", "read").to_string();
        assert!(error.contains("certificate is not accepted") && error.contains("UnknownIssuer"), "{error}");
    }
}
