//! Our errors as gRPC's.

use k3s_cri::Error;
use tonic::{Code, Status};

pub(super) fn of(error: Error) -> Status {
    let code = match error {
        Error::NotFound { .. } | Error::ImageNotFound { .. } => Code::NotFound,
        Error::AlreadyExists { .. } => Code::AlreadyExists,
        Error::InvalidArgument { .. } => Code::InvalidArgument,
        Error::FailedPrecondition { .. } => Code::FailedPrecondition,
        Error::NoSpace { .. } => Code::ResourceExhausted,
        Error::Timeout { .. } => Code::DeadlineExceeded,
        Error::Unimplemented { .. } => Code::Unimplemented,
        // As containerd, which has no code for these.
        Error::Pull { .. } | Error::Start { .. } | Error::Internal { .. } => Code::Unknown,
    };
    Status::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_the_kubelet_prints() {
        for error in [
            Error::NotFound { what: "x".into() },
            Error::Timeout { doing: "x".into() },
            Error::NoSpace { doing: "x".into() },
            Error::Internal { doing: "x".into(), detail: "y".into() },
        ] {
            assert_eq!(error.code(), format!("{:?}", of(error.clone()).code()));
        }
    }
}
