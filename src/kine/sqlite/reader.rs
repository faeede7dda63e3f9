//! Readers: a few connections, each reading its own snapshot on a blocking thread, beside each other and the writer.

use std::{path::PathBuf, sync::Arc, time::Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{
    connection,
    failure::{self, Failure},
    query::{self, Refusal},
    schema::{self, Position},
};
use crate::{
    Error, Metrics, Revision,
    watch::{History, Interval, Stretch},
};

/// The connections that aren't in use, and as many permits as there may be connections.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
    count: u32,
    metrics: Metrics,
}

impl Readers {
    /// Connections are made when they are first needed.
    pub(super) fn new(path: PathBuf, count: u32, metrics: Metrics) -> Self {
        let permits = Semaphore::new(usize::try_from(count).unwrap_or(usize::MAX));
        Self { path, idle: Mutex::default(), permits, count, metrics }
    }

    /// Runs `query` on a snapshot. Returns the snapshot's position with the answer.
    pub(super) async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection, Position) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<(Position, T), Error> {
        let Ok(_permit) = self.permits.acquire().await else { return Err(Error::Closed) };
        let readers = Arc::clone(self);
        let read = move || readers.run(query);
        match tokio::task::spawn_blocking(read).await {
            Ok(answer) => answer,
            Err(error) => Err(Error::Backend { doing: "read", detail: error.to_string() }),
        }
    }

    fn run<T>(&self, query: impl FnOnce(&Connection, Position) -> Result<T, Refusal>) -> Result<(Position, T), Error> {
        let failed = |error: rusqlite::Error| Failure::new(&self.path, "read", &error);
        let started = Instant::now();
        let answer = self.with_snapshot(query);
        let code = match &answer {
            Err(Refusal::Sqlite(error)) => failure::code(error),
            _ => String::new(),
        };
        self.metrics.sql(started.elapsed(), &code);
        answer.map_err(|refusal| match refusal {
            Refusal::Refused(error) => error,
            Refusal::Sqlite(error) => failed(error).into(),
        })
    }

    /// Runs `query` on a snapshot of its own, on this thread, if a reader is free.
    pub(super) fn beside<T>(
        &self,
        query: impl FnOnce(&Connection, Position) -> Result<T, Refusal>,
    ) -> Option<Result<(Position, T), Refusal>> {
        let _permit = self.permits.try_acquire().ok()?;
        Some(self.with_snapshot(query))
    }

    fn with_snapshot<T>(
        &self,
        query: impl FnOnce(&Connection, Position) -> Result<T, Refusal>,
    ) -> Result<(Position, T), Refusal> {
        let idle = self.idle.lock().pop();
        let conn = match idle {
            Some(conn) => conn,
            None => connection::reader(&self.path)?,
        };
        let answer = (|| {
            let snapshot = conn.unchecked_transaction()?;
            let position = schema::position(&snapshot)?;
            let answer = query(&snapshot, position)?;
            snapshot.commit()?;
            Ok((position, answer))
        })();
        self.idle.lock().push(conn);
        answer
    }

    /// Waits for the reads that are under way, and refuses new ones.
    pub(super) async fn close(&self) {
        // An error means it is closed already.
        if let Ok(_all) = self.permits.acquire_many(self.count).await {
            self.permits.close();
            self.idle.lock().clear();
        }
    }
}

#[async_trait]
impl History for Arc<Readers> {
    async fn events(&self, interval: &Interval, after: Revision, limit: usize) -> Result<(Position, Stretch), Error> {
        let Interval { start, end } = interval.clone();
        self.read(move |conn, position| query::events(conn, position, &start, &end, after, limit)).await
    }
}
