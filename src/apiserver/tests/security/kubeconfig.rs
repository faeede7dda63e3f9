//! Kubeconfigs of servers that are asked: who they are, how they are reached, and what this one shows them.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use k3s_apiserver::authorization::webhook::Options;
use k3s_apiserver::authorization::{Authorizer, Config, Mode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::authority::{Authority, Identity};
use crate::cluster::Cluster;
use crate::outside::Outside;

/// An authorizer that says yes to everything.
fn agreeing() -> Outside {
    Outside::start(
        |review| json!({"kind": "SubjectAccessReview", "apiVersion": review["apiVersion"], "status": {"allowed": true}}),
    )
}

fn options(kubeconfig: PathBuf) -> Options {
    Options { version: "v1".to_owned(), authorized_ttl: std::time::Duration::ZERO, ..Options::new(kubeconfig) }
}

/// A server that asks as the kubeconfig says.
async fn cluster(kubeconfig: impl FnOnce(&Path) -> PathBuf) -> Cluster {
    Cluster::start(|config, folder| {
        config.authorization = Config::Modes(vec![Mode::Webhook(options(kubeconfig(folder)))]);
    })
    .await
}

/// What becomes of a question.
async fn ask(cluster: &Cluster) -> StatusCode {
    cluster.get("jane", "/api/v1/namespaces/a/pods").await.0
}

fn server(outside: &Outside) -> Value {
    json!({"server": format!("https://localhost:{}/x", outside.port), "certificate-authority-data": outside.bundle})
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// Puts a file in the place of another at once, as who renews it does.
fn replace(file: &Path, text: &str) {
    let next = file.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(next, file).unwrap();
}

#[tokio::test]
async fn a_token_is_read_again_when_its_file_is_replaced() {
    let outside = agreeing();
    let cluster = cluster(|folder| {
        std::fs::write(folder.join("token"), "one\n").unwrap();
        // The path is relative to the kubeconfig, and the file comes before the token beside it.
        Outside::kubeconfig_of(
            folder,
            &server(&outside),
            &json!({"tokenFile": "token", "token": "old", "as": "gate",
            "as-groups": ["gates"]}),
        )
    })
    .await;
    assert_eq!(ask(&cluster).await, StatusCode::OK);
    assert_eq!(outside.credentials().as_deref(), Some("Bearer one"));
    replace(&cluster.folder.path().join("token"), "two\n");
    assert_eq!(ask(&cluster).await, StatusCode::OK);
    assert_eq!(outside.credentials().as_deref(), Some("Bearer two"));
    assert_eq!(outside.header("impersonate-user").as_deref(), Some("gate"));
    assert_eq!(outside.header("impersonate-group").as_deref(), Some("gates"));
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_whom_is_connected_to_next() {
    let outside = agreeing();
    outside.keep_no_connections();
    let authority = Authority::new("clients");
    let (first, second) = (authority.issue("first", "", &[]), authority.issue("second", "", &[]));
    let write = |folder: &Path, identity: &Identity| {
        replace(&folder.join("key.pem"), &pem("PRIVATE KEY", identity.key.secret_der()));
        replace(&folder.join("cert.pem"), &pem("CERTIFICATE", &identity.certificate));
    };
    let cluster = cluster(|folder| {
        write(folder, &first);
        let user = json!({"client-certificate": "cert.pem", "client-key": "key.pem"});
        Outside::kubeconfig_of(folder, &server(&outside), &user)
    })
    .await;
    assert_eq!(ask(&cluster).await, StatusCode::OK);
    assert_eq!(outside.certificate().as_deref(), Some(&*first.certificate));
    write(cluster.folder.path(), &second);
    assert_eq!(ask(&cluster).await, StatusCode::OK);
    assert_eq!(outside.certificate().as_deref(), Some(&*second.certificate));
}

#[tokio::test]
async fn a_server_proves_itself_as_the_kubeconfig_wants() {
    let outside = agreeing();
    let other = pem("CERTIFICATE", &Authority::new("other").certificate);
    let address = |scheme: &str| format!("{scheme}127.0.0.1:{}", outside.port);
    let user = json!({});
    for (what, cluster_of, expected) in [
        (
            "a name that is not in the certificate",
            json!({"server": address("https://"), "certificate-authority-data": outside.bundle}),
            false,
        ),
        (
            "the name that is",
            json!({"server": address("https://"), "certificate-authority-data": outside.bundle, "tls-server-name": "localhost"}),
            true,
        ),
        (
            "an address alone",
            json!({"server": address(""), "certificate-authority-data": outside.bundle, "tls-server-name": "localhost"}),
            true,
        ),
        (
            "another authority",
            json!({"server": address("https://"), "certificate-authority-data": STANDARD.encode(&other), "tls-server-name": "localhost"}),
            false,
        ),
        ("nothing", json!({"server": address("https://"), "insecure-skip-tls-verify": true}), true),
    ] {
        let cluster = cluster(|folder| Outside::kubeconfig_of(folder, &cluster_of, &user)).await;
        assert_eq!(ask(&cluster).await == StatusCode::OK, expected, "{what}");
    }
}

/// Relays to where its clients want to go, and keeps what they ask it.
async fn proxy(asked: Arc<Mutex<Vec<String>>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    client.read_line(&mut head).await.unwrap();
                }
                let target = head.split(' ').nth(1).unwrap().to_owned();
                asked.lock().push(head);
                let mut server = TcpStream::connect(target).await.unwrap();
                client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                // Either side may go away.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_server_behind_a_proxy_is_reached_through_it() {
    let outside = agreeing();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let port = proxy(Arc::clone(&asked)).await;
    let mut server = server(&outside);
    server["proxy-url"] = json!(format!("http://me:sesame@127.0.0.1:{port}"));
    let cluster = cluster(|folder| Outside::kubeconfig_of(folder, &server, &json!({}))).await;
    assert_eq!(ask(&cluster).await, StatusCode::OK);
    let asked = asked.lock().join("");
    assert!(asked.starts_with(&format!("CONNECT localhost:{} HTTP/1.1\r\n", outside.port)), "{asked}");
    assert!(asked.to_lowercase().contains("proxy-authorization: basic bwu6c2vzyw1l\r\n"), "{asked}");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let authority = STANDARD.encode(pem("CERTIFICATE", &Authority::new("ca").certificate));
    let server = json!({"server": "https://localhost", "certificate-authority-data": authority});
    let with = |field: &str, value: Value| {
        let mut server = server.clone();
        server[field] = value;
        server
    };
    for (cluster, user, expected) in [
        (server.clone(), json!({"exec": {"command": "get-token"}}), "exec can't be used: this server runs no programs"),
        (server.clone(), json!({"auth-provider": {"name": "gcp"}}), "auth-provider can't be used"),
        (with("insecure-skip-tls-verify", json!(true)), json!({}), "a certificate authority has no say with"),
        (with("proxy-url", json!("ftp://proxy")), json!({}), "proxies speak http or socks5 here, not ftp"),
        (with("server", json!("")), json!({}), "it names no server"),
        (server.clone(), json!({"client-certificate-data": authority}), "client-certificate with its client-key"),
        (server.clone(), json!({"tokenFile": "absent"}), "absent"),
    ] {
        let kubeconfig = Outside::kubeconfig_of(folder.path(), &cluster, &user);
        let error = Authorizer::new(&Config::Modes(vec![Mode::Webhook(options(kubeconfig))])).err().expect("a refusal");
        assert!(error.to_string().contains(expected), "{error}");
    }
}
