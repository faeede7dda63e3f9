//! Connections: as many as are allowed, made when they are needed, made again when they break.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::{
    driver::{Driver, Session},
    failure::Failure,
    statement::{Row, Statement},
};
use crate::{Error, backoff::Backoff};

/// A connection that was not used for so long is not used again: servers close those that rest, as some are told to here.
pub(super) const RESTED: Duration = Duration::from_secs(30);
/// Connections at once where there is no limit: more only wait for each other's locks and the server's processors.
const ENOUGH: u32 = 32;

/// The limits, with kine's meanings.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// 0: no limit.
    pub(super) open: u32,
    pub(super) idle: usize,
    pub(super) lifetime: Option<Duration>,
}

/// The connections for reads and housekeeping. The writer has one of its own, since it never rests under load.
pub(super) struct Pool {
    driver: Arc<dyn Driver>,
    idle: Mutex<Vec<Idle>>,
    permits: Semaphore,
    limits: Limits,
    /// How long a request may take, with all its tries.
    pub(super) patience: Duration,
}

struct Idle {
    session: Box<dyn Session>,
    made: Instant,
    used: Instant,
}

impl Pool {
    pub(super) fn new(driver: Arc<dyn Driver>, limits: Limits, patience: Duration) -> Self {
        // Two are the writer's, and the one that waits for signs of others' writes.
        let open = if limits.open == 0 { ENOUGH } else { limits.open.saturating_sub(2).max(1) };
        let permits = Semaphore::new(usize::try_from(open).unwrap_or(usize::MAX));
        Self { driver, idle: Mutex::default(), permits, limits, patience }
    }

    pub(super) fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    /// Executes statements that may be executed again: nothing but reads, or a whole transaction that comes to the same
    /// if it is done twice. Tries for as long as a request may take.
    pub(super) async fn run(&self, doing: &'static str, statements: &[Statement]) -> Result<Vec<Vec<Row>>, Error> {
        self.run_within(self.patience, doing, statements).await
    }

    /// The same with a time of its own.
    pub(super) async fn run_within(
        &self,
        patience: Duration,
        doing: &'static str,
        statements: &[Statement],
    ) -> Result<Vec<Vec<Row>>, Error> {
        let mut backoff = Backoff::new(patience);
        loop {
            let failure = match self.attempt(statements, backoff.left()).await {
                Ok(rows) => return Ok(rows),
                Err(Attempt::Closed) => return Err(Error::Closed),
                Err(Attempt::Failed(failure)) => failure,
            };
            if !failure.passes() || !backoff.pause().await {
                return Err(failure.to_error(self.driver.server(), doing));
            }
        }
    }

    async fn attempt(&self, statements: &[Statement], time: Duration) -> Result<Vec<Vec<Row>>, Attempt> {
        let late = || Failure::Unavailable(format!("no answer within {time:?}"));
        let attempt = async {
            let _permit = self.permits.acquire().await.map_err(|_| Attempt::Closed)?;
            let idle = self.take_idle();
            let mut idle = match idle {
                Some(idle) => idle,
                None => {
                    let session = self.driver.connect().await.map_err(Attempt::Failed)?;
                    Idle { session, made: Instant::now(), used: Instant::now() }
                }
            };
            match idle.session.run(statements.to_vec()).await {
                Ok(rows) => {
                    let mut all = self.idle.lock();
                    idle.used = Instant::now();
                    if all.len() < self.limits.idle {
                        all.push(idle);
                    }
                    Ok(rows)
                }
                Err(failure) => {
                    // What broke one connection has most likely broken the others.
                    if matches!(failure, Failure::Unavailable(_)) {
                        self.idle.lock().clear();
                    }
                    Err(Attempt::Failed(failure))
                }
            }
        };
        match tokio::time::timeout(time, attempt).await {
            Ok(answer) => answer,
            Err(_) => Err(Attempt::Failed(late())),
        }
    }

    fn take_idle(&self) -> Option<Idle> {
        let mut all = self.idle.lock();
        while let Some(idle) = all.pop() {
            let young = self.limits.lifetime.is_none_or(|lifetime| idle.made.elapsed() < lifetime);
            if young && idle.used.elapsed() < RESTED {
                return Some(idle);
            }
        }
        None
    }

    /// Refuses everything from now on.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
    }
}

enum Attempt {
    Closed,
    Failed(Failure),
}
