//! PostgreSQL.
//!
//! Several servers see each other's writes by LISTEN and NOTIFY. A transaction that writes holds an advisory lock, so
//! one is open at a time. Statements of one exchange are sent together and answered together.

mod endpoint;
mod names;
mod schema;
mod session;
mod tls;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Mutex, mpsc};

pub use self::endpoint::Endpoint;
use self::{session::PgSession, tls::MakeTls};
use super::{
    Options, Sql,
    driver::{Driver, Names, Session},
    failure::Failure,
    statement::{NewRow, Param, Statement, entry},
};
use crate::{Error, LeaseId, Metrics, Revision};

/// The channel of notifications.
const CHANNEL: &str = "kine";
/// The advisory lock of transactions that write; PostgreSQL keeps such locks apart by database.
const LOCK: i64 = 0x6b33_735f_6b69_6e65;
/// The longest name that its index can hold.
const LONGEST_NAME: usize = 2000;

/// Opens the datastore in a PostgreSQL database, or makes it.
///
/// # Errors
/// [`Error::Unavailable`] if the server can't be reached, [`Error::Denied`] if it lets nobody in with such a name and
/// password, [`Error::Schema`] if the table in the database is not kine's, [`Error::Backend`] for the rest.
pub async fn open(endpoint: Endpoint, options: Options) -> Result<Sql, Error> {
    Sql::open(Arc::new(Postgres { endpoint, metrics: Metrics::default(), listener: Mutex::default() }), options).await
}

struct Postgres {
    endpoint: Endpoint,
    metrics: Metrics,
    listener: Mutex<Option<Listener>>,
}

/// The connection that notifications come through.
struct Listener {
    /// Keeps it open.
    _client: tokio_postgres::Client,
    notified: mpsc::Receiver<()>,
}

impl Postgres {
    async fn listen(&self) -> Result<Listener, Failure> {
        let (sender, notified) = mpsc::channel(1);
        let client = session::connect(&self.endpoint, None, Some(sender)).await?;
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await.map_err(|error| session::failure(&error))?;
        Ok(Listener { _client: client, notified })
    }
}

#[async_trait]
impl Driver for Postgres {
    fn server(&self) -> &str {
        &self.endpoint.server
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    async fn prepare(&self) -> Result<(), Failure> {
        let client = match session::connect(&self.endpoint, None, None).await {
            Err(Failure::Schema(_)) => {
                schema::create_database(&self.endpoint).await?;
                session::connect(&self.endpoint, None, None).await?
            }
            connected => connected?,
        };
        schema::prepare(&client, LOCK).await
    }

    async fn connect(&self) -> Result<Box<dyn Session>, Failure> {
        let client = session::connect(&self.endpoint, None, None).await?;
        // Should this host vanish in the middle of a transaction, the others need not wait long for its lock.
        let timeout = "SET idle_in_transaction_session_timeout = '15s'";
        client.batch_execute(timeout).await.map_err(|error| session::failure(&error))?;
        Ok(Box::new(PgSession::new(client, self.metrics.clone())))
    }

    async fn changed(&self) {
        let mut listener = self.listener.lock().await;
        let ended = match listener.as_mut() {
            Some(listener) => listener.notified.recv().await.is_none(),
            None => true,
        };
        if ended {
            // What was written in between has given no sign.
            *listener = match self.listen().await {
                Ok(listener) => Some(listener),
                Err(error) => {
                    tracing::debug!(%error, "cannot listen to other servers' writes");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                    None
                }
            };
        }
    }

    fn refuses(&self, key: &[u8]) -> Option<&'static str> {
        match key {
            _ if names::name(key).len() > LONGEST_NAME => Some(
                "PostgreSQL takes no key of more than 2000 bytes, of which those after the first that is no text count double",
            ),
            _ => None,
        }
    }

    fn name(&self, key: &[u8]) -> Bytes {
        Bytes::copy_from_slice(&names::name(key))
    }

    fn key(&self, name: &[u8]) -> Option<Bytes> {
        names::key(name)
    }

    fn begin_read(&self) -> Vec<Statement> {
        vec![Statement::plain("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")]
    }

    fn begin_write(&self) -> Vec<Statement> {
        vec![
            // Each statement sees what was committed before it, so those after the lock see all.
            Statement::plain("BEGIN ISOLATION LEVEL READ COMMITTED"),
            Statement::new("SELECT pg_advisory_xact_lock($1::bigint)", vec![Param::Int(LOCK)]),
        ]
    }

    fn latest(&self, keys: &[Bytes]) -> Statement {
        let sql = concat!(
            "SELECT ",
            entry!("kv"),
            " FROM unnest($1::text[]) AS k(name) CROSS JOIN LATERAL
                (SELECT * FROM kine WHERE name = k.name ORDER BY id DESC LIMIT 1) AS kv"
        );
        Statement::new(sql, vec![Param::Names(keys.iter().map(|key| self.name(key)).collect())])
    }

    fn get(&self, key: &Bytes, upto: Revision) -> Statement {
        let sql = concat!(
            "SELECT ",
            entry!("kv"),
            " FROM kine AS kv WHERE kv.name = $1::text AND kv.id <= $2::bigint ORDER BY kv.id DESC LIMIT 1"
        );
        Statement::new(sql, vec![Param::Name(self.name(key)), Param::Int(upto)])
    }

    fn range(&self, names: &Names, upto: Revision, limit: Option<i64>) -> Statement {
        let (newest, mut params) = newest(names, upto);
        let limit = limit.map(|limit| {
            params.push(Param::Int(limit));
            format!(" LIMIT ${}::bigint", params.len())
        });
        let sql = format!(
            "SELECT {} FROM ({newest}) AS newest JOIN kine AS kv ON kv.id = newest.id
             WHERE newest.deleted = 0 AND newest.name <> 'compact_rev_key' ORDER BY newest.name{}",
            entry!("kv"),
            limit.unwrap_or_default()
        );
        Statement::new(sql, params)
    }

    fn count(&self, names: &Names, upto: Revision) -> Statement {
        let (newest, params) = newest(names, upto);
        let sql = format!(
            "SELECT COUNT(*) FROM ({newest}) AS newest WHERE newest.deleted = 0 AND newest.name <> 'compact_rev_key'"
        );
        Statement::new(sql, params)
    }

    fn events(&self, names: &Names, after: Revision, limit: i64) -> Statement {
        let mut params = vec![Param::Int(after), Param::Int(limit), Param::Name(names.start.clone())];
        let end = names.end.as_ref().map_or("", |end| {
            params.push(Param::Name(end.clone()));
            " AND kv.name < $4::text"
        });
        let sql = format!(
            "SELECT {}, kv.prev_revision, {}, kv.old_value
             FROM kine AS kv LEFT JOIN kine AS prev ON prev.id = kv.prev_revision AND kv.created = 0
             WHERE kv.id > $1::bigint AND kv.name >= $3::text{end} ORDER BY kv.id LIMIT $2::bigint",
            entry!("kv"),
            entry!("prev")
        );
        Statement::new(sql, params)
    }

    fn append(&self, rows: &[NewRow]) -> Vec<Statement> {
        let ints = |of: fn(&NewRow) -> i64| Param::Ints(rows.iter().map(|row| Some(of(row))).collect());
        let last = rows.last().map_or(0, |row| row.id);
        vec![
            Statement::new(
                "INSERT INTO kine (id, name, created, deleted, create_revision, prev_revision, lease, version, lease_id,
                   value) SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[],
                   $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bytea[])",
                vec![
                    ints(|row| row.id),
                    Param::Names(rows.iter().map(|row| self.row_name(row)).collect()),
                    ints(|row| row.created.into()),
                    ints(|row| row.deleted.into()),
                    ints(|row| row.create_revision),
                    ints(|row| row.prev_revision),
                    ints(|row| row.ttl),
                    ints(|row| row.version),
                    Param::Ints(rows.iter().map(|row| row.lease_id).collect()),
                    Param::Blobs(rows.iter().map(|row| row.value.clone()).collect()),
                ],
            ),
            // Kine takes its revisions from the sequence.
            Statement::new(
                "SELECT setval('kine_id_seq', $1::bigint) FROM kine_id_seq WHERE last_value < $1::bigint",
                vec![Param::Int(last)],
            ),
            Statement::plain(format!("NOTIFY {CHANNEL}")),
        ]
    }

    fn forget(&self, after: Revision, upto: Revision) -> Statement {
        Statement::new(
            "DELETE FROM kine WHERE id IN (SELECT prev_revision FROM kine WHERE id > $1::bigint AND id <= $2::bigint
               AND prev_revision <> 0 AND name <> 'compact_rev_key')",
            vec![Param::Int(after), Param::Int(upto)],
        )
    }

    fn now(&self) -> &'static str {
        "(EXTRACT(EPOCH FROM clock_timestamp()) * 1000)::bigint"
    }

    fn attached(&self, lease: LeaseId) -> Statement {
        let sql = concat!(
            "SELECT ",
            entry!("kv"),
            " FROM kine AS kv WHERE kv.lease_id = $1::bigint AND kv.lease_id > 0
               AND NOT EXISTS (SELECT 1 FROM kine AS newer WHERE newer.name = kv.name AND newer.id > kv.id)
             ORDER BY kv.name"
        );
        Statement::new(sql, vec![Param::Int(lease)])
    }

    fn size(&self) -> Statement {
        Statement::plain("SELECT pg_total_relation_size('kine')")
    }
}

/// The newest row of each name, from the index alone.
fn newest(names: &Names, upto: Revision) -> (String, Vec<Param>) {
    let mut params = vec![Param::Int(upto), Param::Name(names.start.clone())];
    let end = names.end.as_ref().map_or("", |end| {
        params.push(Param::Name(end.clone()));
        " AND name < $3::text"
    });
    let sql = format!(
        "SELECT DISTINCT ON (name) name, id, deleted FROM kine
         WHERE id <= $1::bigint AND name >= $2::text{end} ORDER BY name, id DESC"
    );
    (sql, params)
}
