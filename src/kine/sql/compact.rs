//! Compaction: forgets superseded rows in small transactions, between which writes go through. Each comes to the same
//! when it is done twice, so several servers may compact at once.

use std::{sync::Arc, time::Duration};

use super::{pool::Pool, statement::Statement};
use crate::{Error, Revision, table::COMPACT_REV_KEY, watch::Hub};

/// Revisions in one transaction: some milliseconds.
const PIECE: Revision = 250;

/// Who compacts by itself.
pub(super) struct Compactor {
    pub(super) pool: Arc<Pool>,
    pub(super) hub: Arc<Hub>,
    pub(super) interval: Duration,
    pub(super) retain: Revision,
}

impl Compactor {
    /// Compacts now and then until it is dropped. What happened since the last time stays, as in kine, so that a client
    /// with a list or watch of some minutes ago can go on from there.
    pub(super) async fn run(self) {
        let mut previous = self.hub.current();
        loop {
            tokio::time::sleep(self.interval).await;
            let current = self.hub.current();
            let target = previous.min(current - self.retain);
            previous = current;
            if target <= 0 {
                continue;
            }
            let done = compact(&self.pool, &self.hub, target).await;
            self.pool.driver().metrics().compacted(done.is_ok());
            if let Err(error) = done {
                tracing::warn!(%error, "cannot compact the datastore; trying again later");
            }
        }
    }
}

/// Forgets what was superseded up to `target`.
///
/// How far it came is recorded in the same transaction: a crash between two steps leaves no row behind for ever. A key's
/// last value and its deletion go together, since the value is what the deletion superseded.
pub(super) async fn compact(pool: &Pool, hub: &Hub, target: Revision) -> Result<(), Error> {
    let position = pool.position().await?;
    if target > position.current {
        return Err(Error::Future { asked: target, current: position.current });
    }
    let mut done = position.compacted;
    while done < target {
        let upto = target.min(done + PIECE);
        let current = position.current;
        let statements = [
            Statement::plain("BEGIN"),
            Statement::plain(format!("SELECT id FROM kine WHERE name = '{COMPACT_REV_KEY}' FOR UPDATE")),
            pool.driver().forget(done, upto),
            // The newest row stays whatever it is, since its id is the revision of the datastore. It may be where the
            // last compaction ended: so from there on, not from the row after it.
            Statement::plain(format!(
                "DELETE FROM kine WHERE id >= {done} AND id <= {upto} AND id < {current} AND deleted <> 0"
            )),
            Statement::plain(format!(
                "UPDATE kine SET prev_revision = {upto} WHERE name = '{COMPACT_REV_KEY}' AND prev_revision < {upto}"
            )),
            Statement::plain("COMMIT"),
        ];
        pool.run("compact", &statements).await?;
        hub.compacted(upto);
        pool.driver().metrics().compact_revision(upto);
        done = upto;
    }
    tracing::debug!(revision = target, "compacted");
    Ok(())
}
