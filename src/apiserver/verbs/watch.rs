//! watch: the changes of a collection as they happen, one JSON document a line, or as protobuf each with its length.
//!
//! A watcher is a cursor into the cache's window. It makes bytes only when the connection can take them, so a client
//! that doesn't read holds no memory; when the window has passed its cursor, the watch ends and the client begins a new
//! one. A watch that begins before the window reads the datastore's history first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::header::{CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response};
use k3s_api::protobuf;
use k3s_api::status::Status;
use k3s_kine::{Event, Revision, WatchBatch};
use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep_until};

use super::selection::Selection;
use crate::body::Gather;
use crate::call::Call;
use crate::encode::{self, ListMeta};
use crate::negotiate::{Accept, Format, PROTOBUF, PROTOBUF_STREAM, Shape};
use crate::options::ListOptions;
use crate::registry::{Cache, Entry, convert};
use crate::{Body, BoxError};

/// How long a watch lasts if the client doesn't say: between this and twice as long, so that watches that began
/// together don't end together. (`--min-request-timeout`)
const MIN_TIMEOUT: Duration = Duration::from_secs(1800);
/// How often a quiet watch says how far it has come.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How much is put together before it is sent.
const CHUNK: usize = 32 << 10;
/// Changes taken from the window at a time.
const BATCH: usize = 64;

/// Answers with a stream of changes.
pub(crate) async fn watch(mut call: Call, options: ListOptions) -> Result<Response<Body>, Status> {
    let selection = Selection::parse(&call.row, &options)?;
    if call.accept.format == Format::Yaml {
        return Err(Status::not_acceptable(&["application/json", PROTOBUF]));
    }
    let timeout = match options.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds),
        _ => MIN_TIMEOUT.mul_f64(1.0 + rand::rng().random::<f64>()),
    };
    let content_type = HeaderValue::from_static(match call.accept.format {
        Format::Protobuf => PROTOBUF_STREAM,
        _ => Format::Json.content_type(),
    });
    call.headers = HeaderMap::new();
    let watcher = Watcher::start(call, &options, selection, Instant::now() + timeout).await?;
    let body = stream::unfold(watcher, |mut watcher| async move {
        let next = watcher.next().await?;
        Some((Ok::<_, BoxError>(next), watcher))
    });
    let mut response = Response::new(Body::stream(body));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().remove(TRANSFER_ENCODING);
    Ok(response)
}

/// Where changes come from.
enum Source {
    /// The window.
    Cache,
    /// The datastore, up to where the window begins.
    History(k3s_kine::Watch),
    /// Nowhere: after an error there is nothing more to say.
    Ended,
}

struct Watcher {
    call: Call,
    selection: Selection,
    namespace: String,
    cache: Arc<Cache>,
    changed: Receiver<Revision>,
    source: Source,
    /// Every change up to here has been sent, or was not selected.
    cursor: Revision,
    /// What is made and not yet sent.
    made: VecDeque<Bytes>,
    /// What there was when the watch began, and is yet to be sent.
    initial: VecDeque<Arc<Entry>>,
    /// Say so, when that has been sent.
    initial_events_end: bool,
    bookmarks: bool,
    next_bookmark: Instant,
    deadline: Instant,
    /// Tables name their columns once.
    columns_sent: bool,
}

impl Watcher {
    async fn start(call: Call, options: &ListOptions, selection: Selection, deadline: Instant) -> Result<Self, Status> {
        let registry = call.registry();
        let cache = registry.cache(&call.row).await?;
        let asked = options.resource_version.map(|version| Revision::try_from(version).unwrap_or(i64::MAX));
        let initial_events = match (options.send_initial_events, asked) {
            (Some(wanted), _) => wanted,
            (None, None | Some(0)) => true,
            (None, Some(_)) => false,
        };
        let seen = match asked {
            None => registry.catch_up().await?,
            Some(revision) if initial_events => registry.wait_for(revision).await?,
            Some(_) => registry.revision(),
        };
        let mut watcher = Self {
            namespace: call.namespace().to_owned(),
            changed: cache.subscribe(),
            source: Source::Cache,
            cursor: seen,
            made: VecDeque::new(),
            initial: VecDeque::new(),
            initial_events_end: options.send_initial_events == Some(true) && options.allow_bookmarks,
            bookmarks: options.allow_bookmarks,
            next_bookmark: Instant::now() + BOOKMARK_EVERY,
            deadline,
            columns_sent: false,
            selection,
            cache,
            call,
        };
        match asked {
            _ if initial_events => {
                let listing = watcher.cache.list(&watcher.namespace);
                watcher.cursor = listing.revision.max(seen);
                let call = &watcher.call;
                let selected = watcher.selection.among(call, listing.entries).await?;
                watcher.initial = call.conversion().entries(&call.row, selected).await?.into();
            }
            None | Some(0) => watcher.cursor = watcher.cache.revision().max(seen),
            Some(revision) => {
                watcher.cursor = revision;
                if revision < watcher.cache.window_start() {
                    watcher.source =
                        Source::History(watcher.call.registry().history(&watcher.call.row, revision).await.or_else(
                            |error| match error {
                                crate::registry::Error::Datastore(k3s_kine::Error::Compacted { .. }) => Ok(ended()),
                                error => Err(Status::from(error)),
                            },
                        )?);
                }
            }
        }
        Ok(watcher)
    }

    /// The next bytes to send; `None` at the end of the watch.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(made) = self.made.pop_front() {
                return Some(made);
            }
            let mut out = Gather::default();
            if let Err(status) = self.collect(&mut out).await {
                self.source = Source::Ended;
                self.error(&mut out, &status);
            }
            if !out.is_empty() {
                self.made = out.finish();
                continue;
            }
            if matches!(self.source, Source::Ended) || Instant::now() >= self.deadline {
                return None;
            }
            if self.bookmarks && Instant::now() >= self.next_bookmark {
                self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                self.bookmark(&mut out, false);
                self.made = out.finish();
            }
        }
    }

    /// Writes what is there to be sent, or waits until there may be something.
    async fn collect(&mut self, out: &mut Gather) -> Result<(), Status> {
        while out.len() < CHUNK
            && let Some(entry) = self.initial.pop_front()
        {
            self.object(out, "ADDED", &entry)?;
        }
        if self.initial.is_empty() && std::mem::take(&mut self.initial_events_end) {
            self.bookmark(out, true);
        }
        if !out.is_empty() {
            return Ok(());
        }
        match &mut self.source {
            Source::Ended => Ok(()),
            Source::History(_) => self.follow_history(out).await,
            Source::Cache => self.follow_cache(out).await,
        }
    }

    async fn follow_cache(&mut self, out: &mut Gather) -> Result<(), Status> {
        self.changed.borrow_and_update();
        // Read before the window: everything up to it is in the window then.
        let seen = self.call.registry().revision();
        let Ok((upto, changes)) = self.cache.changes(self.cursor, BATCH) else {
            self.source = Source::Ended;
            return Ok(());
        };
        let complete = changes.len() < BATCH;
        for change in &changes {
            self.change(out, change.deleted, &change.object, change.previous.as_ref()).await?;
        }
        self.cursor = if complete { upto.max(seen) } else { upto };
        if out.is_empty() && complete {
            let wake = if self.bookmarks { self.deadline.min(self.next_bookmark) } else { self.deadline };
            tokio::select! {
                changed = self.changed.changed() => if changed.is_err() { self.source = Source::Ended },
                () = sleep_until(wake) => {}
                () = self.call.server.stopped() => self.source = Source::Ended,
            }
        }
        Ok(())
    }

    async fn follow_history(&mut self, out: &mut Gather) -> Result<(), Status> {
        let Source::History(history) = &mut self.source else { return Ok(()) };
        let batch = tokio::select! {
            batch = history.recv() => batch,
            () = sleep_until(self.deadline) => return Ok(()),
            () = self.call.server.stopped() => None,
        };
        match batch {
            None if self.cursor < self.cache.window_start() => {
                self.source = Source::Ended;
                let version = |revision: Revision| u64::try_from(revision).unwrap_or_default();
                let oldest = self.call.registry().revision();
                return Err(Status::too_old_resource_version(version(self.cursor), version(oldest)));
            }
            None => self.source = Source::Ended,
            Some(WatchBatch::Progress(revision)) => self.cursor = revision.max(self.cursor),
            Some(WatchBatch::Events(events)) => {
                for event in events {
                    self.cursor = event.revision();
                    let registry = self.call.registry();
                    let row = &self.call.row;
                    let (deleted, object, previous) = match event {
                        Event::Put { kv, previous } => {
                            let previous = previous.map(|kv| registry.entry(row, &kv)).transpose()?;
                            (false, registry.entry(row, &kv)?, previous)
                        }
                        Event::Delete { revision, previous } => {
                            let old = registry.entry(row, &previous)?;
                            (true, Arc::new(old.at(revision)), Some(old))
                        }
                    };
                    self.change(out, deleted, &object, previous.as_ref()).await?;
                }
            }
        }
        if self.cursor >= self.cache.window_start() && matches!(self.source, Source::History(_)) {
            self.source = Source::Cache;
        }
        Ok(())
    }

    /// One change, as it looks to someone who sees only the selected objects.
    async fn change(
        &mut self,
        out: &mut Gather,
        deleted: bool,
        object: &Arc<Entry>,
        previous: Option<&Arc<Entry>>,
    ) -> Result<(), Status> {
        if !self.namespace.is_empty() && object.namespace() != self.namespace {
            return Ok(());
        }
        let (row, conversion) = (&self.call.row, self.call.conversion());
        let object = &conversion.entry(row, Arc::clone(object)).await?;
        let previous = match previous {
            Some(previous) => Some(conversion.entry(row, Arc::clone(previous)).await?),
            None => None,
        };
        let previous = previous.as_ref();
        let now = !deleted && self.selection.matches(row, object)?;
        let before = match previous {
            Some(previous) => self.selection.matches(row, previous)?,
            None => false,
        };
        match (before, now) {
            (false, true) => self.object(out, "ADDED", object),
            (true, true) => self.object(out, "MODIFIED", object),
            (true, false) if deleted => self.object(out, "DELETED", object),
            // It is still there, but no longer selected: its last selected state, at the revision of the change.
            (true, false) => match previous {
                Some(previous) => self.object(out, "DELETED", &Arc::new(previous.at(object.revision()))),
                None => Ok(()),
            },
            (false, false) => Ok(()),
        }
    }

    fn object(&mut self, out: &mut Gather, event: &str, entry: &Arc<Entry>) -> Result<(), Status> {
        let Accept { format, shape, .. } = self.call.accept;
        if shape == Shape::Object && format != Format::Protobuf && convert::is_plain(&self.call.row) {
            write_event(out, event, entry.bytes());
            return Ok(());
        }
        let value = convert::read(&self.call.row, entry)?;
        self.value(out, event, &value)
    }

    fn value(&mut self, out: &mut Gather, event: &str, value: &Arc<Value>) -> Result<(), Status> {
        match self.call.accept.shape {
            Shape::Object => self.event(out, event, value)?,
            Shape::PartialMetadata(version) => {
                self.event(out, event, &encode::partial(&self.call.row, value, version))?;
            }
            Shape::Table(version) => {
                let columns = !std::mem::replace(&mut self.columns_sent, true);
                let version_of = k3s_api::object::resource_version(value).to_owned();
                let meta = ListMeta { resource_version: version_of, ..ListMeta::default() };
                let table = encode::table(&self.call, version, &meta, std::iter::once(Ok(Arc::clone(value))), columns)?;
                self.event(out, event, &table)?;
            }
        }
        Ok(())
    }

    fn event(&self, out: &mut Gather, event: &str, value: &Value) -> Result<(), Status> {
        if self.call.accept.format != Format::Protobuf {
            write_event(out, event, &value.to_string().into());
            return Ok(());
        }
        let object = protobuf::encode(value).map_err(encode::not_writable)?;
        out.put_slice(&protobuf::event_head(event, object.len()));
        out.put(&object.into(), 0);
        Ok(())
    }

    fn error(&self, out: &mut Gather, status: &Status) {
        // A status has nothing that can't be written.
        let _ = self.event(out, "ERROR", &status_object(status));
    }

    fn bookmark(&mut self, out: &mut Gather, initial_events_end: bool) {
        let mut value = json!({
            "kind": self.call.row.kind, "apiVersion": self.call.row.api_version(),
            "metadata": {"resourceVersion": self.cursor.to_string()},
        });
        if initial_events_end {
            value["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        // A bookmark has nothing that a table could fail on.
        let _ = self.value(out, "BOOKMARK", &Arc::new(value));
    }
}

fn write_event(out: &mut Gather, event: &str, object: &Bytes) {
    out.put_slice(br#"{"type":""#);
    out.put_slice(event.as_bytes());
    out.put_slice(br#"","object":"#);
    out.put(object, 0);
    out.put_slice(b"}\n");
}

fn status_object(status: &Status) -> Value {
    serde_json::to_value(status).unwrap_or_default()
}

/// A history that has nothing: what it should begin with is compacted.
fn ended() -> k3s_kine::Watch {
    tokio::sync::mpsc::channel(1).1
}
