//! Follows the log: whatever any server has written to it comes to the watches, once and in order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    pool::Pool,
    statement::{NewRow, Statement},
};
use crate::{Error, Revision, watch::Hub};

/// Rows read at once.
const STRETCH: i64 = 500;
/// The longest time between two looks, whatever the signs: programs of kine's kind write without giving one.
const LOOK: Duration = Duration::from_secs(1);
/// A revision that is missing between two others may be that of a transaction which is still open: time it is given.
/// Only kine makes such gaps.
const GAP_OPEN: Duration = Duration::from_millis(500);
/// The time between two looks at a gap, and after a failure.
const AGAIN: Duration = Duration::from_millis(50);

/// Who follows the log.
pub(super) struct Follower {
    pub(super) pool: Arc<Pool>,
    pub(super) hub: Arc<Hub>,
    /// The writer wrote after another server did, or a read saw what was not told yet.
    pub(super) written: Arc<Notify>,
    pub(super) progress_interval: Duration,
}

impl Follower {
    /// Follows until it is dropped.
    pub(super) async fn run(self) {
        let mut progress = tokio::time::interval(self.progress_interval);
        progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let changed = self.pool.driver().changed();
        tokio::pin!(changed);
        let mut gap = None;
        let look = tokio::time::sleep(LOOK);
        tokio::pin!(look);
        loop {
            tokio::select! {
                () = &mut changed => changed.set(self.pool.driver().changed()),
                () = self.written.notified() => {}
                _ = progress.tick() => {
                    self.hub.progress();
                    continue;
                }
                () = &mut look => {}
            }
            if let Err(error) = self.catch_up(&mut gap).await {
                // Each request says it to its caller; here it means only that watches are late.
                tracing::debug!(%error, "cannot follow the log");
                tokio::time::sleep(AGAIN).await;
            }
            look.as_mut().reset(tokio::time::Instant::now() + if gap.is_some() { AGAIN } else { LOOK });
        }
    }

    /// Tells the watches what they were not told yet.
    async fn catch_up(&self, gap: &mut Option<(Revision, Instant)>) -> Result<(), Error> {
        loop {
            let told = self.hub.current();
            let position = self.pool.position().await?;
            // Another server may have compacted.
            self.hub.compacted(position.compacted);
            self.pool.driver().metrics().position(position.current, position.compacted);
            if position.current < told {
                let now = position.current;
                tracing::error!(told, now, "the database has gone back: it lost what it had acknowledged");
                self.hub.lost(position);
                continue;
            }
            if position.current == told {
                *gap = None;
                return Ok(());
            }
            let (position, rows) = self.pool.follow(told, STRETCH).await?;
            if position.compacted > told {
                tracing::warn!(told, compacted = position.compacted, "watches missed what is compacted by now");
                self.hub.lost(position);
                continue;
            }
            let full = i64::try_from(rows.len()).is_ok_and(|read| read >= STRETCH);
            let mut upto = told;
            let mut events = Vec::new();
            let mut missing = None;
            for (revision, event) in rows {
                if revision != upto + 1 {
                    missing = Some(revision);
                    break;
                }
                upto = revision;
                events.extend(event);
            }
            self.hub.publish_after(told, crate::watch::Position { current: upto, ..position }, events);
            let Some(next) = missing else {
                *gap = None;
                if full {
                    continue;
                }
                return Ok(());
            };
            let since = match *gap {
                Some((after, since)) if after == upto => since,
                _ => Instant::now(),
            };
            *gap = Some((upto, since));
            if since.elapsed() < GAP_OPEN {
                return Ok(());
            }
            self.fill(upto + 1, next).await?;
        }
    }

    /// Puts rows into a gap, as kine does: who has not committed them by now can't any more.
    async fn fill(&self, from: Revision, to: Revision) -> Result<(), Error> {
        tracing::info!(from, to, "filling revisions that were skipped");
        let driver = self.pool.driver();
        let to = to.min(from + STRETCH);
        let rows: Vec<_> = (from..to).map(NewRow::gap).collect();
        let mut statements = driver.begin_write();
        statements.extend(driver.append(&rows));
        statements.push(Statement::plain("COMMIT"));
        // If one was committed after all, this fails until the next look, which finds the row.
        self.pool.run_within(GAP_OPEN, "fill a gap of revisions", &statements).await?;
        Ok(())
    }
}
