//! Tells watches and callers what was committed, beside the writer, which goes on with the next transaction.
//!
//! It is a task of the runtime, not a thread: who is woken from there is woken cheaply. While it is busy, commits gather,
//! and are told together: the more watches there are, the fewer and larger batches they get.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
    mpsc as std_mpsc,
};

use tokio::sync::{mpsc, oneshot};

use super::{op::Outcome, schema::Position, watch::Hub};
use crate::{Error, Event};

/// Events that are told at once at most.
const GATHERED: usize = 1024;

/// A caller who waits for an answer, and the answer.
pub(super) type Answer = (oneshot::Sender<Result<Outcome, Error>>, Result<Outcome, Error>);

/// What came of a transaction.
pub(super) struct Committed {
    pub(super) position: Position,
    pub(super) events: Vec<Event>,
    pub(super) answers: Vec<Answer>,
}

/// The writer's end.
pub(super) struct Publisher {
    messages: mpsc::UnboundedSender<Message>,
    /// How many commits are not told yet.
    untold: Arc<AtomicUsize>,
}

enum Message {
    Committed(Committed),
    /// Answered when all before has been told.
    Flush(std_mpsc::Sender<()>),
}

impl Publisher {
    /// Starts the task. Must be called within a tokio runtime.
    pub(super) fn start(hub: Arc<Hub>) -> Self {
        let (messages, received) = mpsc::unbounded_channel();
        let untold = Arc::new(AtomicUsize::new(0));
        tokio::spawn(run(hub, received, Arc::clone(&untold)));
        Self { messages, untold }
    }

    /// Whether something was committed that is not told yet.
    pub(super) fn is_busy(&self) -> bool {
        self.untold.load(Ordering::Acquire) > 0
    }

    /// Has it told, in the order of calls.
    pub(super) fn tell(&self, committed: Committed) {
        self.untold.fetch_add(1, Ordering::Relaxed);
        // Without a runtime nobody waits for it.
        let _ = self.messages.send(Message::Committed(committed));
    }

    /// Waits until all is told, or nobody is left to be told.
    pub(super) fn flush(&self) {
        let (sender, flushed) = std_mpsc::channel();
        if self.messages.send(Message::Flush(sender)).is_ok() {
            // An error is the end of the runtime.
            let _ = flushed.recv();
        }
    }
}

async fn run(hub: Arc<Hub>, mut messages: mpsc::UnboundedReceiver<Message>, untold: Arc<AtomicUsize>) {
    while let Some(mut message) = messages.recv().await {
        let mut gathered: Option<Committed> = None;
        let mut commits = 0;
        let flush = loop {
            match message {
                Message::Flush(sender) => break Some(sender),
                Message::Committed(committed) => {
                    commits += 1;
                    match &mut gathered {
                        None => gathered = Some(committed),
                        Some(gathered) => {
                            gathered.position = committed.position;
                            gathered.events.extend(committed.events);
                            gathered.answers.extend(committed.answers);
                        }
                    }
                }
            }
            if gathered.as_ref().is_some_and(|gathered| gathered.events.len() >= GATHERED) {
                break None;
            }
            message = match messages.try_recv() {
                Ok(message) => message,
                Err(_) => break None,
            };
        };
        if let Some(Committed { position, events, answers }) = gathered {
            // Before the answers: who has one finds its write at the current revision.
            hub.publish(position, events);
            untold.fetch_sub(commits, Ordering::Release);
            for (reply, answer) in answers {
                // A caller that no longer waits needs no answer.
                let _ = reply.send(answer);
            }
        }
        if let Some(flushed) = flush {
            let _ = flushed.send(());
        }
        // The channel may never be empty; the callers must have their turn.
        tokio::task::yield_now().await;
    }
}
