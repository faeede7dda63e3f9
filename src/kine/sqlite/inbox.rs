//! How requests come to the writer, and who does them.
//!
//! Usually that is the writer's thread: it takes all that wait and commits them together. But to wake a thread, and to be
//! woken by it, takes as long as a commit to a good disk, and on a busy machine many times as long. So a caller who finds
//! nobody else there does its write itself, on its own thread, which then waits for the disk. It does so only if the disk
//! has been quick of late ([`Writer::may_be_waited_for`]), as that thread is one of the runtime's few.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::{
    op::{Op, Outcome},
    writer::{Request, Write, Writer},
};
use crate::Error;

/// Writes in one transaction at most: a bound for its memory, and for how long the first waits for the last.
const BATCH: usize = 512;
/// A crowd that was answered comes back within moments. The thread gives it so long, rather than begin a transaction for
/// the first, which all others would have to wait for.
const GATHER: Duration = Duration::from_micros(100);

/// What callers have of the writer. When the last is gone, the writer ends, after what was asked before.
pub(super) struct Requests(Arc<Inbox>);

struct Inbox {
    /// Whoever holds this lock writes. `None` after the end. To be locked before `waiting`.
    writer: Mutex<Option<Writer>>,
    waiting: Mutex<Waiting>,
    /// Where the thread sleeps.
    wake: Condvar,
}

struct Waiting {
    requests: VecDeque<Request>,
    /// When the thread has something to do by itself.
    due: Instant,
    asleep: bool,
    /// How many have been writing at the same time lately.
    crowd: usize,
    /// There are no more requests to come.
    ended: bool,
}

/// Where a write stands.
pub(super) enum Submitted {
    Done(Result<Outcome, Error>),
    Waits(oneshot::Receiver<Result<Outcome, Error>>),
}

impl Requests {
    /// Starts the writer's thread.
    pub(super) fn start(writer: Writer) -> std::io::Result<Self> {
        let waiting = Waiting { requests: VecDeque::new(), due: Instant::now(), asleep: false, crowd: 0, ended: false };
        let inbox =
            Arc::new(Inbox { writer: Mutex::new(Some(writer)), waiting: Mutex::new(waiting), wake: Condvar::new() });
        std::thread::Builder::new().name("kine-writer".into()).spawn({
            let inbox = Arc::clone(&inbox);
            move || inbox.run()
        })?;
        Ok(Self(inbox))
    }

    /// Has the writer do it, at some time.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(super) fn send(&self, request: Request) -> Result<(), Error> {
        let mut waiting = self.0.waiting.lock();
        if waiting.ended {
            return Err(Error::Closed);
        }
        waiting.requests.push_back(request);
        if std::mem::take(&mut waiting.asleep) {
            drop(waiting);
            self.0.wake.notify_one();
        }
        Ok(())
    }

    /// Writes, or has the writer's thread do it if it is at work already.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub(super) fn write(&self, op: Op) -> Result<Submitted, Error> {
        if let Some(mut writer) = self.0.writer.try_lock()
            && let Some(writer) = writer.as_mut()
            && self.0.waiting.lock().is_quiet()
            && writer.may_be_waited_for()
        {
            let submitted = writer.write_now(op);
            let due = writer.due();
            let mut waiting = self.0.waiting.lock();
            if due < waiting.due {
                waiting.due = due;
                waiting.asleep = false;
                self.0.wake.notify_one();
            }
            return Ok(submitted);
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Write(Write { op, reply: Some(reply) }))?;
        Ok(Submitted::Waits(answer))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.0.waiting.lock().ended = true;
        self.0.wake.notify_one();
    }
}

impl Waiting {
    /// Nobody else waits, nor has been there a moment ago.
    fn is_quiet(&self) -> bool {
        self.requests.is_empty() && self.crowd <= 1 && !self.ended
    }

    /// The next requests, with no more writes than go into one transaction. What comes after the end is left.
    fn take(&mut self) -> Vec<Request> {
        let count = self.requests.len().min(BATCH);
        self.crowd = count.max(self.crowd - self.crowd.div_ceil(8));
        let close = self.requests.iter().take(count).position(|request| matches!(request, Request::Close(_)));
        self.requests.drain(..close.map_or(count, |at| at + 1)).collect()
    }
}

impl Inbox {
    /// The writer's thread: does what is asked, and in between what is due, until the end.
    fn run(&self) {
        // Whatever ends it, nobody may wait for an answer that can't come.
        let _end = End(self);
        loop {
            let (requests, ended) = self.next();
            let mut writer = self.writer.lock();
            let Some(there) = writer.as_mut() else { return };
            let closing = there.turn(requests);
            if closing.is_none() && !ended {
                self.waiting.lock().due = there.due();
                continue;
            }
            self.waiting.lock().ended = true;
            if let Some(there) = writer.take() {
                there.close();
            }
            if let Some(reply) = closing {
                // Whoever closed it may have given up waiting.
                let _ = reply.send(());
            }
            return;
        }
    }

    /// Waits for requests, or until something is due, or for the end.
    fn next(&self) -> (Vec<Request>, bool) {
        let mut waiting = self.waiting.lock();
        while waiting.requests.is_empty() && !waiting.ended && Instant::now() < waiting.due {
            waiting.asleep = true;
            let due = waiting.due;
            self.wake.wait_until(&mut waiting, due);
            waiting.asleep = false;
        }
        let crowd = waiting.crowd;
        if (1..crowd).contains(&waiting.requests.len()) && crowd > 2 {
            let started = Instant::now();
            while waiting.requests.len() < crowd && started.elapsed() < GATHER {
                parking_lot::MutexGuard::unlocked(&mut waiting, std::thread::yield_now);
            }
        }
        (waiting.take(), waiting.ended)
    }
}

/// The end of the thread, in order or by a panic.
struct End<'a>(&'a Inbox);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock();
        waiting.ended = true;
        waiting.requests.clear();
    }
}
