//! A connection to MySQL or MariaDB.

use std::time::Instant;

use async_trait::async_trait;
use mysql_async::{Conn, DriverError, Error, IoError, Value, consts::ColumnType, prelude::Queryable};

use super::{
    super::{
        driver::Session,
        failure::Failure,
        statement::{Cell, Row, Statement},
    },
    Endpoint,
};
use crate::Metrics;

/// What each connection is told first. Names and values are bytes; what does not fit is an error. Should this host
/// vanish in the middle of a transaction, the others need not wait long for its lock.
const INIT: [&str; 3] = [
    "SET NAMES binary",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES', innodb_lock_wait_timeout = 10, wait_timeout = 60, autocommit = 1",
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
];

/// A connection.
pub(super) struct MySession {
    conn: Conn,
    metrics: Metrics,
}

impl MySession {
    /// Connects to the endpoint's database, or to none of that server.
    pub(super) async fn connect(endpoint: &Endpoint, database: bool, metrics: &Metrics) -> Result<Self, Failure> {
        let name = database.then(|| endpoint.database.clone());
        let options = endpoint.options.clone().db_name(name).init(INIT.to_vec());
        let connect = tokio::time::timeout(endpoint.connect_timeout, Conn::new(options));
        let late = |_| Failure::Unavailable(format!("no connection within {:?}", endpoint.connect_timeout));
        let conn = connect.await.map_err(late)?.map_err(|error| failure(&error))?;
        Ok(Self { conn, metrics: metrics.clone() })
    }

    /// `wrong` becomes the number of the server's error, if there is one.
    async fn exchange(&mut self, statements: &[Statement], wrong: &mut String) -> Result<Vec<Vec<Row>>, Failure> {
        let text: Vec<_> = statements.iter().map(|statement| statement.sql.as_ref()).collect();
        let mut failed = |error: Error| {
            *wrong = code(&error).map_or_else(|| "other".to_owned(), |code| code.to_string());
            failure(&error)
        };
        let mut result = self.conn.query_iter(text.join(";\n")).await.map_err(&mut failed)?;
        let mut answers = Vec::with_capacity(statements.len());
        for _ in statements {
            let rows: Vec<mysql_async::Row> = result.collect().await.map_err(&mut failed)?;
            answers.push(rows.into_iter().map(row).collect::<Result<_, _>>()?);
        }
        Ok(answers)
    }
}

#[async_trait]
impl Session for MySession {
    async fn run(&mut self, statements: Vec<Statement>) -> Result<Vec<Vec<Row>>, Failure> {
        let begun = Instant::now();
        let mut wrong = String::new();
        let done = self.exchange(&statements, &mut wrong).await;
        self.metrics.sql(begun.elapsed(), &wrong);
        done
    }
}

fn row(row: mysql_async::Row) -> Result<Row, Failure> {
    let columns = row.columns();
    let cells = row.unwrap_raw().into_iter().zip(columns.iter()).map(|(value, column)| {
        let number = matches!(
            column.column_type(),
            ColumnType::MYSQL_TYPE_TINY
                | ColumnType::MYSQL_TYPE_SHORT
                | ColumnType::MYSQL_TYPE_INT24
                | ColumnType::MYSQL_TYPE_LONG
                | ColumnType::MYSQL_TYPE_LONGLONG
                // MariaDB's for a number that may have come from an unsigned or a signed column.
                | ColumnType::MYSQL_TYPE_NEWDECIMAL
        );
        match value {
            None | Some(Value::NULL) => Ok(Cell::Null),
            Some(Value::Bytes(bytes)) if number => {
                let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
                text.map(Cell::Int).ok_or_else(|| Failure::Schema(format!("{bytes:?} is no number")))
            }
            Some(Value::Bytes(bytes)) => Ok(Cell::Bytes(bytes.into())),
            Some(Value::Int(int)) => Ok(Cell::Int(int)),
            Some(other) => Err(Failure::Schema(format!("{other:?} is neither a number nor bytes"))),
        }
    });
    cells.collect::<Result<_, _>>().map(Row)
}

/// The number of the server's error, if it is one.
fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Server(error) => Some(error.code),
        _ => None,
    }
}

/// What an error of the client means.
/// Source: <https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html>.
pub(super) fn failure(error: &Error) -> Failure {
    let detail = error.to_string();
    match (code(error), error) {
        // Access denied for a user, to a database, with that plug-in; certificate wanted.
        (Some(1044 | 1045 | 1698 | 3159), _) => Failure::Denied(detail),
        // Duplicate key, lock wait timeout, deadlock, changed since last read.
        (Some(1020 | 1062 | 1205 | 1213), _) => Failure::Again(detail),
        (Some(1021 | 1114), _) => Failure::NoSpace(detail),
        // No such database, column, table.
        (Some(1049 | 1054 | 1146), _) => Failure::Schema(detail),
        // Too many connections, shutting down, killed, read-only, killed for idleness.
        (Some(1040 | 1053 | 1080 | 1203 | 1290 | 1836 | 1927 | 4031), _) => Failure::Unavailable(detail),
        (Some(_), _) => Failure::Other(detail),
        (None, Error::Io(IoError::Tls(_))) => Failure::Other(detail),
        (None, _) if detail.contains("certificate") => Failure::Other(detail),
        (None, Error::Io(_) | Error::Driver(DriverError::ConnectionClosed)) => Failure::Unavailable(detail),
        (None, _) => Failure::Other(detail),
    }
}
