//! The members of a cluster. One is asked, whichever answered last; when it does not answer, the next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_client::proto::{PbRangeRequest, PbRangeResponse, PbResponseHeader};
use tonic::codec::Codec;
use tonic_prost::ProstCodec;

use super::{
    endpoint::Endpoint,
    failure::{Failure, Refusal},
    member::Member,
    method,
    stream::{Broken, EventStream},
};
use crate::{Error, Revision, backoff::Backoff};

/// The longest that one member may take to answer a question that another can be asked as well.
const ANSWER: Duration = Duration::from_secs(5);

/// Whether a question can be asked again if it is not certain what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    Always,
    /// It writes: only if certainly nothing was done.
    IfNothingDone,
}

/// Which cluster it is, and where its history stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) cluster: u64,
    pub(super) revision: Revision,
}

/// An etcd cluster.
pub(super) struct Cluster {
    members: Vec<Arc<Member>>,
    /// Which member is asked; counted on and on.
    turn: AtomicUsize,
    /// So far, or farther, the history is compacted.
    compacted: AtomicI64,
    /// For people.
    pub(super) server: String,
    /// How long a request may take, with all its tries.
    pub(super) patience: Duration,
}

impl Cluster {
    pub(super) fn new(endpoint: &Endpoint, patience: Duration) -> Result<Self, Failure> {
        let members =
            endpoint.members.iter().map(|address| Member::new(address).map(Arc::new)).collect::<Result<_, _>>()?;
        Ok(Self {
            members,
            turn: AtomicUsize::new(0),
            compacted: AtomicI64::new(0),
            server: endpoint.server.clone(),
            patience,
        })
    }

    /// Asks until there is an answer, for as long as a request may take.
    pub(super) async fn ask<Q, A>(&self, method: &'static str, question: Q, repeat: Repeat) -> Result<A, Failure>
    where
        Q: Clone + Send + Sync + 'static,
        A: Send + Sync + 'static,
        ProstCodec<Q, A>: Codec<Encode = Q, Decode = A>,
    {
        self.persist(repeat, |member| {
            let question = question.clone();
            async move { member.unary(method, question).await }
        })
        .await
    }

    /// Asks for a stream of answers, and waits for the first.
    pub(super) async fn ask_first<Q, A>(&self, method: &'static str, question: Q) -> Result<A, Failure>
    where
        Q: Clone + Send + Sync + 'static,
        A: Send + Sync + 'static,
        ProstCodec<Q, A>: Codec<Encode = Q, Decode = A>,
    {
        self.persist(Repeat::Always, |member| {
            let question = question.clone();
            async move {
                let mut answers = member.streaming(method, question).await?;
                let answer = answers.message().await.map_err(|status| member.failure(&status))?;
                answer.ok_or_else(|| Failure::Away(format!("{}: the answer is missing", member.url)))
            }
        })
        .await
    }

    /// All events after a revision, from one member, for as long as it sends them.
    pub(super) async fn events(&self, after: Revision) -> Result<EventStream, Failure> {
        self.persist(Repeat::Always, |member| async move { EventStream::open(&member, after).await }).await
    }

    async fn persist<T, Asking>(&self, repeat: Repeat, ask: impl Fn(Arc<Member>) -> Asking + Send) -> Result<T, Failure>
    where
        Asking: Future<Output = Result<T, Failure>> + Send,
    {
        let mut backoff = Backoff::new(self.patience);
        // A broken connection does not always tell that it was for a certificate.
        let mut untrusted = Vec::new();
        loop {
            let turn = self.turn.load(Ordering::Relaxed);
            let member = &self.members[turn % self.members.len()];
            let time = match repeat {
                Repeat::Always => backoff.left().min(ANSWER).min(self.patience / 2),
                Repeat::IfNothingDone => backoff.left(),
            };
            let late = |_| Failure::Away(format!("{}: no answer within {time:?}", member.url));
            let failure = match tokio::time::timeout(time, ask(Arc::clone(member)))
                .await
                .unwrap_or_else(|over| Err(late(over)))
            {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if matches!(failure, Failure::Untrusted(_)) {
                untrusted.push(failure.clone());
            }
            if !failure.passes() || untrusted.len() > self.members.len() {
                return Err(failure);
            }
            self.turn_from(turn, &failure);
            let again = repeat == Repeat::Always || failure.nothing_done();
            if !again || !backoff.pause().await {
                return Err(untrusted.pop().unwrap_or(failure));
            }
        }
    }

    /// The next member is asked from now on, unless others have seen to that.
    fn turn_from(&self, turn: usize, why: &Failure) {
        if self.turn.compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::debug!(error = %why, "asking the next member of etcd");
        }
    }

    /// Which member is asked, for [`Cluster::give_up`].
    pub(super) fn turn(&self) -> usize {
        self.turn.load(Ordering::Relaxed)
    }

    /// A stream that was opened at `turn` broke.
    pub(super) fn give_up(&self, turn: usize, why: &Failure) {
        self.turn_from(turn, why);
    }

    /// Which cluster it is, and its newest revision: agreed on by its members, and so not older than what any of them
    /// has told.
    pub(super) async fn seen(&self) -> Result<Seen, Failure> {
        seen(self.probe(0).await?.header)
    }

    /// Whether what was at a revision can be read.
    async fn probe(&self, revision: Revision) -> Result<PbRangeResponse, Failure> {
        let key = vec![0];
        let probe = PbRangeRequest { key, revision, count_only: true, ..PbRangeRequest::default() };
        self.ask(method::RANGE, probe, Repeat::Always).await
    }

    /// How far the history is compacted; 0: not at all.
    pub(super) async fn compacted(&self) -> Result<Revision, Failure> {
        let known = self.compacted.load(Ordering::Relaxed);
        let from = known.max(1);
        match self.probe(from).await {
            Ok(_) | Err(Failure::Refused(Refusal::Future)) => Ok(known),
            // Only a watch is told how far.
            Err(Failure::Refused(Refusal::Compacted)) => {
                let mut events = self.events(from - 1).await?;
                match tokio::time::timeout(self.patience, events.next()).await {
                    Ok(Err(Broken::Compacted(compacted))) => {
                        self.compacted_upto(compacted);
                        Ok(compacted)
                    }
                    Ok(Err(Broken::Failed(failure))) => Err(failure),
                    Ok(Ok(_) | Err(Broken::Missing(_))) | Err(_) => {
                        Err(Failure::Other(format!("{}: cannot find out how far it is compacted", self.server)))
                    }
                }
            }
            Err(failure) => Err(failure),
        }
    }

    /// The history is compacted so far, or farther.
    pub(super) fn compacted_upto(&self, revision: Revision) {
        self.compacted.fetch_max(revision, Ordering::Relaxed);
    }

    /// The error for a failure of something that is about the history at `asked` (0: now).
    pub(super) async fn error(&self, doing: &'static str, asked: Revision, failure: Failure) -> Error {
        let answer = match failure {
            Failure::Refused(Refusal::Compacted) => {
                self.compacted().await.map(|compacted| Error::Compacted { asked, compacted })
            }
            Failure::Refused(Refusal::Future) => {
                self.seen().await.map(|seen| Error::Future { asked, current: seen.revision })
            }
            other => Err(other),
        };
        answer.unwrap_or_else(|failure| failure.to_error(&self.server, doing))
    }
}

fn seen(header: Option<PbResponseHeader>) -> Result<Seen, Failure> {
    let header = header.ok_or_else(|| Failure::Other("an answer of etcd has no header".into()))?;
    Ok(Seen { cluster: header.cluster_id, revision: header.revision })
}
