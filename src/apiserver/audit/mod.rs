//! The audit log: who asked for what, when, and how it ended
//! (<https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/>).
//!
//! [`policy`] says of each request how much is written. A [`Record`] gathers it on the request's way through the
//! pipeline, and writes an [`event`] at each stage to the [`log`] and delivers it to the [`webhook`].

mod event;
pub mod log;
mod lost;
mod mode;
pub mod policy;
mod truncate;
pub mod webhook;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use http_body_util::BodyExt;
use jiff::Timestamp;
use k3s_api::authentication::UserInfo;
use k3s_api::status::Status;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use crate::Body;
use crate::remote;
use crate::request::RequestInfo;
use crate::verbs::input;
use event::Event;
use log::Log;
pub use mode::{Mode, UnknownWord};
use policy::{Decision, Level, Policy, Stage};
pub use truncate::Truncate;
use webhook::Webhook;

/// The header that names a request in the log, in the answer and, if the client wants to choose, in the request.
pub(crate) const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");
const MAX_ID: usize = 64;
/// Annotations that begin so hold pieces of objects: they are written where objects are.
pub(crate) const PATCH_ANNOTATION: &str = "patch.webhook.admission.k8s.io/";

/// Why there would be no audit log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Policy(#[from] policy::Error),
    #[error("cannot write the audit log {path}: {source}", path = path.display())]
    Log { path: PathBuf, source: std::io::Error },
    #[error("cannot use the kubeconfig of the audit webhook {path}: {source}", path = path.display())]
    Kubeconfig { path: PathBuf, source: remote::KubeconfigError },
}

/// What is logged, and where to.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--audit-policy-file`.
    pub policy_file: PathBuf,
    pub log: Option<log::Options>,
    pub webhook: Option<webhook::Options>,
}

/// The audit log of a server.
#[derive(Debug)]
pub(crate) struct Audit {
    policy: RwLock<Policy>,
    policy_file: PathBuf,
    log: Option<Log>,
    webhook: Option<Webhook>,
    events: AtomicU64,
}

/// A request, as the log sees it.
pub(crate) struct Asked<'a> {
    pub uri: &'a Uri,
    pub headers: &'a HeaderMap,
    /// `None`: from within the process.
    pub remote: Option<IpAddr>,
    pub info: &'a RequestInfo,
    pub user: &'a UserInfo,
    /// As whom `user` acts, if it is somebody else.
    pub impersonated: Option<&'a UserInfo>,
    /// By which verb of constrained impersonation.
    pub constraint: Option<&'static str>,
}

/// The name that the client has given to its request, or a new one.
pub(crate) fn id(headers: &HeaderMap) -> String {
    let given = headers.get(AUDIT_ID).and_then(|value| value.to_str().ok());
    match given.filter(|given| !given.is_empty()) {
        Some(given) => given.chars().take(MAX_ID).collect(),
        None => uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string(),
    }
}

/// Tells the client the name of its request.
pub(crate) fn label(response: &mut Response<Body>, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id) {
        response.headers_mut().insert(AUDIT_ID, id);
    }
}

impl Audit {
    /// Reads the policy and opens the log.
    ///
    /// # Errors
    /// If either cannot be used.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let policy = RwLock::new(Policy::load(&config.policy_file)?);
        let open = |options: &log::Options| {
            Log::open(options).map_err(|source| Error::Log { path: options.path.clone(), source })
        };
        let log = config.log.as_ref().map(open).transpose()?;
        let webhook = config.webhook.as_ref().map(Webhook::open).transpose()?;
        Ok(Self { policy, policy_file: config.policy_file.clone(), log, webhook, events: AtomicU64::new(0) })
    }

    /// Reads the policy anew, for requests that begin from now on.
    ///
    /// # Errors
    /// If it can't be used; the one before stays in force.
    pub fn reload_policy(&self) -> Result<(), policy::Error> {
        let policy = Policy::load(&self.policy_file)?;
        *self.policy.write() = policy;
        Ok(())
    }

    /// What is to be written of a request; `None`: nothing.
    pub fn begin(self: &Arc<Self>, id: &str, asked: &Asked<'_>) -> Option<Arc<Record>> {
        let decision = self.policy.read().decide(asked.user, asked.info)?;
        let mut event = Event::new(id.to_owned(), decision.level, asked.uri, asked.headers, asked.remote, asked.info);
        event.set_user(asked.user, asked.impersonated, asked.constraint);
        let (event, done) = (Mutex::new(event), AtomicBool::new(false));
        Some(Arc::new(Record { audit: Arc::clone(self), decision, event, done }))
    }

    /// Writes that a request was refused before it was anybody's turn to answer it.
    pub async fn refused(self: &Arc<Self>, id: &str, asked: &Asked<'_>, stage: Stage, status: &Status) {
        if let Some(record) = self.begin(id, asked) {
            record.done.store(true, Ordering::Relaxed);
            record.event.lock().response_status = serde_json::to_value(status).ok();
            record.write(stage).await;
        }
    }

    /// Events that were made, and how many of them each of the ways out has lost.
    pub fn counts(&self) -> (u64, Vec<(&'static str, u64)>) {
        let lost = [("log", self.log.as_ref().map(Log::lost)), ("webhook", self.webhook.as_ref().map(Webhook::lost))];
        let lost = lost.into_iter().filter_map(|(plugin, lost)| Some((plugin, lost?))).collect();
        (self.events.load(Ordering::Relaxed), lost)
    }

    /// Waits, not for long, until what was told is written and delivered.
    pub async fn close(&self) {
        if let Some(log) = &self.log {
            log.close().await;
        }
        if let Some(webhook) = &self.webhook {
            webhook.close().await;
        }
    }
}

/// An event as each of the ways out has it.
struct Encoded {
    line: Option<Vec<u8>>,
    delivered: Option<Bytes>,
}

/// What is known of a request that is written to the log. When the last one who knows of it is gone, it is complete.
#[derive(Debug)]
pub(crate) struct Record {
    audit: Arc<Audit>,
    decision: Decision,
    event: Mutex<Event>,
    /// The last event has been written.
    done: AtomicBool,
}

impl Record {
    /// Writes that the request has come.
    ///
    /// # Errors
    /// 500 if that can't be written, and nothing is to be done unwritten.
    pub async fn received(&self) -> Result<(), Status> {
        if self.write(Stage::RequestReceived).await {
            return Ok(());
        }
        self.done.store(true, Ordering::Relaxed);
        Err(Status::internal("the audit log can't be written, and nothing is done without it"))
    }

    /// Whether the answer's body is written, which it then may not be compressed for.
    pub fn wants_response(&self) -> bool {
        self.decision.level == Level::RequestResponse
    }

    /// Adds what a plug-in has to say, by its own key. What was said first stays.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        if key.starts_with(PATCH_ANNOTATION) && self.decision.level < Level::Request {
            return;
        }
        self.event.lock().annotations.entry(key.to_owned()).or_insert_with(|| value.into());
    }

    /// Adds what plug-ins have to say, by their own keys.
    pub fn annotate_all(&self, annotations: &BTreeMap<String, String>) {
        for (key, value) in annotations {
            self.annotate(key, value);
        }
    }

    /// Takes the body of the request.
    pub fn request_body(&self, headers: &HeaderMap, body: &Bytes) {
        let is_create = self.event.lock().object_ref.as_ref().is_some_and(|object| object.name.is_empty());
        let is_written = self.decision.level >= Level::Request;
        if body.is_empty() || !(is_written || is_create) {
            return;
        }
        let Some(value) = parse(headers, body) else { return };
        let mut event = self.event.lock();
        if let Some(object) = event.object_ref.as_mut().filter(|_| is_create) {
            let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
            (object.name, object.uid, object.resource_version) = (text("name"), text("uid"), text("resourceVersion"));
            if object.namespace.is_empty() {
                object.namespace = text("namespace");
            }
        }
        if is_written {
            event.request_object = Some(self.shown(value));
        }
    }

    /// Writes that the answer is there, or, if it goes on for long, that it has begun.
    pub async fn answered(self: Arc<Self>, mut response: Response<Body>, long_running: bool) -> Response<Body> {
        let code = response.status();
        self.event.lock().response_status = Some(serde_json::json!({"metadata": {}, "code": code.as_u16()}));
        if code.as_u16() < 400 && long_running {
            self.write(Stage::ResponseStarted).await;
            let body = std::mem::take(response.body_mut());
            *response.body_mut() = match body {
                Body::Stream(stream) => Body::stream(stream.map(move |item| {
                    // It is complete when the stream is dropped.
                    let _ = &self;
                    item
                })),
                body => body,
            };
            return response;
        }
        let code_says_more = code.as_u16() >= 400;
        if (self.wants_response() || code_says_more)
            && let Err(broken) = self.response_body(&mut response).await
        {
            return broken;
        }
        self.done.store(true, Ordering::Relaxed);
        self.write(Stage::ResponseComplete).await;
        response
    }

    async fn response_body(&self, response: &mut Response<Body>) -> Result<(), Response<Body>> {
        let body = std::mem::take(response.body_mut());
        let bytes = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return Err(crate::response::status(&Status::internal(error))),
        };
        if !bytes.is_empty() {
            *response.body_mut() = bytes.clone().into();
        }
        let Some(value) = parse(response.headers(), &bytes) else { return Ok(()) };
        let mut event = self.event.lock();
        if response.status() >= StatusCode::BAD_REQUEST && value["kind"] == "Status" {
            let mut status = value;
            if let Some(status) = status.as_object_mut() {
                status.retain(|field, _| !matches!(field.as_str(), "kind" | "apiVersion"));
            }
            event.response_status = Some(status);
        } else if self.wants_response() {
            event.response_object = Some(self.shown(value));
        }
        Ok(())
    }

    /// Without what the policy leaves out.
    fn shown(&self, mut value: Value) -> Value {
        fn strip(object: &mut Value) {
            if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.remove("managedFields");
            }
        }
        if self.decision.omit_managed_fields {
            strip(&mut value);
            value.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().for_each(strip);
        }
        value
    }

    fn at(&self, stage: Stage) -> Option<Encoded> {
        if self.decision.omit_stages.contains(&stage) {
            return None;
        }
        let mut event = self.event.lock();
        event.stage = stage;
        event.stage_timestamp = Timestamp::now();
        self.audit.events.fetch_add(1, Ordering::Relaxed);
        Some(Encoded {
            line: self.audit.log.as_ref().and_then(|log| log.encode(&event)),
            delivered: self.audit.webhook.as_ref().and_then(|webhook| webhook.encode(&event)),
        })
    }

    /// Writes and delivers the event of a stage. Whether the request may be served.
    async fn write(&self, stage: Stage) -> bool {
        let Some(Encoded { line, delivered }) = self.at(stage) else { return true };
        let written = async {
            match (&self.audit.log, line) {
                (Some(log), Some(line)) => log.write(line).await,
                _ => true,
            }
        };
        let delivered = async {
            match (&self.audit.webhook, delivered) {
                (Some(webhook), Some(event)) => webhook.write(event).await,
                _ => true,
            }
        };
        let (written, delivered) = tokio::join!(written, delivered);
        written && delivered
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.done.load(Ordering::Relaxed) {
            return;
        }
        // The end of a stream, or of a request whose client did not wait for the answer.
        let stage = if std::thread::panicking() { Stage::Panic } else { Stage::ResponseComplete };
        let Some(Encoded { line, delivered }) = self.at(stage) else { return };
        if let (Some(log), Some(line)) = (&self.audit.log, line) {
            log.post(line);
        }
        if let (Some(webhook), Some(event)) = (&self.audit.webhook, delivered) {
            webhook.post(event);
        }
    }
}

/// A body as JSON, whatever it is written in. What is no object at all is left out.
fn parse(headers: &HeaderMap, body: &Bytes) -> Option<Value> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match media_type {
        yaml if yaml.contains("yaml") => serde_json::from_slice(&input::yaml_to_json(body).ok()?).ok(),
        protobuf if protobuf.contains("protobuf") => k3s_api::protobuf::decode(body).ok(),
        _ => serde_json::from_slice(body).ok(),
    }
}
