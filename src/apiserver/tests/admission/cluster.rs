//! An API server over SQLite, called in process.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::WARNING;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use k3s_api::authentication::UserInfo;
use k3s_apiserver::relay::Dialer;
use k3s_apiserver::{ApiServer, Body, Config};
use k3s_kine::sqlite::{Options, Sqlite};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

/// Nothing here takes longer, unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const MAPS: &str = "/api/v1/namespaces/a/configmaps";
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

pub struct Cluster {
    _folder: TempDir,
    pub server: ApiServer,
}

/// An answer: its code, its document and its warnings.
#[derive(Debug)]
pub struct Answer {
    pub code: u16,
    pub value: Value,
    pub warnings: Vec<String>,
}

impl Answer {
    /// The document of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.code < 300, "{} {}", self.code, self.value);
        self.value
    }

    /// Code and message of a failure.
    #[track_caller]
    pub fn error(&self) -> (u16, &str) {
        assert!(self.code >= 400, "{} {}", self.code, self.value);
        (self.code, self.value["message"].as_str().unwrap_or_default())
    }
}

impl Cluster {
    /// With the namespace `a`, which is labelled `team=red`, and `b`, which is not.
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// As [`Cluster::start`]; nodes and pods are reached by that dialer.
    pub async fn start_with(dialer: Option<Arc<dyn Dialer>>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Sqlite::open(&folder.path().join("state.db"), Options::default()).expect("a datastore");
        let mut config = Config::new(Arc::new(store), IpAddr::V4(Ipv4Addr::LOCALHOST));
        if let Some(dialer) = dialer {
            config.relay.dialer = dialer;
        }
        let server = ApiServer::start(config).await.expect("a server");
        let cluster = Self { _folder: folder, server };
        for namespace in [json!({"name": "a", "labels": {"team": "red"}}), json!({"name": "b"})] {
            cluster.post("/api/v1/namespaces", json!({"metadata": namespace})).await.ok();
        }
        for namespace in ["a", "b"] {
            let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
            cluster.post(&path, json!({"metadata": {"name": "default"}})).await.ok();
        }
        cluster
    }

    pub async fn respond(&self, request: Request<Full<Bytes>>) -> http::Response<Body> {
        let answer = tokio::time::timeout(PATIENCE, self.server.clone().oneshot(request)).await;
        let Ok(response) = answer.expect("an answer in time");
        response
    }

    pub async fn send(&self, method: Method, path: &str, content_type: &str, body: Value) -> Answer {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .extension(UserInfo::new("admin", &["system:masters"]))
            .body(Full::new(body))
            .expect("a request");
        let response = self.respond(request).await;
        let code = response.status().as_u16();
        let warnings = response.headers().get_all(WARNING).iter().filter_map(|value| value.to_str().ok());
        let warnings = warnings.map(str::to_owned).collect();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        Answer { code, value: serde_json::from_slice(&bytes).unwrap_or_default(), warnings }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, "application/json", Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, "application/json", body).await
    }

    pub async fn merge(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, "application/merge-patch+json", body).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, "application/json", Value::Null).await
    }

    /// Creates a ConfigMap in namespace `a`.
    pub async fn map(&self, name: &str) -> Answer {
        self.post(MAPS, json!({"metadata": {"name": name}})).await
    }

    /// Creates an object of admissionregistration.k8s.io.
    pub async fn register(&self, resource: &str, object: Value) -> Value {
        self.post(&format!("{GROUP}/{resource}"), object).await.ok()
    }

    /// Removes one.
    pub async fn unregister(&self, resource: &str, name: &str) {
        self.delete(&format!("{GROUP}/{resource}/{name}")).await.ok();
    }
}
