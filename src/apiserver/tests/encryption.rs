//! Encryption at rest, from the datastore's bytes to the client and back, over changes of the configuration.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use k3s_api::authentication::UserInfo;
use k3s_apiserver::encryption::Encryption;
use k3s_apiserver::{ApiServer, Config};
use k3s_kine::Datastore;
use k3s_kine::sqlite::{Options, Sqlite};
use serde_json::{Value, json};
use tower::ServiceExt;

const KEY: &str = "/registry/secrets/a/s";
const SECRETS: &str = "/api/v1/namespaces/a/secrets";
const CONFIG_MAPS: &str = "/api/v1/namespaces/a/configmaps";

struct Place {
    folder: tempfile::TempDir,
    store: Arc<Sqlite>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap());
        Self { folder, store }
    }

    /// A server whose secrets are encrypted with the first of these providers.
    async fn server(&self, providers: Value) -> ApiServer {
        let path = self.folder.path().join("encryption.yaml");
        let file = json!({
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "EncryptionConfiguration",
            "resources": [{"resources": ["secrets"], "providers": providers}],
        });
        std::fs::write(&path, file.to_string()).unwrap();
        self.start(Encryption::load(&path).unwrap()).await
    }

    async fn start(&self, encryption: Encryption) -> ApiServer {
        let mut config = Config::new(self.store.clone(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        config.encryption = Arc::new(encryption);
        ApiServer::start(config).await.unwrap()
    }

    /// What lies on the disk.
    async fn stored(&self, key: &str) -> Bytes {
        self.store.get(key.to_owned().into(), 0).await.unwrap().1.unwrap().value
    }
}

async fn call(server: &ApiServer, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .extension(UserInfo::new("admin", &["system:masters"]))
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let Ok(response) = server.clone().oneshot(request).await;
    let code = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

async fn namespace(server: &ApiServer) {
    let (code, _) = call(server, Method::POST, "/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
    assert_eq!(code, StatusCode::CREATED);
}

fn key(name: &str, letter: &str) -> Value {
    use base64::Engine as _;
    let secret = base64::engine::general_purpose::STANDARD.encode(letter.repeat(32));
    json!({"keys": [{"name": name, "secret": secret}]})
}

#[tokio::test]
async fn secrets_are_encrypted_on_disk_and_plain_for_clients() {
    for provider in ["aescbc", "aesgcm", "secretbox"] {
        let place = Place::new();
        let server = place.server(json!([{provider: key("k1", "a")}])).await;
        namespace(&server).await;
        let secret = json!({"metadata": {"name": "s"}, "stringData": {"word": "sesame"}});
        assert_eq!(call(&server, Method::POST, SECRETS, secret).await.0, StatusCode::CREATED);
        let map = json!({"metadata": {"name": "m"}, "data": {"word": "plain"}});
        assert_eq!(call(&server, Method::POST, CONFIG_MAPS, map).await.0, StatusCode::CREATED);

        let stored = place.stored(KEY).await;
        assert!(stored.starts_with(format!("k8s:enc:{provider}:v1:k1:").as_bytes()), "{provider}");
        assert!(place.stored("/registry/configmaps/a/m").await.starts_with(b"{"));

        // From the cache, from the datastore at a new start, and from its history.
        for server in [&server, &place.server(json!([{provider: key("k1", "a")}])).await] {
            let (code, read) = call(server, Method::GET, &format!("{SECRETS}/s"), Value::Null).await;
            assert_eq!((code, &read["data"]["word"]), (StatusCode::OK, &json!("c2VzYW1l")), "{provider}");
            let path = format!("{SECRETS}?watch=1&resourceVersion=1&timeoutSeconds=1");
            let (code, event) = call(server, Method::GET, &path, Value::Null).await;
            assert_eq!(code, StatusCode::OK);
            assert_eq!(event["object"]["data"]["word"], "c2VzYW1l", "{provider}");
        }
    }
}

#[tokio::test]
async fn an_update_that_changes_nothing_moves_an_object_to_the_new_key() {
    let place = Place::new();
    let server = place.server(json!([{"identity": {}}])).await;
    namespace(&server).await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"word": "sesame"}});
    call(&server, Method::POST, SECRETS, secret).await;
    assert!(place.stored(KEY).await.starts_with(b"{"));

    for (providers, prefix) in [
        (json!([{"aescbc": key("k1", "a")}, {"identity": {}}]), &b"k8s:enc:aescbc:v1:k1:"[..]),
        (json!([{"aesgcm": key("k2", "b")}, {"aescbc": key("k1", "a")}]), b"k8s:enc:aesgcm:v1:k2:"),
        (json!([{"identity": {}}, {"aesgcm": key("k2", "b")}]), b"{"),
    ] {
        let server = place.server(providers).await;
        let path = format!("{SECRETS}/s");
        let (_, read) = call(&server, Method::GET, &path, Value::Null).await;
        let (code, once) = call(&server, Method::PUT, &path, read.clone()).await;
        assert_eq!(code, StatusCode::OK, "{once}");
        assert!(place.stored(KEY).await.starts_with(prefix));
        assert_ne!(once["metadata"]["resourceVersion"], read["metadata"]["resourceVersion"]);
        // Now it is as it should be, and the same update is none.
        let (_, twice) = call(&server, Method::PUT, &path, once.clone()).await;
        assert_eq!(once["metadata"]["resourceVersion"], twice["metadata"]["resourceVersion"]);
    }
}

#[tokio::test]
async fn a_lost_key_fails_what_needs_it_and_nothing_else() {
    let place = Place::new();
    let server = place.server(json!([{"secretbox": key("k1", "a")}])).await;
    namespace(&server).await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"word": "sesame"}});
    call(&server, Method::POST, SECRETS, secret).await;

    let wrong_secret = place.server(json!([{"secretbox": key("k1", "b")}])).await;
    let other_key = place.server(json!([{"secretbox": key("k2", "a")}])).await;
    let none = place.start(Encryption::default()).await;
    for (server, expected) in [
        (wrong_secret, "does not match its key k1"),
        (other_key, "no matching prefix found"),
        (none, "identity transformer tried to read encrypted data"),
    ] {
        let (code, status) = call(&server, Method::GET, SECRETS, Value::Null).await;
        let message = status["message"].as_str().unwrap_or_default();
        assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR, "{status}");
        assert!(message.contains(KEY) && message.contains(expected), "{message}");
        assert_eq!(call(&server, Method::GET, CONFIG_MAPS, Value::Null).await.0, StatusCode::OK);
    }
}
