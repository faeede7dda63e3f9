//! One watch: takes what the datastore tells and sends what the client wants of it. Where the datastore drops it, because
//! the client was slow, it goes on from where it was.

use bytes::Bytes;
use etcd_client::proto::{PbEvent, PbWatchResponse};
use tokio::sync::watch;

use super::session::Answers;
use crate::{
    Error, Event, Revision, WatchBatch,
    grpc::{Face, message},
};

/// What a message holds at most, in bytes of keys and values, if that is more than one event.
const MESSAGE: usize = 2 << 20;

/// What a client wants to know.
pub(super) struct Watcher {
    pub(super) start: Bytes,
    pub(super) end: Bytes,
    /// The first revision it wants; 0: the next there is.
    pub(super) start_revision: Revision,
    pub(super) without_puts: bool,
    pub(super) without_deletes: bool,
    pub(super) with_previous: bool,
    pub(super) with_progress: bool,
    /// Events of one revision may come in several messages.
    pub(super) fragments: bool,
}

/// How far the client has been told.
pub(super) struct Told(pub(super) watch::Sender<Revision>);

impl Told {
    fn upto(&self, revision: Revision) {
        self.0.send_replace(revision);
    }
}

/// Nobody receives answers any more.
struct Gone;

impl Watcher {
    /// The revision up to which it needs no events, on a datastore that is at `current`.
    pub(super) fn after(&self, current: Revision) -> Revision {
        if self.start_revision > 0 { current.min(self.start_revision - 1) } else { current }
    }

    /// Tells the client until it is gone, or until the datastore can't go on.
    pub(super) async fn run(self, id: i64, face: Face, answers: Answers, told: Told, current: Revision) {
        let mut after = self.after(current);
        loop {
            let mut batches = match face.store.watch(self.start.clone(), self.end.clone(), after).await {
                Ok(batches) => batches,
                Err(error) => {
                    // If nobody receives it, nobody needs it.
                    let _ = answers.send(Ok(canceled(&face, id, after, &error))).await;
                    return;
                }
            };
            while let Some(batch) = batches.recv().await {
                let answered = match batch {
                    WatchBatch::Events(events) => {
                        after = events.last().map_or(after, Event::revision);
                        self.tell(id, &face, &answers, events).await
                    }
                    WatchBatch::Progress(revision) => {
                        after = after.max(revision);
                        self.tell_progress(id, &face, &answers, revision).await
                    }
                };
                if let Err(Gone) = answered {
                    return;
                }
                told.upto(after);
            }
        }
    }

    async fn tell(&self, id: i64, face: &Face, answers: &Answers, events: Vec<Event>) -> Result<(), Gone> {
        let revision = events.last().map_or(0, Event::revision);
        let wanted = |event: &Event| {
            event.revision() >= self.start_revision
                && match event {
                    Event::Put { .. } => !self.without_puts,
                    Event::Delete { .. } => !self.without_deletes,
                }
        };
        let mut events = events.into_iter().filter(wanted).peekable();
        while let Some(first) = events.next() {
            let mut last = first.revision();
            let first = message::event(first, self.with_previous);
            let mut held = size(&first);
            let mut message = vec![first];
            // Between revisions a message may end; within one only where the client can put the parts together.
            while let Some(next) = events.next_if(|next| held < MESSAGE || (next.revision() == last && !self.fragments))
            {
                last = next.revision();
                let next = message::event(next, self.with_previous);
                held += size(&next);
                message.push(next);
            }
            let fragment = events.peek().is_some_and(|next| next.revision() == last);
            let answer = PbWatchResponse {
                header: face.header(revision),
                watch_id: id,
                events: message,
                fragment,
                ..PbWatchResponse::default()
            };
            answers.send(Ok(answer)).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    async fn tell_progress(&self, id: i64, face: &Face, answers: &Answers, revision: Revision) -> Result<(), Gone> {
        if !self.with_progress || revision < self.start_revision {
            return if answers.is_closed() { Err(Gone) } else { Ok(()) };
        }
        let progress = PbWatchResponse { header: face.header(revision), watch_id: id, ..PbWatchResponse::default() };
        answers.send(Ok(progress)).await.map_err(|_| Gone)
    }
}

/// The end of a watch that can't go on.
fn canceled(face: &Face, id: i64, after: Revision, error: &Error) -> PbWatchResponse {
    let canceled =
        PbWatchResponse { header: face.header(after), watch_id: id, canceled: true, ..PbWatchResponse::default() };
    match error {
        // The first revision at which a new watch may begin.
        Error::Compacted { compacted, .. } => PbWatchResponse { compact_revision: compacted + 1, ..canceled },
        error => PbWatchResponse { cancel_reason: error.to_string(), ..canceled },
    }
}

fn size(event: &PbEvent) -> usize {
    [&event.kv, &event.prev_kv].into_iter().flatten().map(|kv| kv.key.len() + kv.value.len()).sum()
}
