//! Refusals in etcd's words: clients of etcd tell them apart by code and text.
//! Source: <https://github.com/etcd-io/etcd/blob/main/api/v3rpc/rpctypes/error.go>.

use tonic::{Code, Status};

use crate::Error;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (code, text) = match &error {
            Error::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
            Error::KeyNotFound { .. } => (Code::InvalidArgument, "etcdserver: key not found"),
            Error::LeaseNotFound { .. } => (Code::NotFound, "etcdserver: requested lease not found"),
            Error::LeaseExists { .. } => (Code::FailedPrecondition, "etcdserver: lease already exists"),
            Error::LeaseTooLong { .. } => (Code::OutOfRange, "etcdserver: too large lease TTL"),
            Error::Compacted { .. } => (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            Error::Future { .. } => (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
            Error::NoSpace { .. } => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            Error::Closed => (Code::Unavailable, "etcdserver: server stopped"),
            Error::InvalidKey { .. } => return Status::invalid_argument(error.to_string()),
            Error::Unsupported { .. } => return Status::unimplemented(error.to_string()),
            Error::Corrupt { .. } => return Status::data_loss(error.to_string()),
            Error::Conflict { .. }
            | Error::InUse { .. }
            | Error::Unavailable { .. }
            | Error::Denied { .. }
            | Error::Schema { .. }
            | Error::Backend { .. } => {
                return Status::unavailable(error.to_string());
            }
        };
        Status::new(code, text)
    }
}
