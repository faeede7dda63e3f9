//! One write of a caller, and what comes of it, whichever table it is written to.

use bytes::Bytes;

use crate::{Error, Event, KeyValue, LeaseId, Revision, Txn, TxnResponse};

/// What to write.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    /// `lease` is a time to live in seconds.
    Create {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Update {
        key: Bytes,
        expected: Revision,
        value: Bytes,
        lease: i64,
    },
    Delete {
        key: Bytes,
        expected: Revision,
    },
    Txn(Txn),
    /// `id` 0: any.
    Grant {
        id: LeaseId,
        ttl: i64,
    },
    Revoke {
        id: LeaseId,
    },
}

/// What came of an [`Op`].
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(Event),
    Conflict { key: Bytes, current: Option<KeyValue>, revision: Revision },
    Txn { response: TxnResponse, events: Vec<Event> },
    Granted { id: LeaseId, ttl: i64 },
    Revoked { id: LeaseId, events: Vec<Event>, revision: Revision },
    Refused(Error),
}

impl Outcome {
    /// What happened to keys, in order.
    pub(crate) fn events(&self) -> &[Event] {
        match self {
            Outcome::Done(event) => std::slice::from_ref(event),
            Outcome::Txn { events, .. } | Outcome::Revoked { events, .. } => events,
            Outcome::Conflict { .. } | Outcome::Granted { .. } | Outcome::Refused(_) => &[],
        }
    }

    /// The answer to who asked for a write of one key.
    pub(crate) fn revision(self) -> Result<Revision, Error> {
        match self {
            Outcome::Done(event) => Ok(event.revision()),
            Outcome::Revoked { revision, .. } => Ok(revision),
            Outcome::Txn { response, .. } => Ok(response.revision),
            Outcome::Granted { .. } => Ok(0),
            Outcome::Conflict { key, current, revision } => Err(Error::Conflict {
                key: String::from_utf8_lossy(&key).into_owned(),
                current: current.map(Box::new),
                revision,
            }),
            Outcome::Refused(error) => Err(error),
        }
    }
}

/// What ends a key by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ends {
    #[default]
    Never,
    /// So many seconds after it was written.
    After(i64),
    /// With the lease it is attached to, which was granted `ttl` seconds.
    With { id: LeaseId, ttl: i64 },
}
