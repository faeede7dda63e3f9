//! A connection to PostgreSQL.

use std::{borrow::Cow, collections::HashMap, error::Error as StdError, future::poll_fn, time::Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{TryStreamExt, future::join_all};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
};
use tokio_postgres::{
    AsyncMessage, Client, Connection, NoTls,
    error::SqlState,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

use super::{
    super::{
        driver::Session,
        failure::Failure,
        statement::{Cell, Param, Row, Statement},
    },
    Endpoint,
};
use crate::Metrics;

/// Statements that are sent together: as many as `join_all` begins in their order.
const TOGETHER: usize = 30;

/// Connects to the endpoint's database, or another one of that server. `notified` is told of notifications, and closes
/// with the connection.
pub(super) async fn connect(
    endpoint: &Endpoint,
    database: Option<&str>,
    notified: Option<mpsc::Sender<()>>,
) -> Result<Client, Failure> {
    let mut config = endpoint.config.clone();
    config.dbname(database.unwrap_or(&endpoint.database));
    match &endpoint.tls {
        Some(tls) => {
            let (client, connection) = config.connect(tls.clone()).await.map_err(|error| failure(&error))?;
            tokio::spawn(serve(connection, notified));
            Ok(client)
        }
        None => {
            let (client, connection) = config.connect(NoTls).await.map_err(|error| failure(&error))?;
            tokio::spawn(serve(connection, notified));
            Ok(client)
        }
    }
}

/// Moves a connection's messages until its client is dropped, or it breaks.
async fn serve<S, T>(mut connection: Connection<S, T>, notified: Option<mpsc::Sender<()>>)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
        match (message, &notified) {
            // One that is not fetched yet is as good as two.
            (Ok(AsyncMessage::Notification(_)), Some(notified)) => drop(notified.try_send(())),
            (Ok(_), _) => {}
            (Err(error), _) => return tracing::debug!(%error, "a connection to PostgreSQL broke"),
        }
    }
}

/// What an error of the client means.
pub(super) fn failure(error: &tokio_postgres::Error) -> Failure {
    let mut detail = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !detail.contains(&inner_text) {
            detail = format!("{detail}: {inner_text}");
        }
        cause = inner.source();
    }
    let Some(code) = error.code() else {
        let config = detail.contains("TLS") || detail.contains("certificate") || detail.contains("configuration");
        return if config { Failure::Other(detail) } else { Failure::Unavailable(detail) };
    };
    match *code {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Failure::Denied(detail),
        SqlState::UNIQUE_VIOLATION
        | SqlState::T_R_SERIALIZATION_FAILURE
        | SqlState::T_R_DEADLOCK_DETECTED
        | SqlState::LOCK_NOT_AVAILABLE => Failure::Again(detail),
        SqlState::DISK_FULL => Failure::NoSpace(detail),
        SqlState::UNDEFINED_TABLE | SqlState::UNDEFINED_COLUMN | SqlState::INVALID_CATALOG_NAME => {
            Failure::Schema(detail)
        }
        SqlState::READ_ONLY_SQL_TRANSACTION
        | SqlState::ADMIN_SHUTDOWN
        | SqlState::CRASH_SHUTDOWN
        | SqlState::CANNOT_CONNECT_NOW
        | SqlState::TOO_MANY_CONNECTIONS => Failure::Unavailable(detail),
        _ if code.code().starts_with("08") => Failure::Unavailable(detail),
        _ => Failure::Other(detail),
    }
}

/// A connection with the statements it has prepared.
pub(super) struct PgSession {
    client: Client,
    prepared: HashMap<Cow<'static, str>, tokio_postgres::Statement>,
    metrics: Metrics,
}

impl PgSession {
    pub(super) fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, prepared: HashMap::new(), metrics }
    }

    async fn exchange(&mut self, statements: &[Statement]) -> Result<Vec<Vec<Row>>, tokio_postgres::Error> {
        for Statement { sql, params } in statements {
            // Those without parameters have numbers in their text, and are not worth keeping.
            if !params.is_empty() && !self.prepared.contains_key(sql) {
                let prepared = self.client.prepare(sql).await?;
                self.prepared.insert(sql.clone(), prepared);
            }
        }
        // All are sent before the first answer comes, in this order.
        let mut answers = Vec::with_capacity(statements.len());
        for some in statements.chunks(TOGETHER) {
            let mut sent = Vec::with_capacity(some.len());
            for statement in some {
                sent.push(self.execute(statement));
            }
            answers.extend(join_all(sent).await);
        }
        // The first failure is the cause of those after it.
        answers.into_iter().collect()
    }

    async fn execute(&self, statement: &Statement) -> Result<Vec<Row>, tokio_postgres::Error> {
        let rows = match self.prepared.get(&statement.sql) {
            Some(prepared) => self.client.query_raw(prepared, &statement.params).await?,
            None => {
                let none: [(&(dyn ToSql + Sync), Type); 0] = [];
                self.client.query_typed_raw(&statement.sql, none).await?
            }
        };
        let cells = |row: tokio_postgres::Row| {
            let cells = (0..row.len()).map(|column| row.try_get::<_, Cell>(column)).collect::<Result<_, _>>();
            std::future::ready(cells.map(Row))
        };
        rows.and_then(cells).try_collect().await
    }
}

#[async_trait]
impl Session for PgSession {
    async fn run(&mut self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>, Failure> {
        let begun = Instant::now();
        let done = self.exchange(&statements).await;
        let code = done.as_ref().err().map(|error| error.code().map_or("other", SqlState::code));
        self.metrics.sql(begun.elapsed(), code.unwrap_or_default());
        done.map_err(|error| failure(&error))
    }
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(of: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(match *of {
            Type::INT2 => Cell::Int(i16::from_sql(of, raw)?.into()),
            Type::INT4 => Cell::Int(i32::from_sql(of, raw)?.into()),
            Type::INT8 => Cell::Int(i64::from_sql(of, raw)?),
            _ => Cell::Bytes(Bytes::copy_from_slice(raw)),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Cell::Null)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for Param {
    fn to_sql(&self, of: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        match self {
            Param::Int(int) => int.to_sql(of, out),
            Param::Name(name) => std::str::from_utf8(name)?.to_sql(of, out),
            Param::Ints(ints) => ints.to_sql(of, out),
            Param::Names(names) => {
                let names = names.iter().map(|name| std::str::from_utf8(name)).collect::<Result<Vec<_>, _>>()?;
                names.to_sql(of, out)
            }
            Param::Blobs(blobs) => blobs.iter().map(Option::as_deref).collect::<Vec<_>>().to_sql(of, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // The statements cast each parameter to the type that it has.
        true
    }

    to_sql_checked!();
}
