//! Keys and leases that end. Their ends are in the database, by its clock, so that it is the same for all servers, and
//! the clocks of those don't matter. Whichever server looks first deletes what has ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    ask,
    pool::Pool,
    statement::{Row, Statement},
    writer::Write,
};
use crate::{
    Error, LeaseId,
    op::{Op, Outcome},
};

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How many keys are deleted at once.
const AT_ONCE: usize = 256;
/// The database's clock was set, rather than slewed, if it moved this much, in milliseconds, against the monotonic one.
const CLOCK_SET: i64 = 2000;

/// Who looks for what has ended.
pub(super) struct Ends {
    pub(super) pool: Arc<Pool>,
    pub(super) writes: mpsc::Sender<Write>,
}

impl Ends {
    /// Looks until it is dropped.
    pub(super) async fn run(self) {
        let mut clock = Clock::default();
        let mut failing = false;
        loop {
            tokio::time::sleep(LOOK).await;
            match self.look(&mut clock).await {
                Ok(()) => failing = false,
                // Said once, as it is tried every second.
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(%error, "cannot end what has ended; trying on");
                }
                Err(error) => tracing::debug!(%error, "still cannot end what has ended"),
            }
        }
    }

    /// Gives rows that kine wrote their end: their time starts now, as it does on each start of kine. Granted leases
    /// have their whole time again, as in etcd when a new leader takes over; before anybody can ask to keep one alive.
    pub(super) async fn take_up(&self) -> Result<(), Error> {
        let now = self.pool.driver().now();
        let newest = "NOT EXISTS (SELECT 1 FROM kine AS newer WHERE newer.name = k.name AND newer.id > k.id)";
        let mut statements = self.pool.driver().begin_write();
        statements.extend([
            Statement::plain(format!(
                "INSERT INTO kine_lease (id, expires) SELECT k.id, {now} + k.lease * 1000 FROM kine AS k
                 WHERE k.lease > 0 AND k.deleted = 0 AND COALESCE(k.lease_id, 0) = 0 AND {newest}
                   AND NOT EXISTS (SELECT 1 FROM kine_lease AS l WHERE l.id = k.id)"
            )),
            Statement::plain(format!(
                "UPDATE kine_lease_grant SET expires = {now} + ttl * 1000 WHERE expires < {now} + ttl * 1000"
            )),
            Statement::plain("COMMIT"),
        ]);
        self.pool.run("take up leases", &statements).await?;
        Ok(())
    }

    async fn look(&self, clock: &mut Clock) -> Result<(), Error> {
        let now = self.pool.driver().now();
        let look = format!(
            "SELECT {now}, (SELECT COUNT(*) FROM kine_lease WHERE expires <= {now}),
                    (SELECT COUNT(*) FROM kine_lease_grant WHERE expires <= {now})"
        );
        let asked = Instant::now();
        let answers = self.pool.run("look for what has ended", &[Statement::plain(look)]).await?;
        let number = |column: usize| answers[0].first().map_or(Ok(0), |row| row.int(column));
        let failed = |failure: super::failure::Failure| self.pool.error(failure.into());
        let (wall, keys, leases) = (number(0).map_err(failed)?, number(1).map_err(failed)?, number(2).map_err(failed)?);
        if let Some(set) = clock.set(wall, asked, Instant::now()) {
            return self.follow_clock(set).await;
        }
        if keys > 0 {
            self.end_keys().await?;
        }
        if leases > 0 {
            let ended = format!("SELECT id FROM kine_lease_grant WHERE expires <= {now}");
            let answers = self.pool.run("look for leases that have ended", &[Statement::plain(ended)]).await?;
            for row in &answers[0] {
                let id: LeaseId = row.int(0).map_err(failed)?;
                // Another server may have been first.
                ask(&self.writes, self.pool.patience, Op::Revoke { id }).await?;
            }
        }
        Ok(())
    }

    async fn end_keys(&self) -> Result<(), Error> {
        let now = self.pool.driver().now();
        let ended = format!(
            "SELECT l.id, k.name FROM kine_lease AS l LEFT JOIN kine AS k ON k.id = l.id
             WHERE l.expires <= {now} ORDER BY l.expires LIMIT {AT_ONCE}"
        );
        let answers = self.pool.run("look for keys that have ended", &[Statement::plain(ended)]).await?;
        let mut void = Vec::new();
        let mut deletions = Vec::new();
        let key = |name: Bytes| self.pool.driver().key(&name);
        let read = |row: &Row| Ok((row.int(0)?, row.bytes(1)?.and_then(key)));
        for row in &answers[0] {
            let (id, key) = read(row).map_err(|failure: super::failure::Failure| self.pool.error(failure.into()))?;
            match key {
                Some(key) => {
                    let op = Op::Delete { key, expected: id };
                    deletions.push(async move { (id, ask(&self.writes, self.pool.patience, op).await) });
                }
                None => void.push(id),
            }
        }
        for (id, outcome) in futures::future::join_all(deletions).await {
            if let Outcome::Conflict { .. } = outcome? {
                // Kine, which knows nothing of these ends, has written the key again.
                void.push(id);
            }
        }
        if !void.is_empty() {
            let ids: Vec<_> = void.iter().map(ToString::to_string).collect();
            let forget = format!("DELETE FROM kine_lease WHERE id IN ({})", ids.join(", "));
            self.pool.run("forget the ends of rows that are gone", &[Statement::plain(forget)]).await?;
        }
        Ok(())
    }

    /// The database's clock was set by so many milliseconds: ends follow it. All servers notice; the first does it.
    async fn follow_clock(&self, set: i64) -> Result<(), Error> {
        tracing::warn!(milliseconds = set, "the clock of the database server was set; leases follow it");
        let now = self.pool.driver().now();
        let first =
            format!("NOT EXISTS (SELECT 1 FROM kine_clock WHERE set_at BETWEEN {now} - 10000 AND {now} + 10000)");
        let mut statements = self.pool.driver().begin_write();
        for table in ["kine_lease", "kine_lease_grant"] {
            statements.push(Statement::plain(format!("UPDATE {table} SET expires = expires + ({set}) WHERE {first}")));
        }
        statements.extend([
            Statement::plain("DELETE FROM kine_clock"),
            Statement::plain(format!("INSERT INTO kine_clock (set_at) VALUES ({now})")),
            Statement::plain("COMMIT"),
        ]);
        self.pool.run("let leases follow the clock", &statements).await?;
        Ok(())
    }
}

/// The database's clock as it was seen last.
#[derive(Default)]
struct Clock(Option<(i64, Instant)>);

impl Clock {
    /// By how many milliseconds the clock was set since the last look; none if it just went on. It showed `wall` at some
    /// moment between `asked` and `told`.
    fn set(&mut self, wall: i64, asked: Instant, told: Instant) -> Option<i64> {
        let milliseconds = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let (seen, at) = self.0.replace((wall, told))?;
        let took = milliseconds(told - asked);
        let passed = milliseconds(told.saturating_duration_since(at));
        let set = wall - seen - passed;
        // A slow answer makes the moment uncertain.
        (set.abs() > CLOCK_SET + took).then_some(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_shows_and_a_slow_answer_does_not() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut clock = Clock::default();
        assert_eq!(clock.set(5_000_000, at(0), at(1)), None);
        assert_eq!(clock.set(5_001_000, at(1000), at(1001)), None);
        assert_eq!(clock.set(8_602_000, at(2000), at(2001)), Some(3_600_000));
        assert_eq!(clock.set(8_603_000, at(3000), at(3001)), None, "once is enough");
        assert_eq!(clock.set(8_604_000, at(4000), at(9000)), None, "the answer was slow");
        assert_eq!(clock.set(5_010_000, at(10_000), at(10_001)), Some(-3_595_001));
    }
}
