//! Events about pods and the node.
//!
//! Repetitions of an event become a count on the event that is there already, as with client-go's correlator.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use tokio::sync::mpsc;

/// Whether somebody should worry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Severity::Normal => "Normal",
            Severity::Warning => "Warning",
        }
    }
}

/// Takes events and sends them in the background. Events are best effort: they are dropped rather than held without
/// bound while the API can't be reached.
#[derive(Clone)]
pub(crate) struct Recorder(mpsc::Sender<Note>);

struct Note {
    object: ObjectReference,
    severity: Severity,
    reason: &'static str,
    message: String,
    at: Timestamp,
}

const BACKLOG: usize = 512;

impl Recorder {
    /// A recorder and the end that [`send`] takes.
    pub fn new() -> (Self, Outbox) {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        (Self(sender), Outbox(receiver))
    }

    /// Records something about a pod, or about one of its containers if `field_path` names it.
    pub fn pod(
        &self,
        pod: &Pod,
        field_path: Option<String>,
        severity: Severity,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let object = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            resource_version: pod.metadata.resource_version.clone(),
            field_path,
        };
        self.record(object, severity, reason, message.into());
    }

    /// Records something about the node.
    pub fn node(&self, node: &Node, severity: Severity, reason: &'static str, message: impl Into<String>) {
        let object = ObjectReference {
            kind: Some("Node".into()),
            name: node.metadata.name.clone(),
            // The kubelet names the node by its name here: it may not know the uid yet.
            uid: node.metadata.name.clone(),
            ..Default::default()
        };
        self.record(object, severity, reason, message.into());
    }

    fn record(&self, object: ObjectReference, severity: Severity, reason: &'static str, message: String) {
        tracing::debug!(object = object.name, reason, message, "event");
        let note = Note { object, severity, reason, message, at: Timestamp::now() };
        if self.0.try_send(note).is_err() {
            tracing::debug!(reason, "event dropped: too many are waiting");
        }
    }
}

/// Events on their way to the API.
pub(crate) struct Outbox(mpsc::Receiver<Note>);

#[derive(PartialEq, Eq, Hash)]
struct Key {
    uid: String,
    field_path: String,
    severity: Severity,
    reason: &'static str,
    message: String,
}

struct Seen {
    namespace: String,
    name: String,
    count: i32,
    last: Instant,
}

/// How long a repetition counts onto the same event.
const AGGREGATION: Duration = Duration::from_secs(600);
const SEEN_LIMIT: usize = 4096;

/// Sends events until the last [`Recorder`] is gone. `node` is the host that events come from.
pub(crate) async fn send(client: Client, node: String, mut outbox: Outbox) {
    let mut seen: HashMap<Key, Seen> = HashMap::new();
    while let Some(note) = outbox.0.recv().await {
        let key = Key {
            uid: note.object.uid.clone().unwrap_or_default(),
            field_path: note.object.field_path.clone().unwrap_or_default(),
            severity: note.severity,
            reason: note.reason,
            message: note.message.clone(),
        };
        if seen.len() >= SEEN_LIMIT {
            seen.retain(|_, seen| seen.last.elapsed() < AGGREGATION);
        }
        if let Some(known) = seen.get_mut(&key).filter(|known| known.last.elapsed() < AGGREGATION) {
            known.count += 1;
            known.last = Instant::now();
            let patch =
                serde_json::json!({ "count": known.count, "lastTimestamp": Time(note.at), "message": note.message });
            let api: Api<Event> = Api::namespaced(client.clone(), &known.namespace);
            match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await {
                Ok(_) => continue,
                // It has expired: start over with a new one.
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => {
                    tracing::debug!(%error, reason = note.reason, "event not counted");
                    continue;
                }
            }
        }
        let event = event(&note, &node);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let name = event.metadata.name.clone().unwrap_or_default();
        match Api::<Event>::namespaced(client.clone(), &namespace).create(&PostParams::default(), &event).await {
            Ok(_) => {
                seen.insert(key, Seen { namespace, name, count: 1, last: Instant::now() });
            }
            Err(error) => tracing::debug!(%error, reason = note.reason, "event not written"),
        }
    }
}

fn event(note: &Note, node: &str) -> Event {
    let namespace = note.object.namespace.clone().unwrap_or_else(|| "default".into());
    let name = format!("{}.{:x}", note.object.name.as_deref().unwrap_or_default(), note.at.as_nanosecond());
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..Default::default() },
        involved_object: note.object.clone(),
        reason: Some(note.reason.into()),
        message: Some(note.message.clone()),
        type_: Some(note.severity.as_str().into()),
        source: Some(EventSource { component: Some("kubelet".into()), host: Some(node.into()) }),
        reporting_component: Some("kubelet".into()),
        reporting_instance: Some(node.into()),
        first_timestamp: Some(Time(note.at)),
        last_timestamp: Some(Time(note.at)),
        count: Some(1),
        ..Default::default()
    }
}
