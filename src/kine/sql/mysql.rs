//! MySQL and MariaDB.
//!
//! They have no notifications, so each server looks ten times a second whether there is a new revision; the answer comes
//! out of the index without a look at any row. A transaction that writes holds the lock of the row of the compaction,
//! so one is open at a time. Statements of one exchange go as one text, with names and values as hexadecimal literals.

mod endpoint;
mod schema;
mod session;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

pub use self::endpoint::Endpoint;
use self::session::MySession;
use super::{
    Options, Sql,
    driver::{Driver, Names, Session},
    failure::Failure,
    statement::{NewRow, Statement, entry},
};
use crate::{
    Error, LeaseId, Metrics, Revision,
    name::{self, BOOKKEEPING},
};

/// The time between two looks for others' writes.
const LOOK: Duration = Duration::from_millis(100);
/// The longest name that kine's column takes.
const LONGEST_NAME: usize = 630;

/// Opens the datastore in a MySQL or MariaDB database, or makes it.
///
/// # Errors
/// [`Error::Unavailable`] if the server can't be reached, [`Error::Denied`] if it lets nobody in with such a name and
/// password, [`Error::Schema`] if the table in the database is not kine's, [`Error::Backend`] for the rest.
pub async fn open(endpoint: Endpoint, options: Options) -> Result<Sql, Error> {
    Sql::open(Arc::new(MySql { endpoint, metrics: Metrics::default() }), options).await
}

struct MySql {
    endpoint: Endpoint,
    metrics: Metrics,
}

#[async_trait]
impl Driver for MySql {
    fn server(&self) -> &str {
        &self.endpoint.server
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    async fn prepare(&self) -> Result<(), Failure> {
        schema::prepare(&self.endpoint, &self.metrics).await
    }

    async fn connect(&self) -> Result<Box<dyn Session>, Failure> {
        Ok(Box::new(MySession::connect(&self.endpoint, true, &self.metrics).await?))
    }

    async fn changed(&self) {
        tokio::time::sleep(LOOK).await;
    }

    fn refuses(&self, key: &[u8]) -> Option<&'static str> {
        match key {
            _ if name::name(&[BOOKKEEPING], key).len() > LONGEST_NAME => {
                Some("kine's table in MySQL takes no key of more than 630 bytes")
            }
            _ => None,
        }
    }

    fn name(&self, key: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&name::name(&[BOOKKEEPING], key))
    }

    fn key(&self, name: &[u8]) -> Option<Bytes> {
        name::key(&[BOOKKEEPING], name)
    }

    fn begin_read(&self) -> Vec<Statement> {
        vec![
            Statement::plain("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
            Statement::plain("START TRANSACTION READ ONLY"),
        ]
    }

    fn begin_write(&self) -> Vec<Statement> {
        vec![
            // Read committed, see the session: each statement sees what was committed before it.
            Statement::plain("BEGIN"),
            Statement::plain("SELECT id FROM kine WHERE name = 'compact_rev_key' FOR UPDATE"),
        ]
    }

    fn latest(&self, keys: &[Bytes]) -> Statement {
        let keys: Vec<_> = keys.iter().map(|key| literal(&self.name(key))).collect();
        Statement::plain(format!(
            "SELECT {} FROM (SELECT name, MAX(id) AS id FROM kine WHERE name IN ({}) GROUP BY name) AS newest
             JOIN kine AS kv ON kv.id = newest.id",
            entry!("kv"),
            keys.join(", ")
        ))
    }

    fn get(&self, key: &Bytes, upto: Revision) -> Statement {
        Statement::plain(format!(
            "SELECT {} FROM (SELECT MAX(id) AS id FROM kine WHERE name = {} AND id <= {upto}) AS newest
             JOIN kine AS kv ON kv.id = newest.id",
            entry!("kv"),
            literal(&self.name(key))
        ))
    }

    fn range(&self, names: &Names, upto: Revision, limit: Option<i64>) -> Statement {
        let limit = limit.map(|limit| format!(" LIMIT {limit}")).unwrap_or_default();
        Statement::plain(format!("SELECT {} {} ORDER BY kv.name{limit}", entry!("kv"), newest(names, upto)))
    }

    fn count(&self, names: &Names, upto: Revision) -> Statement {
        Statement::plain(format!("SELECT COUNT(*) {}", newest(names, upto)))
    }

    fn events(&self, names: &Names, after: Revision, limit: i64) -> Statement {
        Statement::plain(format!(
            "SELECT {}, kv.prev_revision, {}, kv.old_value FROM kine AS kv FORCE INDEX (PRIMARY)
             LEFT JOIN kine AS prev ON prev.id = kv.prev_revision AND kv.created = 0
             WHERE kv.id > {after} AND {} ORDER BY kv.id LIMIT {limit}",
            entry!("kv"),
            entry!("prev"),
            inside("kv.name", names)
        ))
    }

    fn append(&self, rows: &[NewRow]) -> Vec<Statement> {
        let mut sql = String::from(
            "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, version, lease_id, \
             value) VALUES ",
        );
        for (n, row) in rows.iter().enumerate() {
            let NewRow { id, create_revision, prev_revision, ttl, version, .. } = row;
            let (created, deleted) = (u8::from(row.created), u8::from(row.deleted));
            let lease_id = row.lease_id.map_or_else(|| "NULL".to_owned(), |id| id.to_string());
            let value = row.value.as_ref().map_or_else(|| "NULL".to_owned(), |value| literal(value));
            let comma = if n == 0 { "" } else { ", " };
            let name = literal(&self.row_name(row));
            let written = write!(
                sql,
                "{comma}({id}, {name}, {created}, {deleted}, {create_revision}, {prev_revision}, {ttl}, {version}, \
                 {lease_id}, {value})"
            );
            debug_assert!(written.is_ok(), "a String takes everything");
        }
        vec![Statement::plain(sql)]
    }

    fn forget(&self, after: Revision, upto: Revision) -> Statement {
        Statement::plain(format!(
            "DELETE old FROM kine AS old JOIN (SELECT prev_revision AS id FROM kine WHERE id > {after} AND id <= {upto}
               AND prev_revision <> 0 AND name <> 'compact_rev_key') AS gone ON old.id = gone.id"
        ))
    }

    fn now(&self) -> &'static str {
        "CAST(UNIX_TIMESTAMP(SYSDATE(3)) * 1000 AS SIGNED)"
    }

    fn attached(&self, lease: LeaseId) -> Statement {
        Statement::plain(format!(
            "SELECT {} FROM kine AS kv WHERE kv.lease_id = {lease} AND kv.lease_id > 0
               AND NOT EXISTS (SELECT 1 FROM kine AS newer WHERE newer.name = kv.name AND newer.id > kv.id)
             ORDER BY kv.name",
            entry!("kv")
        ))
    }

    fn size(&self) -> Statement {
        Statement::plain(
            "SELECT CAST(COALESCE(SUM(data_length + index_length), 0) AS SIGNED) FROM information_schema.TABLES
             WHERE table_schema = DATABASE() AND table_name = 'kine'",
        )
    }
}

/// The newest rows of names, as `kv`, if they are no deletions.
fn newest(names: &Names, upto: Revision) -> String {
    format!(
        "FROM (SELECT name, MAX(id) AS id FROM kine WHERE {} AND id <= {upto} GROUP BY name) AS newest
         JOIN kine AS kv ON kv.id = newest.id WHERE kv.deleted = 0 AND kv.name <> 'compact_rev_key'",
        inside("name", names)
    )
}

fn inside(column: &str, Names { start, end }: &Names) -> String {
    let end = end.as_ref().map(|end| format!(" AND {column} < {}", literal(end)));
    format!("{column} >= {}{}", literal(start), end.unwrap_or_default())
}

/// Bytes as they stand in a statement.
fn literal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2 + 3);
    text.push_str("x'");
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text.push('\'');
    text
}
