//! An API server with users who have tokens.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use k3s_apiserver::authentication::Authenticated;
use k3s_apiserver::{ApiServer, Config};
use k3s_kine::sqlite::{Options, Sqlite};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

pub struct Cluster {
    pub folder: TempDir,
    pub server: ApiServer,
}

impl Cluster {
    /// With the users `admin`, who may do everything, and `jane`, who may read config maps by RBAC.
    pub async fn start(change: impl FnOnce(&mut Config, &Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let store = Arc::new(Sqlite::open(&file("state.db"), Options::default()).unwrap());
        let mut config = Config::new(store, IpAddr::V4(Ipv4Addr::LOCALHOST));
        std::fs::write(file("tokens.csv"), "admin,admin,1,\"system:masters\"\njane,jane,2,\"devs\"\n").unwrap();
        config.authentication.token_file = Some(file("tokens.csv"));
        change(&mut config, folder.path());
        let server = ApiServer::start(config).await.unwrap();
        let cluster = Self { folder, server };
        let rbac = "/apis/rbac.authorization.k8s.io/v1";
        let role = json!({"metadata": {"name": "reader"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]});
        let binding = json!({"metadata": {"name": "jane"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
        for (resource, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
            let (code, answer) = cluster.post("admin", &format!("{rbac}/{resource}"), object).await;
            assert_eq!(code, StatusCode::CREATED, "{answer}");
        }
        cluster
    }

    pub async fn get(&self, token: &str, path: &str) -> (StatusCode, Value) {
        self.get_with(token, &[], path).await
    }

    /// With these headers.
    pub async fn get_with(&self, token: &str, headers: &[(&str, &str)], path: &str) -> (StatusCode, Value) {
        self.send(Method::GET, token, headers, path, Value::Null).await
    }

    pub async fn post(&self, token: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.post_with(token, &[], path, body).await
    }

    /// With these headers.
    pub async fn post_with(
        &self,
        token: &str,
        headers: &[(&str, &str)],
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        self.send(Method::POST, token, headers, path, body).await
    }

    pub async fn put(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::PUT, "admin", &[], path, body).await
    }

    /// Patches it by a merge patch.
    pub async fn merge(&self, token: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.send(Method::PATCH, token, &[], path, body).await
    }

    pub async fn delete(&self, token: &str, path: &str) -> (StatusCode, Value) {
        self.send(Method::DELETE, token, &[], path, Value::Null).await
    }

    async fn send(
        &self,
        method: Method,
        token: &str,
        headers: &[(&str, &str)],
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = Request::builder();
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let content_type = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let request = request
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let Ok(response) = Authenticated::new(self.server.clone()).oneshot(request).await;
        let code = response.status();
        // Roles and bindings hold a moment after they are written.
        self.server.registry().catch_up().await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        (code, serde_json::from_slice(&bytes).unwrap_or_else(|_| text()))
    }
}
