//! Follows etcd's history and hands it to the watches: the new part to all of them, an older one to a watch that asks.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;

use super::{
    cluster::Cluster,
    failure::Failure,
    stream::{Broken, EventStream},
};
use crate::{
    Metrics, Revision, WatchBatch,
    watch::{Hub, Interval, Joined, Position, batches},
};

/// The wait after a stream broke, before another member is asked.
const AGAIN: Duration = Duration::from_millis(50);

/// Who follows the history.
pub(super) struct Follower {
    pub(super) cluster: Arc<Cluster>,
    pub(super) hub: Arc<Hub>,
    pub(super) metrics: Metrics,
    pub(super) progress_interval: Duration,
    /// Which cluster it was when it was opened.
    pub(super) id: u64,
}

impl Follower {
    /// Follows until it is dropped.
    pub(super) async fn run(mut self) {
        let hub = Arc::clone(&self.hub);
        let mut progress = tokio::time::interval(self.progress_interval);
        progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let following = self.follow();
        tokio::pin!(following);
        loop {
            tokio::select! {
                () = &mut following => return,
                _ = progress.tick() => hub.progress(),
            }
        }
    }

    async fn follow(&mut self) {
        let mut failing = false;
        loop {
            let turn = self.cluster.turn();
            let failure = match self.stream(&mut failing).await {
                Ok(()) => continue,
                Err(failure) => failure,
            };
            if !std::mem::replace(&mut failing, true) {
                tracing::warn!(server = self.cluster.server, error = %failure, "watches of etcd wait for it");
            }
            self.cluster.give_up(turn, &failure);
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Follows one stream until it breaks. `Ok`: what was missed is accounted for; begin again.
    async fn stream(&mut self, failing: &mut bool) -> Result<(), Failure> {
        let mut told = self.hub.current();
        let seen = self.cluster.seen().await?;
        if seen.cluster != self.id || seen.revision < told {
            let now = seen.revision;
            tracing::error!(told, now, "etcd is another one, or has gone back: it lost what it had acknowledged");
            self.id = seen.cluster;
            self.lost(now);
            return Ok(());
        }
        let mut stream = self.cluster.events(told).await?;
        if std::mem::take(failing) {
            tracing::info!(server = self.cluster.server, "watches of etcd go on");
        }
        loop {
            match stream.next().await {
                Ok((events, upto)) => {
                    self.hub.publish_after(told, Position { current: upto, compacted: 0 }, events);
                    told = upto;
                    self.metrics.revision(upto);
                }
                Err(Broken::Failed(failure)) => return Err(failure),
                Err(Broken::Compacted(missed) | Broken::Missing(missed)) => {
                    tracing::warn!(told, missed, "watches missed what is compacted by now");
                    self.lost(self.cluster.seen().await?.revision);
                    return Ok(());
                }
            }
        }
    }

    /// Ends all watches, whose receivers learn that they have missed something: as if all up to now were compacted.
    fn lost(&self, now: Revision) {
        self.hub.lost(Position { current: now, compacted: now });
    }
}

/// Brings a watch up to date from etcd's history, at the pace of its receiver, until the follower can take over.
pub(super) async fn catch_up(
    cluster: Arc<Cluster>,
    hub: Arc<Hub>,
    interval: Interval,
    sender: mpsc::Sender<WatchBatch>,
    mut told: Revision,
) {
    loop {
        let turn = cluster.turn();
        let failure = match cluster.events(told).await {
            Ok(stream) => match pass_on(stream, &hub, &interval, &sender, &mut told).await {
                // The receiver learns of a compaction when it watches again.
                Ok(()) | Err(Broken::Compacted(_) | Broken::Missing(_)) => return,
                Err(Broken::Failed(failure)) => failure,
            },
            Err(failure) => failure,
        };
        if !failure.passes() {
            return tracing::debug!(error = %failure, "ended a watch of the past");
        }
        cluster.give_up(turn, &failure);
        tokio::time::sleep(AGAIN).await;
    }
}

/// `Ok`: the watch is live, or nobody receives any more.
async fn pass_on(
    mut stream: EventStream,
    hub: &Hub,
    interval: &Interval,
    sender: &mpsc::Sender<WatchBatch>,
    told: &mut Revision,
) -> Result<(), Broken> {
    loop {
        let (events, upto) = tokio::select! {
            next = stream.next() => next?,
            () = sender.closed() => return Ok(()),
        };
        for batch in batches(events.into_iter().filter(|event| interval.contains(event.key()))) {
            if sender.send(WatchBatch::Events(batch)).await.is_err() {
                return Ok(());
            }
        }
        *told = upto;
        // This stream may be ahead of the follower's; joining before that is told would bring events twice.
        if hub.reached(upto).await.is_err() {
            return Ok(());
        }
        if !matches!(hub.join(interval, sender, upto), Joined::Behind) {
            return Ok(());
        }
    }
}
