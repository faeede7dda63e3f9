//! A server that events are delivered to, as an `EventList`, by a task of its own. One that is away for long costs
//! events, never the server.

mod batch;
mod throttle;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::event::Event;
use super::lost::Lost;
use super::truncate::{self, Truncate};
use super::{Error, Mode};
use crate::remote;
pub use throttle::Throttle;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a delivery is tried.
const ATTEMPTS: u32 = 5;
/// When this server ends, it waits so long for events to be delivered.
const FAREWELL: Duration = Duration::from_secs(5);

/// `--audit-webhook-*`.
#[derive(Debug, Clone)]
pub struct Options {
    /// A kubeconfig: its cluster is the server, its user this one.
    pub config_file: PathBuf,
    pub mode: Mode,
    /// Events that may wait.
    pub buffer: usize,
    /// Events that are delivered together, and how long the first of them waits for others.
    pub max_batch: usize,
    pub max_wait: Duration,
    /// How often something is delivered; `None`: as it comes.
    pub throttle: Option<Throttle>,
    /// How long to wait after the first failure; after each further one it is half as long again.
    pub initial_backoff: Duration,
    pub truncate: Option<Truncate>,
}

impl Options {
    /// Kubernetes' defaults.
    pub fn new(config_file: impl Into<PathBuf>) -> Self {
        Self {
            config_file: config_file.into(),
            mode: Mode::Batch,
            buffer: 10_000,
            max_batch: 400,
            max_wait: Duration::from_secs(30),
            throttle: Some(Throttle { qps: 10.0, burst: 15 }),
            initial_backoff: Duration::from_secs(10),
            truncate: None,
        }
    }
}

/// The way to the server.
#[derive(Debug)]
pub(super) struct Webhook {
    events: mpsc::Sender<Bytes>,
    delivery: Arc<Delivery>,
    task: Mutex<Option<JoinHandle<()>>>,
    mode: Mode,
}

/// What delivers events.
#[derive(Debug)]
struct Delivery {
    remote: remote::Webhook,
    options: Options,
    lost: Lost,
    /// This server ends.
    closing: CancellationToken,
}

impl Webhook {
    /// Reads the kubeconfig. The server itself need not be there yet.
    ///
    /// # Errors
    /// If the kubeconfig can't be used.
    pub fn open(options: &Options) -> Result<Self, Error> {
        let options = options.clone();
        let remote = remote::Webhook::load(&options.config_file, PATIENCE)
            .map_err(|source| Error::Kubeconfig { path: options.config_file.clone(), source })?;
        let (events, incoming) = mpsc::channel(options.buffer.max(1));
        let mode = options.mode;
        let closing = CancellationToken::new();
        let delivery = Arc::new(Delivery { remote, options, lost: Lost::default(), closing });
        let task = tokio::spawn(batch::run(Arc::clone(&delivery), incoming));
        Ok(Self { events, delivery, task: Mutex::new(Some(task)), mode })
    }

    /// An event as it is delivered; `None`: it is too long, and lost.
    pub fn encode(&self, event: &Event) -> Option<Bytes> {
        let text = truncate::fitted(self.delivery.options.truncate, event, Event::json);
        if text.is_none() {
            self.delivery.lost.add(1, "an event is too long");
        }
        text.map(Bytes::from)
    }

    /// Delivers an event, and waits for it if the mode says so. Whether the request may be served.
    pub async fn write(&self, event: Bytes) -> bool {
        if self.mode == Mode::Batch {
            self.post(event);
            return true;
        }
        self.delivery.deliver(vec![event]).await || self.mode != Mode::BlockingStrict
    }

    /// Delivers an event without waiting for it.
    pub fn post(&self, event: Bytes) {
        if self.events.try_send(event).is_err() {
            self.delivery.lost.add(1, "too many events wait for the audit webhook");
        }
    }

    /// Events that were not delivered.
    pub fn lost(&self) -> u64 {
        self.delivery.lost.count()
    }

    /// Delivers what waits, without much patience; what comes from now on is lost.
    pub async fn close(&self) {
        self.delivery.closing.cancel();
        let Some(mut task) = self.task.lock().take() else { return };
        if tokio::time::timeout(FAREWELL, &mut task).await.is_err() {
            task.abort();
            tracing::error!("the audit webhook does not take the last events");
        }
    }
}

impl Delivery {
    /// Delivers events together. Whether they have arrived.
    async fn deliver(&self, events: Vec<Bytes>) -> bool {
        let list = list(&events);
        let (mut attempt, mut pause) = (1, self.options.initial_backoff);
        loop {
            let last = attempt >= ATTEMPTS || self.closing.is_cancelled();
            match self.remote.deliver(list.clone()).await {
                Ok(()) => return true,
                // Hardly any failure is a reason to give events up: who takes them may be back in a moment.
                Err(error) if !last => tracing::debug!(%error, attempt, "audit events are delivered again"),
                Err(error) => {
                    self.lost.add(events.len(), &error.to_string());
                    return false;
                }
            }
            let jitter = pause.mul_f64(rand::rng().random_range(0.0..0.2));
            self.closing.run_until_cancelled(tokio::time::sleep(pause + jitter)).await;
            attempt += 1;
            pause = pause * 3 / 2;
        }
    }
}

fn list(events: &[Bytes]) -> Bytes {
    const HEAD: &[u8] = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    let mut list = Vec::with_capacity(HEAD.len() + 2 + events.iter().map(|event| event.len() + 1).sum::<usize>());
    list.extend_from_slice(HEAD);
    for (index, event) in events.iter().enumerate() {
        if index > 0 {
            list.push(b',');
        }
        list.extend_from_slice(event);
    }
    list.extend_from_slice(b"]}");
    list.into()
}
