//! What the log needs to know of a kind of database server: how to reach it, and how it says what differs.

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    failure::Failure,
    statement::{NewRow, Row, Statement},
};
use crate::{LeaseId, Metrics, Revision, UNBOUNDED, table::GAP};

/// A range of names for a query.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) start: Bytes,
    /// None: no end.
    pub(super) end: Option<Bytes>,
}

/// A kind of database server.
#[async_trait]
pub(super) trait Driver: Send + Sync + 'static {
    /// Where the database is, for people: no password.
    fn server(&self) -> &str;

    /// Where its sessions count what they do.
    fn metrics(&self) -> &Metrics;

    /// Makes the database and its tables, or completes those of kine.
    async fn prepare(&self) -> Result<(), Failure>;

    async fn connect(&self) -> Result<Box<dyn Session>, Failure>;

    /// Waits for a sign that somebody may have written. A broken connection is such a sign, too.
    async fn changed(&self);

    /// Why a key can't be stored; none if it can.
    fn refuses(&self, key: &[u8]) -> Option<&'static str>;

    /// The name that a key is stored as. The order of names is the order of keys.
    fn name(&self, key: &[u8]) -> Bytes;

    /// The key that is stored as a name; none if the row is bookkeeping.
    fn key(&self, name: &[u8]) -> Option<Bytes>;

    /// The names of the keys in `[start, end)`.
    fn names(&self, start: &[u8], end: &[u8]) -> Names {
        Names { start: self.name(start), end: (end != UNBOUNDED).then(|| self.name(end)) }
    }

    /// Begins a transaction that reads one state of everything.
    fn begin_read(&self) -> Vec<Statement>;

    /// Begins a transaction that writes, once no other such transaction is open anywhere: so the order of revisions is
    /// the order of commits.
    fn begin_write(&self) -> Vec<Statement>;

    /// Where the history stands: `current`, `compacted`.
    fn position(&self) -> Statement {
        Statement::plain(
            "SELECT COALESCE((SELECT MAX(id) FROM kine), 0),
                    COALESCE((SELECT MAX(prev_revision) FROM kine WHERE name = 'compact_rev_key'), 0)",
        )
    }

    /// The newest row of each key, as entries.
    fn latest(&self, keys: &[Bytes]) -> Statement;

    /// The newest row of a key up to a revision, as an entry.
    fn get(&self, key: &Bytes, upto: Revision) -> Statement;

    /// The keys there are at a revision, as entries in the order of names; at most `limit`.
    fn range(&self, names: &Names, upto: Revision, limit: Option<i64>) -> Statement;

    /// How many keys there are at a revision.
    fn count(&self, names: &Names, upto: Revision) -> Statement;

    /// Rows after a revision in order: the entry, `prev_revision`, the entry of the row it supersedes, `old_value`.
    fn events(&self, names: &Names, after: Revision, limit: i64) -> Statement;

    /// The name of a row to append.
    fn row_name(&self, row: &NewRow) -> Bytes {
        row.key.as_ref().map_or_else(|| format!("{GAP}{}", row.id).into(), |key| self.name(key))
    }

    /// Appends rows, and tells the other servers.
    fn append(&self, rows: &[NewRow]) -> Vec<Statement>;

    /// Deletes what the rows in `(after, upto]` superseded.
    fn forget(&self, after: Revision, upto: Revision) -> Statement;

    /// The server's clock in milliseconds since the epoch, as an expression.
    fn now(&self) -> &'static str;

    /// The newest rows of the keys that are attached to a lease, as entries, in the order of names.
    fn attached(&self, lease: LeaseId) -> Statement;

    /// Records when rows with a time to live in seconds end.
    fn remember(&self, rows: &[(Revision, i64)]) -> Statement {
        let now = self.now();
        let rows: Vec<_> = rows.iter().map(|(id, ttl)| format!("({id}, {now} + {})", ttl * 1000)).collect();
        Statement::plain(format!("INSERT INTO kine_lease (id, expires) VALUES {}", rows.join(", ")))
    }

    /// The size of the tables on the server's disk, in bytes.
    fn size(&self) -> Statement;
}

/// A connection. After a failure it is dropped, and the server takes back what was not committed.
#[async_trait]
pub(super) trait Session: Send {
    /// Executes statements in order, in one exchange with the server. Returns the rows of each.
    async fn run(&mut self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>, Failure>;
}
