//! What goes to a server and what comes back, without any one server's types.

use std::borrow::Cow;

use bytes::Bytes;

use super::{driver::Driver, failure::Failure};
use crate::{KeyValue, Revision};

/// One statement with its parameters (`$1`, … as PostgreSQL has them; none where the text has them as literals).
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) sql: Cow<'static, str>,
    pub(super) params: Vec<Param>,
}

/// A parameter. Names are checked before they become one.
#[derive(Debug, Clone)]
pub(super) enum Param {
    Int(i64),
    Name(Bytes),
    Ints(Vec<Option<i64>>),
    Names(Vec<Bytes>),
    Blobs(Vec<Option<Bytes>>),
}

impl Statement {
    pub(super) fn new(sql: impl Into<Cow<'static, str>>, params: Vec<Param>) -> Self {
        Self { sql: sql.into(), params }
    }

    /// A statement without parameters.
    pub(super) fn plain(sql: impl Into<Cow<'static, str>>) -> Self {
        Self::new(sql, Vec::new())
    }
}

/// A value in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Bytes(Bytes),
}

/// A row of an answer.
#[derive(Debug, Clone)]
pub(super) struct Row(pub(super) Vec<Cell>);

impl Row {
    /// The number in a column; 0 for NULL, which is what kine means by it.
    pub(super) fn int(&self, column: usize) -> Result<i64, Failure> {
        match self.0.get(column) {
            Some(Cell::Int(int)) => Ok(*int),
            Some(Cell::Null) => Ok(0),
            other => Err(Failure::Schema(format!("column {column} of an answer is {other:?}, not a number"))),
        }
    }

    pub(super) fn bytes(&self, column: usize) -> Result<Option<Bytes>, Failure> {
        match self.0.get(column) {
            Some(Cell::Bytes(bytes)) => Ok(Some(bytes.clone())),
            Some(Cell::Null) => Ok(None),
            other => Err(Failure::Schema(format!("column {column} of an answer is {other:?}, not bytes"))),
        }
    }
}

/// The columns of [`Entry::of`], of the row that the alias `kv` stands for. The version of kine's rows is counted: what
/// compaction has left of the key's rows.
macro_rules! entry {
    ($alias:literal) => {
        concat!(
            $alias,
            ".id, ",
            $alias,
            ".name, ",
            $alias,
            ".created, ",
            $alias,
            ".deleted, ",
            $alias,
            ".create_revision, ",
            $alias,
            ".lease, ",
            $alias,
            ".value, ",
            $alias,
            ".lease_id, COALESCE(",
            $alias,
            ".version, CASE WHEN ",
            $alias,
            ".created <> 0 THEN 1 ELSE (SELECT COUNT(*) FROM kine AS v WHERE v.name = ",
            $alias,
            ".name AND v.id >= ",
            $alias,
            ".create_revision AND v.id <= ",
            $alias,
            ".id) END)"
        )
    };
}
pub(super) use entry;

/// How many columns [`entry!`] has.
pub(super) const ENTRY: usize = 9;

/// A row of the table.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) kv: KeyValue,
    pub(super) deleted: bool,
    /// The time to live in seconds, also of a key that is attached to a lease.
    pub(super) ttl: i64,
    pub(super) lease_id: i64,
}

impl Entry {
    /// From the columns of [`entry!`], the first of which is `first`. None if they are NULL, or bookkeeping.
    pub(super) fn of(driver: &dyn Driver, row: &Row, first: usize) -> Result<Option<Self>, Failure> {
        let id = row.int(first)?;
        let Some(key) = row.bytes(first + 1)?.and_then(|name| driver.key(&name)) else { return Ok(None) };
        let (ttl, lease_id) = (row.int(first + 5)?.max(0), row.int(first + 7)?);
        let kv = KeyValue {
            key,
            value: row.bytes(first + 6)?.unwrap_or_default(),
            create_revision: if row.int(first + 2)? != 0 { id } else { row.int(first + 4)? },
            mod_revision: id,
            version: row.int(first + 8)?,
            lease: if lease_id != 0 { lease_id } else { ttl },
        };
        Ok(Some(Self { kv, deleted: row.int(first + 3)? != 0, ttl, lease_id }))
    }
}

/// A row to append.
#[derive(Debug, Clone)]
pub(super) struct NewRow {
    pub(super) id: Revision,
    /// None: it stands for a revision that was skipped.
    pub(super) key: Option<Bytes>,
    pub(super) created: bool,
    pub(super) deleted: bool,
    pub(super) create_revision: Revision,
    pub(super) prev_revision: Revision,
    pub(super) ttl: i64,
    pub(super) value: Option<Bytes>,
    pub(super) version: i64,
    pub(super) lease_id: Option<i64>,
}

impl NewRow {
    /// What stands for a revision that was skipped, as kine has it.
    pub(super) fn gap(id: Revision) -> Self {
        Self {
            id,
            key: None,
            created: false,
            deleted: true,
            create_revision: 0,
            prev_revision: 0,
            ttl: 0,
            value: None,
            version: 0,
            lease_id: None,
        }
    }
}
