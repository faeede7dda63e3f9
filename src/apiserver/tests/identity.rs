//! Users that others vouch for: an OpenID provider and a token webhook, each a real server behind TLS.

mod authority;

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use k3s_apiserver::authentication::jwt::SigningKey;
use k3s_apiserver::authentication::{Authenticated, oidc, webhook};
use k3s_apiserver::{ApiServer, Body, Config, serve};
use k3s_kine::sqlite::{Options, Sqlite};
use parking_lot::Mutex;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use authority::Authority;

/// The provider and the webhook in one.
struct Outside {
    authority: Authority,
    url: String,
    keys: Arc<Mutex<Vec<Value>>>,
    reviews: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn key() -> SigningKey {
    SigningKey::from_pem(KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap()
}

async fn answer(request: Request<Incoming>, url: String, keys: Value, reviews: Arc<AtomicUsize>) -> Value {
    match request.uri().path() {
        "/.well-known/openid-configuration" => json!({"issuer": url, "jwks_uri": format!("{url}/keys")}),
        "/keys" => json!({"keys": keys}),
        _ => {
            assert_eq!(request.headers()["authorization"], "Bearer webhook-secret");
            reviews.fetch_add(1, Ordering::Relaxed);
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let review: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(
                (&review["kind"], &review["apiVersion"]),
                (&json!("TokenReview"), &json!("authentication.k8s.io/v1"))
            );
            match review["spec"]["token"].as_str().unwrap() {
                "opaque" => json!({"status": {"authenticated": true,
                    "user": {"username": "joe", "uid": "7", "groups": ["ops"], "extra": {"a": ["b"]}}}}),
                _ => json!({"status": {"authenticated": false}}),
            }
        }
    }
}

fn outside() -> Outside {
    let authority = Authority::new("outside");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let tls = serve::tls(authority.issue("provider", "", &["localhost"]).certified(), Vec::new()).unwrap();
    let (keys, reviews, stop) =
        (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let (known, counted, address) = (Arc::clone(&keys), Arc::clone(&reviews), url.clone());
    let service = tower::service_fn(move |request| {
        let keys = Value::from(known.lock().clone());
        let answer = answer(request, address.clone(), keys, Arc::clone(&counted));
        async move { Ok::<_, Infallible>(Response::new(Body::from(answer.await.to_string()))) }
    });
    tokio::spawn(serve::serve(vec![listener], tls, service, serve::Limits::default(), stop.clone()));
    Outside { authority, url, keys, reviews, stop }
}

struct Cluster {
    server: ApiServer,
    _folder: TempDir,
}

impl Cluster {
    async fn start(change: impl FnOnce(&mut Config, &TempDir)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap());
        let mut config = Config::new(store, IpAddr::V4(Ipv4Addr::LOCALHOST));
        change(&mut config, &folder);
        Self { server: ApiServer::start(config).await.unwrap(), _folder: folder }
    }

    /// Who the bearer of a token is.
    async fn who(&self, token: &str) -> Result<Value, StatusCode> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
        let request = Request::builder()
            .method(Method::POST)
            .uri("/apis/authentication.k8s.io/v1/selfsubjectreviews")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {token}"))
            .body(Full::new(Bytes::from(review.to_string())))
            .unwrap();
        let Ok(response) = Authenticated::new(self.server.clone()).oneshot(request).await;
        let code = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        match code {
            // Nobody here has a role; who somebody is stands in the refusal.
            StatusCode::FORBIDDEN | StatusCode::CREATED => Ok(serde_json::from_slice(&bytes).unwrap()),
            code => Err(code),
        }
    }
}

fn claims(url: &str, change: Value) -> Value {
    let mut claims = json!({"iss": url, "sub": "1", "email": "jane@example.com", "aud": "k3s", "exp": i64::MAX / 4,
        "groups": ["system:masters"]});
    claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    claims
}

#[tokio::test]
async fn tokens_of_the_openid_provider_are_checked_with_its_keys_as_they_change() {
    let outside = outside();
    let first = key();
    outside.keys.lock().push(first.public().jwk());
    let options = oidc::Options {
        issuer_url: outside.url.clone(),
        client_id: "k3s".to_owned(),
        username_claim: "email".to_owned(),
        groups_claim: "groups".to_owned(),
        signing_algorithms: vec!["ES256".to_owned()],
        authorities: vec![outside.authority.certificate.clone()],
        ..oidc::Options::default()
    };
    let cluster = Cluster::start(|config, _| config.authentication.oidc = Some(options)).await;
    let token = first.sign(&claims(&outside.url, json!({}))).unwrap();
    let user = cluster.who(&token).await.unwrap()["status"]["userInfo"].clone();
    assert_eq!(user["username"], "jane@example.com");
    assert_eq!(user["groups"], json!(["system:masters", "system:authenticated"]));
    for change in [json!({"exp": 5}), json!({"aud": "other"}), json!({"iss": "https://other"})] {
        let token = first.sign(&claims(&outside.url, change.clone())).unwrap();
        assert_eq!(cluster.who(&token).await, Err(StatusCode::UNAUTHORIZED), "{change}");
    }
    let second = key();
    let token = second.sign(&claims(&outside.url, json!({}))).unwrap();
    assert_eq!(cluster.who(&token).await, Err(StatusCode::UNAUTHORIZED));
    *outside.keys.lock() = vec![second.public().jwk()];
    let deadline = Instant::now() + Duration::from_secs(20);
    while cluster.who(&token).await.is_err() {
        assert!(Instant::now() < deadline, "the new key is never asked for");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let old = first.sign(&claims(&outside.url, json!({}))).unwrap();
    assert_eq!(cluster.who(&old).await, Err(StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn a_provider_whose_certificate_nobody_trusts_vouches_for_nobody() {
    let outside = outside();
    let key = key();
    outside.keys.lock().push(key.public().jwk());
    let options = oidc::Options {
        issuer_url: outside.url.clone(),
        client_id: "k3s".to_owned(),
        signing_algorithms: vec!["ES256".to_owned()],
        authorities: vec![Authority::new("another").certificate.clone()],
        ..oidc::Options::default()
    };
    let cluster = Cluster::start(|config, _| config.authentication.oidc = Some(options)).await;
    let token = key.sign(&claims(&outside.url, json!({}))).unwrap();
    assert_eq!(cluster.who(&token).await, Err(StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn a_webhook_judges_tokens_and_is_not_asked_twice() {
    let outside = outside();
    let pem = base64::engine::general_purpose::STANDARD.encode(&outside.authority.certificate);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----\n");
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "judge", "cluster": {"server": format!("{}/review", outside.url),
            "certificate-authority-data": base64::engine::general_purpose::STANDARD.encode(pem)}}],
        "users": [{"name": "me", "user": {"token": "webhook-secret"}}],
        "contexts": [{"name": "c", "context": {"cluster": "judge", "user": "me"}}],
    });
    let cluster = Cluster::start(|config, folder| {
        let path = folder.path().join("webhook.yaml");
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        let options = webhook::Options { version: "v1".to_owned(), ..webhook::Options::new(path) };
        config.authentication.token_webhook = Some(options);
    })
    .await;
    for _ in 0..3 {
        let answer = cluster.who("opaque").await.unwrap();
        // Joe has no role; the refusal knows him all the same.
        assert!(answer["message"].as_str().unwrap().contains("User \"joe\" cannot create"), "{answer}");
        assert_eq!(cluster.who("made-up").await, Err(StatusCode::UNAUTHORIZED));
    }
    assert_eq!(outside.reviews.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_webhook_that_is_reached_by_a_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("webhook.yaml");
    let kubeconfig = json!({"current-context": "c",
        "clusters": [{"name": "judge", "cluster": {"server": "https://localhost"}}],
        "users": [{"name": "me", "user": {"exec": {"command": "login"}}}],
        "contexts": [{"name": "c", "context": {"cluster": "judge", "user": "me"}}]});
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    let store = Arc::new(Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap());
    let mut config = Config::new(store, IpAddr::V4(Ipv4Addr::LOCALHOST));
    config.authentication.token_webhook = Some(webhook::Options::new(path));
    let error = ApiServer::start(config).await.err().expect("no server").to_string();
    assert!(error.contains("webhook.yaml") && error.contains("exec can't be used"), "{error}");
}
