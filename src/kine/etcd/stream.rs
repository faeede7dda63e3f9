//! etcd's stream of events: the one watch of all its keys.
//!
//! All of them, since then the stream tells by itself whether something is missing, and where it stands: each revision
//! is a change of some key. etcd's own notes of progress are not needed, which in some versions (before 3.4.25 and 3.5.8)
//! come before the events they vouch for.

use etcd_client::proto::{PbWatchRequest, PbWatchRequestUnion, PbWatchResponse};
use tonic::Streaming;

use super::{failure::Failure, member::Member, message, method};
use crate::{Event, Revision};

/// A stream from one member.
pub(super) struct EventStream {
    url: String,
    answers: Streaming<PbWatchResponse>,
    told: Revision,
}

/// Why a stream has ended.
#[derive(Debug)]
pub(super) enum Broken {
    /// Events that it should have had are compacted, as all are before this revision.
    Compacted(Revision),
    /// The events of a revision, or what was before them, are not there any more: compaction was faster.
    Missing(Revision),
    Failed(Failure),
}

impl EventStream {
    /// Asks for all events after a revision.
    pub(super) async fn open(member: &Member, after: Revision) -> Result<Self, Failure> {
        let mut create = PbWatchRequestUnion::CreateRequest(Default::default());
        if let PbWatchRequestUnion::CreateRequest(request) = &mut create {
            request.key = vec![0];
            request.range_end = vec![0];
            request.start_revision = after + 1;
            request.prev_kv = true;
        }
        let answers = member.streaming(method::WATCH, PbWatchRequest { request_union: Some(create) }).await?;
        Ok(Self { url: member.url.clone(), answers, told: after })
    }

    /// The next events, those of whole revisions, and the last of these. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<(Vec<Event>, Revision), Broken> {
        loop {
            let answer = self.answers.message().await;
            let failed = |failure| Err(Broken::Failed(failure));
            let answer = match answer {
                Ok(Some(answer)) => answer,
                Ok(None) => return failed(Failure::Away(format!("{}: the stream of events ended", self.url))),
                Err(status) => return failed(Failure::new(&self.url, &status)),
            };
            if answer.compact_revision > 0 {
                return Err(Broken::Compacted(answer.compact_revision));
            }
            if answer.canceled {
                let why = format!("{}: the watch was ended: {}", self.url, answer.cancel_reason);
                return failed(if why.contains("ermission") { Failure::Denied(why) } else { Failure::Away(why) });
            }
            let events = self.take(answer)?;
            if !events.is_empty() {
                return Ok((events, self.told));
            }
        }
    }

    fn take(&mut self, answer: PbWatchResponse) -> Result<Vec<Event>, Broken> {
        let before = self.told;
        let mut events = Vec::with_capacity(answer.events.len());
        for event in answer.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if revision <= before {
                // Has been told.
                continue;
            }
            if revision != self.told && revision != self.told + 1 {
                return Err(Broken::Missing(self.told + 1));
            }
            events.push(message::event(event).ok_or(Broken::Missing(revision))?);
            self.told = revision;
        }
        Ok(events)
    }
}
