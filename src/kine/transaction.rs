//! etcd's transactions: conditions, and what to do when all of them hold, or when one does not.
//! Source: <https://etcd.io/docs/v3.5/learning/api/#transaction>.

use bytes::Bytes;

use crate::{KeyValue, LeaseId, Range, Revision};

/// Conditions and two lists of operations. If all conditions hold (or there are none) the operations of `success` are
/// executed, else those of `failure`: in order, each seeing what those before it did, and all or none.
///
/// # Revisions
/// In kine's table a row is a revision. So a transaction that writes `n` keys takes `n` consecutive revisions, not one
/// as in etcd, and a deletion of a range one for each key; the answer has the last of them. Nobody finds "now" between
/// them, since they are committed together. They can be told apart only by who asks for one of the revisions between
/// by its number; and each event of a watch has a revision of its own. A backend that is an etcd has etcd's one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<TxnOp>,
    pub failure: Vec<TxnOp>,
}

/// A condition on every key in `[start, end)`. Where there is no key, the condition is on one with version, revisions
/// and lease 0; on its value no condition holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub start: Bytes,
    pub end: Bytes,
    pub operator: Operator,
    pub target: Target,
}

/// How what is there relates to what is in the [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// What of a key is compared, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Version(i64),
    CreateRevision(Revision),
    ModRevision(Revision),
    Value(Bytes),
    Lease(LeaseId),
}

/// One operation of a [`Txn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnOp {
    /// As [`Datastore::range`](crate::Datastore::range). `revision` 0 is the state that the operations before left.
    Range { start: Bytes, end: Bytes, limit: i64, revision: Revision },
    /// Creates or changes a key. `value` none keeps the value there is, `lease` none the lease; both need the key to be
    /// there. `lease` is the id of a granted lease, 0 for none; never a time to live.
    Put { key: Bytes, value: Option<Bytes>, lease: Option<LeaseId> },
    /// Deletes all keys in `[start, end)`.
    Delete { start: Bytes, end: Bytes },
}

/// What came of a [`Txn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnResponse {
    /// The datastore's revision after the transaction: its last write, or the newest there is if it wrote nothing.
    pub revision: Revision,
    /// Whether all conditions held.
    pub succeeded: bool,
    /// One for each operation that was executed, in their order.
    pub results: Vec<TxnResult>,
}

/// What came of a [`TxnOp`], of the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TxnResult {
    Range(Range),
    /// What the key was before, if it was there.
    Put {
        previous: Option<KeyValue>,
    },
    /// The keys that were deleted, in key order.
    Delete {
        previous: Vec<KeyValue>,
    },
}

impl Txn {
    /// Whether neither list has an operation that writes.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| matches!(op, TxnOp::Range { .. }))
    }
}

impl Compare {
    /// Whether the condition holds for the keys of its range: all of them, in any order.
    pub fn holds<'a>(&self, keys: impl IntoIterator<Item = &'a KeyValue>) -> bool {
        let mut keys = keys.into_iter().peekable();
        if keys.peek().is_none() {
            return self.holds_for(None);
        }
        keys.all(|kv| self.holds_for(Some(kv)))
    }

    fn holds_for(&self, kv: Option<&KeyValue>) -> bool {
        let number = |of: fn(&KeyValue) -> i64, with: &i64| Some(kv.map_or(0, of).cmp(with));
        let ordering = match &self.target {
            Target::Version(with) => number(|kv| kv.version, with),
            Target::CreateRevision(with) => number(|kv| kv.create_revision, with),
            Target::ModRevision(with) => number(|kv| kv.mod_revision, with),
            Target::Lease(with) => number(|kv| kv.lease, with),
            Target::Value(with) => kv.map(|kv| kv.value.cmp(with)),
        };
        ordering.is_some_and(|ordering| match self.operator {
            Operator::Equal => ordering.is_eq(),
            Operator::NotEqual => ordering.is_ne(),
            Operator::Greater => ordering.is_gt(),
            Operator::Less => ordering.is_lt(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(operator: Operator, target: Target) -> Compare {
        Compare { start: "a".into(), end: "b".into(), operator, target }
    }

    #[test]
    fn a_key_that_is_not_there_has_zeros_and_no_value() {
        assert!(compare(Operator::Equal, Target::Version(0)).holds([]));
        assert!(compare(Operator::Less, Target::CreateRevision(1)).holds([]));
        assert!(!compare(Operator::Greater, Target::ModRevision(0)).holds([]));
        assert!(!compare(Operator::Equal, Target::Value(Bytes::new())).holds([]));
        assert!(!compare(Operator::NotEqual, Target::Value("x".into())).holds([]));
    }

    #[test]
    fn a_condition_on_a_range_is_on_each_of_its_keys() {
        let kv = |version| KeyValue {
            key: "a".into(),
            value: "v".into(),
            create_revision: 2,
            mod_revision: 2,
            version,
            lease: 0,
        };
        assert!(compare(Operator::Greater, Target::Version(0)).holds(&[kv(1), kv(2)]));
        assert!(!compare(Operator::Equal, Target::Version(1)).holds(&[kv(1), kv(2)]));
        assert!(compare(Operator::Equal, Target::Value("v".into())).holds(&[kv(1), kv(2)]));
    }
}
