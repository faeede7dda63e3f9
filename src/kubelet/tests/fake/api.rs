//! An API server with just what a kubelet needs.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::{broadcast, watch};

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

pub struct Api {
    /// By collection path and name.
    objects: Mutex<BTreeMap<(String, String), Value>>,
    version: watch::Sender<u64>,
    watches: broadcast::Sender<(String, Value)>,
}

impl Api {
    pub fn new() -> Arc<Self> {
        let api = Self { objects: Mutex::default(), version: watch::channel(1).0, watches: broadcast::channel(1024).0 };
        api.put(
            "/api/v1/namespaces/default/services",
            json!({"metadata": {"name": "kubernetes", "namespace": "default"},
            "spec": {"clusterIP": "10.43.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}}),
        );
        Arc::new(api)
    }

    pub fn client(self: &Arc<Self>) -> kube::Client {
        let api = self.clone();
        kube::Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let api = api.clone();
                async move { Ok::<_, Infallible>(api.answer(request).await) }
            }),
            "default",
        )
    }

    /// Creates or replaces an object.
    pub fn put(&self, collection: &str, mut object: Value) {
        let version = self.next_version();
        object["metadata"]["resourceVersion"] = version.to_string().into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let known = self.objects.lock().insert((collection.to_owned(), name), object.clone()).is_some();
        let kind = if known { "MODIFIED" } else { "ADDED" };
        let _ = self.watches.send((collection.to_owned(), json!({"type": kind, "object": object})));
    }

    pub fn get(&self, collection: &str, name: &str) -> Option<Value> {
        self.objects.lock().get(&(collection.to_owned(), name.to_owned())).cloned()
    }

    pub fn remove(&self, collection: &str, name: &str) -> Option<Value> {
        let mut object = self.objects.lock().remove(&(collection.to_owned(), name.to_owned()))?;
        object["metadata"]["resourceVersion"] = self.next_version().to_string().into();
        let _ = self.watches.send((collection.to_owned(), json!({"type": "DELETED", "object": object})));
        Some(object)
    }

    fn next_version(&self) -> u64 {
        self.version.send_modify(|version| *version += 1);
        *self.version.borrow()
    }

    /// Waits until an object is as `is` wants it (`Null` when it is gone).
    pub async fn wait(&self, collection: &str, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let mut version = self.version.subscribe();
        let seen = async {
            loop {
                let object = self.get(collection, name).unwrap_or(Value::Null);
                if is(&object) {
                    return object;
                }
                version.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), seen).await {
            Ok(object) => object,
            Err(_) => panic!("{name} never was {what}: {:#}", self.get(collection, name).unwrap_or(Value::Null)),
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let watching = parts.uri.query().is_some_and(|query| query.contains("watch=true"));
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let plural = match segments.as_slice() {
            ["api", "v1", "namespaces", _, rest @ ..] | ["apis", _, _, "namespaces", _, rest @ ..] => rest.to_vec(),
            ["api", "v1", rest @ ..] | ["apis", _, _, rest @ ..] => rest.to_vec(),
            _ => Vec::new(),
        };
        let collection = |levels: usize| {
            let keep = segments.len() - levels;
            format!("/{}", segments[..keep].join("/"))
        };
        match (parts.method, plural.as_slice()) {
            (Method::GET, [kind]) if watching => self.watch(kind),
            (Method::GET, [kind]) => self.list(kind),
            (Method::GET, [_, name]) => found(self.get(&collection(1), name)),
            (Method::POST, [_]) => {
                self.put(&path, body.clone());
                object(StatusCode::CREATED, &body)
            }
            (Method::POST, [_, _, "token"]) => {
                let mut answer = body;
                answer["status"] = json!({"token": "a-token", "expirationTimestamp": "2100-01-01T00:00:00Z"});
                object(StatusCode::CREATED, &answer)
            }
            (Method::PUT, [_, _]) => {
                self.put(&collection(1), body.clone());
                object(StatusCode::OK, &body)
            }
            (Method::PATCH, [_, name]) => self.patch(&collection(1), name, &body),
            (Method::PATCH, [_, name, "status"]) => self.patch(&collection(2), name, &body),
            (Method::DELETE, [_, name]) => found(self.remove(&collection(1), name)),
            (method, _) => panic!("the kubelet asked for {method} {path}"),
        }
    }

    fn patch(&self, collection: &str, name: &str, patch: &Value) -> Answer {
        let Some(mut known) = self.get(collection, name) else { return found(None) };
        merge(&mut known, patch);
        self.put(collection, known);
        found(self.get(collection, name))
    }

    fn list(&self, plural: &str) -> Answer {
        let suffix = format!("/{plural}");
        let objects = self.objects.lock();
        let items: Vec<&Value> = objects
            .iter()
            .filter(|((collection, _), _)| collection.ends_with(&suffix))
            .map(|(_, object)| object)
            .collect();
        let metadata = json!({"resourceVersion": self.version.borrow().to_string()});
        object(StatusCode::OK, &json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}))
    }

    fn watch(&self, plural: &str) -> Answer {
        let suffix = format!("/{plural}");
        let frames = futures::stream::unfold(self.watches.subscribe(), |mut events| async move {
            let event = events.recv().await.ok()?;
            Some((event, events))
        })
        .filter_map(move |(collection, event)| {
            let line = collection.ends_with(&suffix).then(|| Ok(Frame::data(Bytes::from(format!("{event}\n")))));
            async move { line }
        });
        Response::new(StreamBody::new(frames.boxed()).boxed_unsync())
    }
}

fn object(status: StatusCode, value: &Value) -> Answer {
    let mut response = Response::new(Full::from(value.to_string()).boxed_unsync());
    *response.status_mut() = status;
    response
}

fn found(value: Option<Value>) -> Answer {
    match value {
        Some(value) => object(StatusCode::OK, &value),
        None => object(
            StatusCode::NOT_FOUND,
            &json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}),
        ),
    }
}

/// A strategic merge, as far as statuses need it.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (field, value) in patch {
        match (field.as_str(), value) {
            (_, Value::Null) => {
                target.as_object_mut().unwrap().remove(field);
            }
            ("conditions", Value::Array(conditions)) => {
                let list = &mut target[field];
                if !list.is_array() {
                    *list = json!([]);
                }
                for condition in conditions {
                    let list = list.as_array_mut().unwrap();
                    match list.iter_mut().find(|known| known["type"] == condition["type"]) {
                        Some(known) => merge(known, condition),
                        None => list.push(condition.clone()),
                    }
                }
            }
            (_, Value::Array(items)) => {
                let items: Vec<Value> = items.iter().filter(|item| item.get("$patch").is_none()).cloned().collect();
                target[field] = items.into();
            }
            (_, Value::Object(_)) => merge(&mut target[field], value),
            _ => target[field] = value.clone(),
        }
    }
}
