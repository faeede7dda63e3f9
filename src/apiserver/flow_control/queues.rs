//! The queues of a priority level, and whose turn it is: start-time fair queueing, by the seats and the time that the
//! requests of a queue have had. A queue that had much of it waits for those that had less.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::level::Permit;
use super::metrics::Counts;
use super::shuffle;

/// What a request is taken to last until it is over, in seconds. (Kubernetes' guess.)
const GUESS: f64 = 0.003;

/// A request that waits.
pub(super) struct Waiter {
    pub id: u64,
    pub seats: u32,
    pub grant: oneshot::Sender<Permit>,
    pub counts: Arc<Counts>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiter>,
    /// Seats that requests of this queue have now.
    in_use: u32,
    /// When, in the level's own time, its next request begins.
    next_start: f64,
}

impl Queue {
    /// Seat-seconds that are before a newcomer.
    fn work(&self) -> f64 {
        let waiting: u32 = self.waiting.iter().map(|waiter| waiter.seats).sum();
        f64::from(self.in_use + waiting) * GUESS
    }

    fn is_idle(&self) -> bool {
        self.in_use == 0 && self.waiting.is_empty()
    }
}

/// All queues of a level.
#[derive(Default)]
pub(super) struct Queues {
    queues: Vec<Queue>,
    hand: usize,
    length: usize,
    waiting: usize,
    waiting_seats: u32,
    /// The level's own time: the start of the request that was begun last. It begins anew whenever nobody is there.
    now: f64,
    /// Where the search for the next one begins, so that equals take turns.
    turn: usize,
}

impl Queues {
    /// So many queues, each so long; a flow has `hand` of them. What waits in queues that are no more goes to others.
    pub fn resize(&mut self, count: usize, hand: usize, length: usize) {
        let homeless: Vec<Waiter> = self.queues.drain(count.min(self.queues.len())..).flat_map(|q| q.waiting).collect();
        self.queues.resize_with(count, Queue::default);
        (self.hand, self.length, self.turn) = (hand, length, 0);
        for (at, waiter) in homeless.into_iter().enumerate() {
            match count {
                // It is told by the end of its channel.
                0 => {
                    self.waiting -= 1;
                    self.waiting_seats -= waiter.seats;
                }
                _ => self.queues[at % count].waiting.push_back(waiter),
            }
        }
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The seats that they wait for.
    pub fn waiting_seats(&self) -> u32 {
        self.waiting_seats
    }

    /// The queue of a flow's next request: that of its hand with the least to do, if there is one that is not full.
    /// `None`: the level has no queues.
    pub fn choose(&self, flow: u64) -> Option<usize> {
        let hand = shuffle::hand(flow, self.queues.len(), self.hand);
        hand.min_by(|a, b| {
            let work = |queue: usize| self.queues[queue].work();
            self.is_full(*a).cmp(&self.is_full(*b)).then(work(*a).total_cmp(&work(*b)))
        })
    }

    /// Whether a queue takes no more.
    pub fn is_full(&self, queue: usize) -> bool {
        self.queues[queue].waiting.len() >= self.length
    }

    /// Has a request wait.
    pub fn push(&mut self, queue: usize, waiter: Waiter) {
        let now = self.now;
        let queue = &mut self.queues[queue];
        if queue.is_idle() {
            queue.next_start = queue.next_start.max(now);
        }
        self.waiting += 1;
        self.waiting_seats += waiter.seats;
        queue.waiting.push_back(waiter);
    }

    /// Takes a request away that waits no longer. `false`: it is not there.
    pub fn remove(&mut self, id: u64) -> bool {
        for queue in &mut self.queues {
            if let Some(at) = queue.waiting.iter().position(|waiter| waiter.id == id) {
                let gone = queue.waiting.remove(at);
                self.waiting -= 1;
                self.waiting_seats -= gone.map_or(0, |waiter| waiter.seats);
                return true;
            }
        }
        false
    }

    /// Whose turn it is, and how many seats it needs.
    pub fn next(&self) -> Option<(usize, u32)> {
        if self.waiting == 0 {
            return None;
        }
        let count = self.queues.len();
        let in_turn = (0..count).map(|at| (self.turn + at) % count);
        let heads = in_turn.filter_map(|at| Some((at, self.queues[at].waiting.front()?.seats)));
        let finish = |(at, seats): &(usize, u32)| self.queues[*at].next_start + f64::from(*seats) * GUESS;
        heads.min_by(|a, b| finish(a).total_cmp(&finish(b)))
    }

    /// Takes the first of a queue out, to run.
    pub fn pop(&mut self, queue: usize) -> Option<Waiter> {
        let waiter = self.queues[queue].waiting.pop_front()?;
        self.waiting -= 1;
        self.waiting_seats -= waiter.seats;
        self.turn = (queue + 1) % self.queues.len();
        self.begin(queue, waiter.seats);
        Some(waiter)
    }

    /// A request of that queue begins to run.
    pub fn begin(&mut self, queue: usize, seats: u32) {
        let now = self.now;
        let queue = &mut self.queues[queue];
        if queue.in_use == 0 {
            queue.next_start = queue.next_start.max(now);
        }
        self.now = now.max(queue.next_start);
        queue.next_start += f64::from(seats) * GUESS;
        queue.in_use += seats;
    }

    /// It is over, after so long.
    pub fn end(&mut self, queue: usize, seats: u32, took: Duration) {
        // Queues may have become fewer.
        let Some(queue) = self.queues.get_mut(queue) else { return };
        queue.in_use = queue.in_use.saturating_sub(seats);
        queue.next_start = (queue.next_start + f64::from(seats) * (took.as_secs_f64() - GUESS)).max(0.0);
    }

    /// Nobody is there: what was had before counts no more.
    pub fn forget(&mut self) {
        if self.now > 0.0 {
            self.now = 0.0;
            self.queues.iter_mut().for_each(|queue| queue.next_start = 0.0);
        }
    }
}
