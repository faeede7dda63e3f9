//! The writer of this server: one task, one connection. It takes all writes that wait and commits them in one
//! transaction (group commit): one exchange reads what they are about, a second writes and commits.
//!
//! The transaction begins when no other server's is open, so revisions follow each other without a gap, in the order of
//! commits, through however many servers they come.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    driver::{Driver, Session},
    failure::Failure,
    op::{self, Past},
    pool::RESTED,
    query::{self, RangeQuery, Refusal, range_of},
    statement::Statement,
    view::{Needs, View},
};
use crate::{
    Error, TxnOp,
    backoff::Backoff,
    op::{Op, Outcome},
    watch::{Hub, Position},
};

/// Writes in one transaction at most, and the bytes of their values: bounds for its memory, for what a server takes in
/// one exchange, and for how long the first waits for the last.
const BATCH: usize = 512;
const BATCH_BYTES: usize = 2 << 20;

/// A write, and who waits for it.
pub(super) struct Write {
    pub(super) op: Op,
    pub(super) reply: oneshot::Sender<Result<Outcome, Error>>,
}

/// The writer's state.
pub(super) struct Writer {
    pub(super) driver: Arc<dyn Driver>,
    pub(super) hub: Arc<Hub>,
    /// Wakes who follows the log.
    pub(super) written: Arc<Notify>,
    pub(super) requests: mpsc::Receiver<Write>,
    /// The longest that a write waits.
    pub(super) patience: Duration,
    pub(super) session: Option<Box<dyn Session>>,
    pub(super) used: Instant,
    /// A failure is logged when it begins, and when it is over.
    pub(super) failing: bool,
}

/// How an attempt failed.
enum Attempt {
    /// Nothing was written.
    Before(Failure),
    /// It broke while it was committed.
    Unknown(Failure),
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Attempt::Before(failure)
    }
}

impl Writer {
    /// Serves writes until nobody can ask any more.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.requests.recv().await {
            let mut bytes = size(&first.op);
            let mut writes = vec![first];
            while writes.len() < BATCH && bytes < BATCH_BYTES {
                let Ok(next) = self.requests.try_recv() else { break };
                bytes += size(&next.op);
                writes.push(next);
            }
            self.commit(writes).await;
        }
    }

    /// Makes the writes durable, in order; tries until their callers give up.
    async fn commit(&mut self, mut writes: Vec<Write>) {
        let mut backoff = Backoff::new(self.patience);
        loop {
            writes.retain(|write| !write.reply.is_closed());
            if writes.is_empty() {
                return;
            }
            let late = || Attempt::Unknown(Failure::Unavailable("no answer in time".into()));
            let attempt = tokio::time::timeout(backoff.left(), self.transact(&writes)).await;
            let failed = match attempt.unwrap_or_else(|_| Err(late())) {
                Ok((begun, position, events, outcomes)) => {
                    if std::mem::take(&mut self.failing) {
                        tracing::info!(server = self.driver.server(), "the datastore can be written to again");
                    }
                    self.driver.metrics().revision(position.current);
                    // Before the answers: who has one finds its write at the current revision.
                    if !self.hub.publish_after(begun, position, events) {
                        self.written.notify_one();
                    }
                    for (write, outcome) in writes.into_iter().zip(outcomes) {
                        // A caller that no longer waits needs no answer.
                        let _ = write.reply.send(Ok(outcome));
                    }
                    return;
                }
                Err(failed) => failed,
            };
            // The server takes back what was not committed.
            self.session = None;
            let (failure, again) = match failed {
                Attempt::Before(failure) => (failure.clone(), failure.passes()),
                Attempt::Unknown(failure) => (failure, false),
            };
            if !matches!(failure, Failure::Again(_)) && !std::mem::replace(&mut self.failing, true) {
                tracing::error!(server = self.driver.server(), error = %failure, "cannot write to the datastore");
            }
            let again = again && backoff.pause().await;
            self.driver.metrics().insert_error(again);
            if again {
                continue;
            }
            for write in writes {
                let _ = write.reply.send(Err(failure.to_error(self.driver.server(), "write")));
            }
            return;
        }
    }

    async fn transact(
        &mut self,
        writes: &[Write],
    ) -> Result<(i64, Position, Vec<crate::Event>, Vec<Outcome>), Attempt> {
        if std::mem::replace(&mut self.used, Instant::now()).elapsed() > RESTED {
            self.session = None;
        }
        if self.session.is_none() {
            self.session = Some(self.driver.connect().await?);
        }
        let driver = Arc::clone(&self.driver);
        let Some(session) = self.session.as_mut() else {
            return Err(Failure::Unavailable("no connection".into()).into());
        };
        let (mut view, mut past) = begin(&*driver, &mut **session, writes).await?;
        let mut outcomes = Vec::with_capacity(writes.len());
        for write in writes {
            let count = match &write.op {
                Op::Txn(txn) => txn.success.iter().chain(&txn.failure).filter(|op| op::is_past(op)).count(),
                _ => 0,
            };
            let own = past.drain(..count).collect();
            outcomes.push(op::apply(&mut view, write.op.clone(), own));
        }
        let committed = session.run(changes(&*driver, &view)).await;
        if let Err(failure) = committed {
            return Err(match failure {
                // The server has said that it did not.
                Failure::Again(_) | Failure::NoSpace(_) => Attempt::Before(failure),
                _ => Attempt::Unknown(failure),
            });
        }
        Ok((view.begun.current, view.position, view.events, outcomes))
    }
}

/// Begins a transaction, and reads in the same exchange all that the writes need to know.
async fn begin(driver: &dyn Driver, session: &mut dyn Session, writes: &[Write]) -> Result<(View, Past), Failure> {
    let mut needs = Needs::default();
    let mut past = Vec::new();
    for write in writes {
        op::needs(driver, &write.op, &mut needs);
        if let Op::Txn(txn) = &write.op {
            let asked = txn.success.iter().chain(&txn.failure).filter(|op: &&TxnOp| op::is_past(op));
            past.extend(asked.filter_map(range_of));
        }
    }
    needs.keys.sort();
    needs.keys.dedup();
    needs.leases.retain(|id| *id != 0);

    let mut statements = driver.begin_write();
    let position = statements.len();
    statements.push(driver.position());
    if !needs.keys.is_empty() {
        statements.push(driver.latest(&needs.keys));
    }
    for (start, end) in &needs.ranges {
        statements.push(driver.range(&driver.names(start, end), query::NOW, None));
    }
    let revoked = statements.len();
    statements.extend(needs.revoked.iter().map(|id| driver.attached(*id)));
    let leases = statements.len();
    if !needs.leases.is_empty() {
        let ids: Vec<_> = needs.leases.iter().map(ToString::to_string).collect();
        let ids = ids.join(", ");
        statements.push(Statement::plain(format!("SELECT id, ttl FROM kine_lease_grant WHERE id IN ({ids})")));
    }
    let ranges = statements.len();
    statements.extend(past.iter().flat_map(|query: &RangeQuery| query.statements(driver)));

    let answers = session.run(statements).await?;
    let mut view = View::new(query::position(&answers[position])?);
    for rows in &answers[position + 1..revoked] {
        view.learn(driver, rows)?;
    }
    for (id, rows) in needs.revoked.iter().zip(&answers[revoked..leases]) {
        view.learn_attached(driver, *id, rows)?;
    }
    for row in answers[leases..ranges].iter().flatten() {
        view.leases.insert(row.int(0)?, Some(row.int(1)?));
    }
    let mut read = Past::new();
    for (query, answer) in past.iter().zip(answers[ranges..].chunks(2)) {
        let [rows, count] = answer else { return Err(Failure::Other("an answer is missing".into())) };
        read.push(match query.answer(driver, view.position, rows, count) {
            Ok(range) => Ok(range),
            Err(Refusal::Refused(error)) => Err(error),
            Err(Refusal::Failed(failure)) => return Err(failure),
        });
    }
    Ok((view, read))
}

/// The statements that write what has changed, and end the transaction.
fn changes(driver: &dyn Driver, view: &View) -> Vec<Statement> {
    let mut statements = Vec::new();
    if !view.rows.is_empty() {
        statements.extend(driver.append(&view.rows));
    }
    let list = |ids: &[i64]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let dead = &view.superseded;
    if !dead.is_empty() {
        statements.push(Statement::plain(format!("DELETE FROM kine_lease WHERE id IN ({})", list(dead))));
    }
    let live = view.rows.iter().filter(|row| row.ttl > 0 && row.lease_id.is_none() && !dead.contains(&row.id));
    let live: Vec<_> = live.map(|row| (row.id, row.ttl.min(1 << 40))).collect();
    if !live.is_empty() {
        statements.push(driver.remember(&live));
    }
    for (id, ttl) in &view.granted {
        let now = driver.now();
        statements.push(Statement::plain(format!("DELETE FROM kine_lease_grant WHERE id = {id}")));
        if let Some(ttl) = ttl {
            let ends = ttl * 1000;
            let insert =
                format!("INSERT INTO kine_lease_grant (id, ttl, expires) VALUES ({id}, {ttl}, {now} + {ends})");
            statements.push(Statement::plain(insert));
        }
    }
    statements.push(Statement::plain("COMMIT"));
    statements
}

/// What a write has to carry, in bytes.
fn size(op: &Op) -> usize {
    let put = |op: &TxnOp| match op {
        TxnOp::Put { value, .. } => value.as_ref().map_or(0, Bytes::len),
        TxnOp::Range { .. } | TxnOp::Delete { .. } => 0,
    };
    match op {
        Op::Create { value, .. } | Op::Update { value, .. } => value.len(),
        Op::Txn(txn) => txn.success.iter().chain(&txn.failure).map(put).sum(),
        Op::Delete { .. } | Op::Grant { .. } | Op::Revoke { .. } => 0,
    }
}
