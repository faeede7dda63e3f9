//! One stream of watch requests: makes watches and ends them, and answers requests for progress.

use std::{collections::HashMap, time::Duration};

use etcd_client::proto::{PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use futures::StreamExt;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};

use super::watcher::{Told, Watcher};
use crate::{
    Error, Revision,
    grpc::{Face, message},
};

/// The id by which progress of a whole stream is told.
const ALL: i64 = -1;
/// Filters of etcd's watches.
const NO_PUT: i32 = 0;
const NO_DELETE: i32 = 1;
/// A watch that was catching up when progress was asked for is asked again after this.
const AGAIN: Duration = Duration::from_millis(50);

pub(super) type Answers = mpsc::Sender<Result<PbWatchResponse, Status>>;

/// The state of a stream.
pub(super) struct Session {
    face: Face,
    answers: Answers,
    watches: HashMap<i64, Running>,
    next_id: i64,
    /// Requests for progress that are not answered yet.
    progress: JoinSet<()>,
}

struct Running {
    told: watch::Receiver<Revision>,
    task: AbortOnDropHandle<()>,
}

impl Session {
    pub(super) fn new(face: Face, answers: Answers) -> Self {
        Self { face, answers, watches: HashMap::new(), next_id: 0, progress: JoinSet::new() }
    }

    /// Serves requests until the client is gone. A client that only ends its side of the stream keeps its watches.
    pub(super) async fn run(mut self, mut requests: Streaming<PbWatchRequest>) {
        while let Some(request) = requests.next().await {
            let request = match request {
                Ok(request) => request,
                Err(error) => return tracing::debug!(%error, "a client's stream of watches broke"),
            };
            let served = match request.request_union {
                Some(PbWatchRequestUnion::CreateRequest(request)) => {
                    let (start, end) = message::bounds(request.key, request.range_end);
                    let watcher = Watcher {
                        start,
                        end,
                        start_revision: request.start_revision,
                        without_puts: request.filters.contains(&NO_PUT),
                        without_deletes: request.filters.contains(&NO_DELETE),
                        with_previous: request.prev_kv,
                        with_progress: request.progress_notify,
                        fragments: request.fragment,
                    };
                    match self.id(request.watch_id) {
                        Some(id) => self.create(id, watcher).await,
                        None => self.refuse(request.watch_id).await,
                    }
                }
                Some(PbWatchRequestUnion::CancelRequest(request)) => self.cancel(request.watch_id).await,
                Some(PbWatchRequestUnion::ProgressRequest(_)) => self.progress().await,
                None => Ok(()),
            };
            match served {
                Ok(()) => {}
                Err(Ended::Gone) => return,
                Err(Ended::Datastore(error)) => {
                    // If nobody receives it, nobody needs it.
                    let _ = self.answers.send(Err(error.into())).await;
                    return;
                }
            }
        }
        for (_, running) in std::mem::take(&mut self.watches) {
            // It ends by itself when the client is gone; it does not panic.
            let _ = running.task.await;
        }
    }

    /// The id for a new watch, if the one that is wanted (0: any) is free.
    fn id(&mut self, wanted: i64) -> Option<i64> {
        if wanted != 0 {
            return (!self.watches.contains_key(&wanted)).then_some(wanted);
        }
        while self.watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Some(self.next_id - 1)
    }

    async fn create(&mut self, id: i64, watcher: Watcher) -> Result<(), Ended> {
        let current = self.face.store.current_revision().await?;
        self.send(PbWatchResponse {
            header: self.face.header(current),
            watch_id: id,
            created: true,
            ..PbWatchResponse::default()
        })
        .await?;
        let (told, received) = watch::channel(watcher.after(current));
        let task = watcher.run(id, self.face.clone(), self.answers.clone(), Told(told), current);
        let task = AbortOnDropHandle::new(tokio::spawn(task));
        self.watches.insert(id, Running { told: received, task });
        Ok(())
    }

    async fn refuse(&mut self, id: i64) -> Result<(), Ended> {
        let current = self.face.store.current_revision().await?;
        self.send(PbWatchResponse {
            header: self.face.header(current),
            watch_id: id,
            created: true,
            canceled: true,
            cancel_reason: "mvcc: duplicate watch ID provided on the WatchStream".into(),
            ..PbWatchResponse::default()
        })
        .await
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Ended> {
        let Some(running) = self.watches.remove(&id) else { return Ok(()) };
        running.task.abort();
        // Waits until it is over: nothing of this watch may come after the answer.
        let _ = running.task.await;
        let current = self.face.store.current_revision().await?;
        self.send(PbWatchResponse {
            header: self.face.header(current),
            watch_id: id,
            canceled: true,
            ..PbWatchResponse::default()
        })
        .await
    }

    /// Once every watch has told all up to now, says so.
    async fn progress(&mut self) -> Result<(), Ended> {
        while self.progress.try_join_next().is_some() {}
        self.watches.retain(|_, running| !running.task.is_finished());
        let current = self.face.store.current_revision().await?;
        let told: Vec<_> = self.watches.values().map(|running| running.told.clone()).collect();
        let (face, answers) = (self.face.clone(), self.answers.clone());
        self.progress.spawn(async move {
            for mut told in told {
                // A watch that has ended has told all it had to.
                while tokio::time::timeout(AGAIN, told.wait_for(|told| *told >= current)).await.is_err() {
                    if face.store.request_progress().await.is_err() {
                        return;
                    }
                }
            }
            let progress =
                PbWatchResponse { header: face.header(current), watch_id: ALL, ..PbWatchResponse::default() };
            // If nobody receives it, nobody needs it.
            let _ = answers.send(Ok(progress)).await;
        });
        self.face.store.request_progress().await?;
        Ok(())
    }

    async fn send(&self, answer: PbWatchResponse) -> Result<(), Ended> {
        self.answers.send(Ok(answer)).await.map_err(|_| Ended::Gone)
    }
}

/// Why a session is over.
enum Ended {
    Gone,
    Datastore(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Ended::Datastore(error)
    }
}
