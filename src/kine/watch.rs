//! Watches of a log of revisions: who writes or follows the log hands each batch of events to all of them, in order. One
//! that asks for events of the past is brought up to date from the table first.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};

use crate::{Error, Event, KeyValue, Revision, UNBOUNDED, WatchBatch};

/// Where the history stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) current: Revision,
    pub(crate) compacted: Revision,
}

/// A stretch of the history of a range.
pub(crate) struct Stretch {
    pub(crate) events: Vec<Event>,
    /// Every event up to here has been read.
    pub(crate) upto: Revision,
}

/// The table, as far as watches of the past need it.
#[async_trait]
pub(crate) trait History: Send + Sync + 'static {
    /// At most `limit` events on `interval` after `after`, and where the history stood when they were read.
    async fn events(&self, interval: &Interval, after: Revision, limit: usize) -> Result<(Position, Stretch), Error>;
}

/// Events in one batch, so that a watch's buffer, which counts batches, bounds its events too. More only if they are of
/// one revision.
const BATCH: usize = 32;
/// Events read from the table at once.
const STRETCH: usize = 128;
/// The newest events, kept so that a watch that starts from "now", or is nearly up to date, need not read the table:
/// on a busy datastore it would never quite catch up with the writer that way.
const RECENT: usize = 256;
/// What they may hold, in bytes of keys and values.
const RECENT_BYTES: usize = 256 << 10;

/// Which keys a watch is about: `[start, end)`.
#[derive(Debug, Clone)]
pub(crate) struct Interval {
    pub(crate) start: Bytes,
    pub(crate) end: Bytes,
}

impl Interval {
    pub(crate) fn contains(&self, key: &Bytes) -> bool {
        self.start <= *key && (self.end == UNBOUNDED || *key < self.end)
    }
}

/// Where the writer and the watches meet.
pub(crate) struct Hub {
    state: Mutex<State>,
    current: watch::Sender<Revision>,
}

struct State {
    position: Position,
    watchers: Vec<Watcher>,
    recent: Recent,
    closed: bool,
}

struct Watcher {
    interval: Interval,
    sender: mpsc::Sender<WatchBatch>,
    /// The last revision it was told of; 0 at first, so that the first progress comes even if nothing ever happens.
    told: Revision,
}

/// What became of an attempt to make a watch live.
pub(crate) enum Joined {
    Live,
    /// Events up to here are only in the table.
    Behind,
    /// Nobody receives, or nobody sends any more.
    Over,
}

impl Hub {
    pub(crate) fn new(position: Position) -> Self {
        let recent = Recent { events: VecDeque::new(), bytes: 0, after: position.current };
        let state = State { position, watchers: Vec::new(), recent, closed: false };
        Self { state: Mutex::new(state), current: watch::Sender::new(position.current) }
    }

    /// The newest revision that is on disk.
    pub(crate) fn current(&self) -> Revision {
        *self.current.borrow()
    }

    /// Waits until the writer has made `revision` known. A reader's snapshot can be a moment ahead of that; who was
    /// told of a revision must find it at every other call.
    pub(crate) async fn reached(&self, revision: Revision) -> Result<(), Error> {
        if self.current() < revision {
            self.current.subscribe().wait_for(|current| *current >= revision).await.map_err(|_| Error::Closed)?;
        }
        Ok(())
    }

    /// The writer has committed: tells all watches. One whose buffer is full is dropped; it never holds up the writer.
    pub(crate) fn publish(&self, position: Position, events: Vec<Event>) {
        let after = self.current();
        self.publish_after(after, position, events);
    }

    /// The same for one of several that may tell: `events` are all those after `after` up to `position`. What was told
    /// already is not told again. False if something before `after` has not been told yet; then nothing is done.
    pub(crate) fn publish_after(&self, after: Revision, position: Position, mut events: Vec<Event>) -> bool {
        let mut state = self.state.lock();
        let told = state.position.current;
        if after > told {
            return false;
        }
        if position.current <= told {
            return true;
        }
        events.retain(|event| event.revision() > told);
        state.position.current = position.current;
        state.position.compacted = state.position.compacted.max(position.compacted);
        if !events.is_empty() {
            state.watchers.retain_mut(|watcher| watcher.send(&events));
            state.recent.extend(events);
        }
        // Under the lock, so that it never goes back.
        self.current.send_replace(position.current);
        true
    }

    /// The history up to `revision` is gone.
    pub(crate) fn compacted(&self, revision: Revision) {
        let mut state = self.state.lock();
        state.position.compacted = state.position.compacted.max(revision);
    }

    /// Events up to `position` were missed for good: ends all watches, whose receivers learn of it when they watch again.
    pub(crate) fn lost(&self, position: Position) {
        let mut state = self.state.lock();
        state.watchers.clear();
        state.recent = Recent { events: VecDeque::new(), bytes: 0, after: position.current };
        state.position = position;
        self.current.send_replace(position.current);
    }

    /// Tells each watch that is behind only because its range was quiet where it stands.
    pub(crate) fn progress(&self) {
        let mut state = self.state.lock();
        let current = state.position.current;
        state.watchers.retain_mut(|watcher| watcher.progress(current));
    }

    /// Ends all watches.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.watchers.clear();
    }

    /// Whether events after `after` can be had.
    pub(crate) fn check(&self, after: Revision) -> Result<(), Error> {
        let state = self.state.lock();
        let Position { current, compacted } = state.position;
        match after {
            _ if state.closed => Err(Error::Closed),
            _ if after > current => Err(Error::Future { asked: after, current }),
            _ if after < compacted => Err(Error::Compacted { asked: after, compacted }),
            _ => Ok(()),
        }
    }

    /// Makes a watch live that has all events up to `told`, if the recent events fill the rest. The lock is what rules
    /// out a gap and a repetition: nothing is published between the look at what is missing and the entry in the list.
    pub(crate) fn join(&self, interval: &Interval, sender: &mpsc::Sender<WatchBatch>, told: Revision) -> Joined {
        let mut state = self.state.lock();
        if state.closed {
            return Joined::Over;
        }
        if told < state.recent.after {
            return Joined::Behind;
        }
        let mut watcher = Watcher { interval: interval.clone(), sender: sender.clone(), told: 0 };
        let missed = state.recent.events.iter().filter(|event| event.revision() > told);
        let missed: Vec<Event> = missed.filter(|event| interval.contains(event.key())).cloned().collect();
        if missed.len().div_ceil(BATCH) > sender.capacity() {
            // More than the receiver has taken so far has room for: not now, and not all at once.
            return Joined::Behind;
        }
        if !watcher.send(&missed) {
            return Joined::Over;
        }
        state.watchers.push(watcher);
        Joined::Live
    }
}

impl Watcher {
    /// Passes on the events it is about. False if it is to be dropped.
    fn send(&mut self, events: &[Event]) -> bool {
        let own = events.iter().filter(|event| self.interval.contains(event.key())).cloned();
        for batch in batches(own) {
            let told = batch.last().map_or(self.told, Event::revision);
            if let Err(error) = self.sender.try_send(WatchBatch::Events(batch)) {
                if matches!(error, TrySendError::Full(_)) {
                    let start = String::from_utf8_lossy(&self.interval.start);
                    tracing::debug!(%start, "dropped a watch that fell behind");
                }
                return false;
            }
            self.told = told;
        }
        true
    }

    /// False if nobody receives any more.
    fn progress(&mut self, current: Revision) -> bool {
        // With a full buffer there is something to receive, which is as good.
        if self.told < current && self.sender.try_send(WatchBatch::Progress(current)).is_ok() {
            self.told = current;
        }
        !self.sender.is_closed()
    }
}

/// Events in batches, none of which ends within a revision.
pub(crate) fn batches(events: impl Iterator<Item = Event>) -> impl Iterator<Item = Vec<Event>> {
    let mut events = events.peekable();
    std::iter::from_fn(move || {
        let mut batch: Vec<Event> = events.by_ref().take(BATCH).collect();
        let last = batch.last()?.revision();
        while let Some(event) = events.next_if(|event| event.revision() == last) {
            batch.push(event);
        }
        Some(batch)
    })
}

/// The newest events: all those after `after`.
struct Recent {
    events: VecDeque<Event>,
    bytes: usize,
    after: Revision,
}

impl Recent {
    fn extend(&mut self, events: Vec<Event>) {
        self.bytes += events.iter().map(size).sum::<usize>();
        self.events.extend(events);
        while self.events.len() > RECENT || self.bytes > RECENT_BYTES {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= size(&oldest);
            self.after = oldest.revision();
        }
    }
}

fn size(event: &Event) -> usize {
    let bytes = |kv: &KeyValue| kv.key.len() + kv.value.len();
    match event {
        Event::Put { kv, previous } => bytes(kv) + previous.as_ref().map_or(0, bytes),
        Event::Delete { previous, .. } => bytes(previous),
    }
}

/// Brings a watch up to date from the table, at the pace of its receiver, until the writer can take over.
pub(crate) async fn catch_up(
    hub: Arc<Hub>,
    history: Arc<dyn History>,
    interval: Interval,
    sender: mpsc::Sender<WatchBatch>,
    mut told: Revision,
) {
    while let Joined::Behind = hub.join(&interval, &sender, told) {
        let (position, stretch) = match history.events(&interval, told, STRETCH).await {
            Ok(read) => read,
            // Compaction overtook it, or the datastore closed: the receiver learns which when it watches again.
            Err(error) => return tracing::debug!(%error, "ended a watch of the past"),
        };
        for batch in batches(stretch.events.into_iter()) {
            if sender.send(WatchBatch::Events(batch)).await.is_err() {
                return;
            }
        }
        // The snapshot may be ahead of what is published; joining before that is would bring events twice.
        if hub.reached(position.current).await.is_err() {
            return;
        }
        told = stretch.upto;
    }
}
