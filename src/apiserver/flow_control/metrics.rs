//! `apiserver_flowcontrol_*`: what becomes of requests, by flow schema and priority level.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use super::FlowControl;
use crate::metrics::family::{Histogram, Metric};

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    QueueFull,
    ConcurrencyLimit,
    TimeOut,
}

const REASONS: [(Reason, &str); 3] =
    [(Reason::QueueFull, "queue-full"), (Reason::ConcurrencyLimit, "concurrency-limit"), (Reason::TimeOut, "time-out")];

/// Kubernetes' buckets of waiting and of execution, in seconds.
static BUCKETS: [f64; 13] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0];

/// What is counted of a flow schema's requests.
#[derive(Debug)]
pub(super) struct Counts {
    /// `priority_level="…",flow_schema="…"`.
    labels: String,
    executing: AtomicI64,
    seats: AtomicI64,
    waiting: AtomicI64,
    dispatched: AtomicU64,
    refused: [AtomicU64; 3],
    wait: Histogram,
    execution: Histogram,
}

impl Counts {
    /// Nothing yet.
    pub fn new(schema: &str, level: &str) -> Self {
        Self {
            labels: format!("priority_level=\"{level}\",flow_schema=\"{schema}\""),
            executing: AtomicI64::default(),
            seats: AtomicI64::default(),
            waiting: AtomicI64::default(),
            dispatched: AtomicU64::default(),
            refused: Default::default(),
            wait: Histogram::new(&BUCKETS),
            execution: Histogram::new(&BUCKETS),
        }
    }

    /// A request begins to run.
    pub fn began(&self, seats: u32) {
        self.executing.fetch_add(1, Ordering::Relaxed);
        self.seats.fetch_add(seats.into(), Ordering::Relaxed);
        self.dispatched.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is over.
    pub fn ended(&self, seats: u32, took: Duration) {
        self.executing.fetch_sub(1, Ordering::Relaxed);
        self.seats.fetch_sub(seats.into(), Ordering::Relaxed);
        self.execution.observe(took);
    }

    /// One more waits, or one fewer.
    pub fn queued(&self, change: i64) {
        self.waiting.fetch_add(change, Ordering::Relaxed);
    }

    /// A request that runs now has waited so long.
    pub fn waited(&self, took: Duration) {
        self.wait.observe(took);
    }

    /// A request was refused.
    pub fn refused(&self, reason: Reason) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// All of them.
pub(crate) fn all(flow_control: &FlowControl) -> Vec<Metric> {
    let mut metrics = of_levels(flow_control);
    metrics.extend(of_schemas(flow_control));
    metrics
}

fn of_levels(flow_control: &FlowControl) -> Vec<Metric> {
    let levels: Vec<_> = flow_control.levels.lock().values().cloned().collect();
    let each = |value: fn(&super::level::Figures) -> f64| -> Vec<(String, f64)> {
        levels.iter().map(|of| (format!("{{priority_level=\"{}\"}}", of.name), value(&of.figures()))).collect()
    };
    vec![
        (
            "apiserver_flowcontrol_nominal_limit_seats",
            "gauge",
            "Seats that are a priority level's share.",
            each(|of| of.bounds.nominal.into()),
        ),
        (
            "apiserver_flowcontrol_lower_limit_seats",
            "gauge",
            "Seats that a priority level keeps in any case.",
            each(|of| of.bounds.min.into()),
        ),
        (
            "apiserver_flowcontrol_upper_limit_seats",
            "gauge",
            "Seats that a priority level may have with those it borrows.",
            each(|of| of.bounds.max.into()),
        ),
        (
            "apiserver_flowcontrol_current_limit_seats",
            "gauge",
            "Seats that a priority level has now.",
            each(|of| of.limit.into()),
        ),
    ]
}

fn of_schemas(flow_control: &FlowControl) -> Vec<Metric> {
    let schemas = std::sync::Arc::clone(&flow_control.schemas.read());
    let each = |value: &dyn Fn(&Counts) -> f64| -> Vec<(String, f64)> {
        schemas.iter().map(|of| (format!("{{{}}}", of.counts.labels), value(&of.counts))).collect()
    };
    let gauge = |of: &AtomicI64| of.load(Ordering::Relaxed) as f64;
    let mut refused = Vec::new();
    for schema in schemas.iter() {
        for (reason, name) in REASONS {
            let count = schema.counts.refused[reason as usize].load(Ordering::Relaxed);
            if count > 0 {
                refused.push((format!("{{{},reason=\"{name}\"}}", schema.counts.labels), count as f64));
            }
        }
    }
    let mut metrics: Vec<Metric> = vec![
        (
            "apiserver_flowcontrol_current_executing_requests",
            "gauge",
            "Requests that are running.",
            each(&|of| gauge(&of.executing)),
        ),
        (
            "apiserver_flowcontrol_current_executing_seats",
            "gauge",
            "Seats that running requests have.",
            each(&|of| gauge(&of.seats)),
        ),
        (
            "apiserver_flowcontrol_current_inqueue_requests",
            "gauge",
            "Requests that wait.",
            each(&|of| gauge(&of.waiting)),
        ),
        (
            "apiserver_flowcontrol_dispatched_requests_total",
            "counter",
            "Requests that have begun to run.",
            each(&|of| of.dispatched.load(Ordering::Relaxed) as f64),
        ),
        ("apiserver_flowcontrol_rejected_requests_total", "counter", "Requests that were refused.", refused),
    ];
    let (mut waits, mut executions) = (Vec::new(), Vec::new());
    for schema in schemas.iter() {
        schema.counts.wait.write(&schema.counts.labels, &mut waits);
        schema.counts.execution.write(&schema.counts.labels, &mut executions);
    }
    let wait = "apiserver_flowcontrol_request_wait_duration_seconds";
    metrics.push((wait, "histogram", "How long requests waited.", waits));
    let execution = "apiserver_flowcontrol_request_execution_seconds";
    metrics.push((execution, "histogram", "How long requests ran.", executions));
    metrics
}
