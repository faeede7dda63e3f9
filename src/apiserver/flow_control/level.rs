//! Priority levels: so many seats, and who has them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::borrowing::{Bounds, Demand};
use super::metrics::{Counts, Reason};
use super::queues::{Queues, Waiter};

/// A request has no more than this part of a level's seats, divided by the size of a hand.
const MAX_PART: f64 = 0.15;

/// `PriorityLevelConfigurationSpec`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    #[serde(rename = "type")]
    pub kind: Kind,
    pub limited: Option<Shares>,
    pub exempt: Option<Shares>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) enum Kind {
    Exempt,
    #[default]
    Limited,
}

/// `LimitedPriorityLevelConfiguration`, or what an exempt one has of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Shares {
    pub nominal_concurrency_shares: Option<u32>,
    pub lendable_percent: Option<u32>,
    pub borrowing_limit_percent: Option<u32>,
    pub limit_response: LimitResponse,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub(super) struct LimitResponse {
    #[serde(rename = "type")]
    kind: ResponseKind,
    queuing: Option<Queuing>,
}

/// What becomes of requests that find no seat.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
enum ResponseKind {
    Queue,
    #[default]
    Reject,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Queuing {
    queues: usize,
    hand_size: usize,
    queue_length_limit: usize,
}

impl Default for Queuing {
    fn default() -> Self {
        Self { queues: 64, hand_size: 8, queue_length_limit: 50 }
    }
}

impl Spec {
    /// The part that says how many seats it has.
    pub fn shares(&self) -> Shares {
        let part = if self.kind == Kind::Exempt { &self.exempt } else { &self.limited };
        part.clone().unwrap_or_default()
    }
}

/// A priority level. What is removed from the configuration goes on until its last request is over.
pub(super) struct Level {
    pub name: String,
    state: Mutex<State>,
}

struct State {
    /// Empty for the mandatory ones as long as they are not stored.
    uid: Arc<str>,
    exempt: bool,
    bounds: Bounds,
    /// Seats it has now: its own, and what it has borrowed or lent.
    limit: u32,
    /// Seats that one request may have.
    widest: u32,
    queues: Queues,
    in_use: u32,
    demand: Demand,
    next_id: u64,
}

/// What becomes of a request.
pub(super) enum Entry {
    Run(Permit),
    Wait(Waiting),
    Full(Reason),
}

/// Seats of a running request. They are free again when it is dropped.
pub(super) struct Permit {
    level: Arc<Level>,
    queue: Option<usize>,
    seats: u32,
    since: Instant,
    counts: Arc<Counts>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now - self.since;
        self.counts.ended(self.seats, took);
        self.level.leave(self.queue, self.seats, took, now);
    }
}

/// A place in a queue, which is left when this is dropped.
pub(super) struct Waiting {
    level: Arc<Level>,
    id: u64,
    granted: oneshot::Receiver<Permit>,
    counts: Arc<Counts>,
}

impl Waiting {
    /// The seats, when it is the request's turn; `None` if the level has no queues any more.
    pub async fn granted(&mut self) -> Option<Permit> {
        (&mut self.granted).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.counts.queued(-1);
        self.level.forget(self.id);
    }
}

impl Level {
    /// A level that is yet to be told how many seats it has.
    pub fn new(name: &str) -> Self {
        let state = State {
            uid: "".into(),
            exempt: false,
            bounds: Bounds::default(),
            limit: 0,
            widest: 1,
            queues: Queues::default(),
            in_use: 0,
            demand: Demand::new(Instant::now()),
            next_id: 0,
        };
        Self { name: name.to_owned(), state: Mutex::new(state) }
    }

    /// Takes a new configuration.
    pub fn configure(self: &Arc<Self>, uid: &str, spec: &Spec, bounds: Bounds) {
        let mut state = self.state.lock();
        if *state.uid != *uid {
            state.uid = uid.into();
        }
        state.exempt = spec.kind == Kind::Exempt;
        if state.bounds != bounds {
            // What it had borrowed or lent was another share's: while a cluster's first levels appear one after the
            // other, the share of the first is nearly all.
            state.limit = bounds.nominal;
        }
        state.bounds = bounds;
        let queuing = match spec.kind {
            Kind::Exempt => None,
            Kind::Limited => spec.shares().limit_response.queuing(),
        };
        match queuing {
            Some(Queuing { queues, hand_size, queue_length_limit }) => {
                state.queues.resize(queues, hand_size, queue_length_limit);
                let widest = f64::from(bounds.nominal) * MAX_PART / hand_size.max(1) as f64;
                state.widest = (widest.ceil() as u32).max(1);
            }
            None => {
                state.queues.resize(0, 0, 0);
                state.widest = ((f64::from(bounds.nominal) * MAX_PART).ceil() as u32).max(1);
            }
        }
        self.dispatch(state);
    }

    /// The uid of its object.
    pub fn uid(&self) -> Arc<str> {
        Arc::clone(&self.state.lock().uid)
    }

    /// A request comes, of that flow.
    pub fn enter(self: &Arc<Self>, flow: u64, seats: u32, counts: &Arc<Counts>) -> Entry {
        let now = Instant::now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let seats = seats.min(state.widest);
        let queue = state.queues.choose(flow);
        if !state.exempt && (state.queues.waiting() > 0 || !state.fits(seats)) {
            let Some(queue) = queue else { return Entry::Full(Reason::ConcurrencyLimit) };
            if state.queues.is_full(queue) {
                return Entry::Full(Reason::QueueFull);
            }
            let (grant, granted) = oneshot::channel();
            let id = state.next_id;
            state.next_id += 1;
            state.queues.push(queue, Waiter { id, seats, grant, counts: Arc::clone(counts) });
            state.observe(now);
            counts.queued(1);
            drop(guard);
            return Entry::Wait(Waiting { level: Arc::clone(self), id, granted, counts: Arc::clone(counts) });
        }
        state.in_use += seats;
        if let Some(queue) = queue {
            state.queues.begin(queue, seats);
        }
        state.observe(now);
        drop(guard);
        counts.waited(Duration::ZERO);
        Entry::Run(self.permit(queue, seats, now, Arc::clone(counts)))
    }

    fn permit(self: &Arc<Self>, queue: Option<usize>, seats: u32, since: Instant, counts: Arc<Counts>) -> Permit {
        counts.began(seats);
        Permit { level: Arc::clone(self), queue, seats, since, counts }
    }

    fn leave(self: &Arc<Self>, queue: Option<usize>, seats: u32, took: Duration, now: Instant) {
        let mut state = self.state.lock();
        state.in_use -= seats;
        if let Some(queue) = queue {
            state.queues.end(queue, seats, took);
        }
        state.observe(now);
        self.dispatch(state);
    }

    fn forget(self: &Arc<Self>, id: u64) {
        let mut state = self.state.lock();
        if state.queues.remove(id) {
            state.observe(Instant::now());
            // Who is next may need fewer seats.
            self.dispatch(state);
        }
    }

    /// Begins those whose turn it is, as long as there are seats.
    fn dispatch(self: &Arc<Self>, mut guard: MutexGuard<'_, State>) {
        let state = &mut *guard;
        if state.in_use == 0 && state.queues.waiting() == 0 {
            return state.queues.forget();
        }
        let mut begun = Vec::new();
        while let Some((queue, seats)) = state.queues.next()
            && (state.exempt || state.fits(seats))
            && let Some(waiter) = state.queues.pop(queue)
        {
            state.in_use += seats;
            begun.push((queue, waiter));
        }
        drop(guard);
        let now = Instant::now();
        for (queue, Waiter { seats, grant, counts, .. }) in begun {
            // Who has just gone away gives them back by dropping them.
            drop(grant.send(self.permit(Some(queue), seats, now, counts)));
        }
    }

    /// What it needed since it was asked last, and its bounds.
    pub fn demand(&self, now: Instant) -> super::borrowing::Level {
        let mut state = self.state.lock();
        let bounds = state.bounds;
        state.demand.take(now, bounds)
    }

    /// Gives it so many seats.
    pub fn set_limit(self: &Arc<Self>, seats: u32) {
        let mut state = self.state.lock();
        state.limit = seats;
        self.dispatch(state);
    }

    /// What metrics tell of it.
    pub fn figures(&self) -> Figures {
        let state = self.state.lock();
        Figures {
            exempt: state.exempt,
            bounds: state.bounds,
            limit: state.limit,
            #[cfg(test)]
            in_use: state.in_use,
            #[cfg(test)]
            waiting: state.queues.waiting(),
        }
    }
}

/// A level at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    pub exempt: bool,
    pub bounds: Bounds,
    pub limit: u32,
    #[cfg(test)]
    pub in_use: u32,
    #[cfg(test)]
    pub waiting: usize,
}

impl LimitResponse {
    fn queuing(self) -> Option<Queuing> {
        match self.kind {
            ResponseKind::Queue => Some(self.queuing.unwrap_or_default()),
            ResponseKind::Reject => None,
        }
    }
}

impl State {
    /// Whether a request may run now. One runs in any case, however wide it is.
    fn fits(&self, seats: u32) -> bool {
        self.in_use == 0 || self.in_use + seats <= self.limit
    }

    fn observe(&mut self, now: Instant) {
        self.demand.observe(now, self.in_use + self.queues.waiting_seats());
    }
}
