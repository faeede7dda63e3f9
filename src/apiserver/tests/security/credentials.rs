//! What users show, and what they may ask to be given.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

use crate::cluster::Cluster;

#[tokio::test]
async fn a_bootstrap_token_is_good_as_long_as_its_secret_says() {
    let cluster = Cluster::start(|_, _| ()).await;
    let (code, _) = cluster.post("admin", "/api/v1/namespaces", json!({"metadata": {"name": "kube-system"}})).await;
    assert_eq!(code, StatusCode::CREATED);
    let who = async |token: &str| {
        let (code, answer) = cluster.get(token, "/version").await;
        (code, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    let token = "abcdef.0123456789abcdef";
    assert_eq!(who(token).await.0, StatusCode::UNAUTHORIZED);
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    let secret = |usage: &str| {
        json!({"metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token", "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": usage}})
    };
    assert_eq!(cluster.post("admin", secrets, secret("true")).await.0, StatusCode::CREATED);
    let (code, message) = who(token).await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    assert!(message.contains("User \"system:bootstrap:abcdef\" cannot get path"), "{message}");
    assert_eq!(who("abcdef.0123456789abcdee").await.0, StatusCode::UNAUTHORIZED);
    let (code, _) = cluster.put(&format!("{secrets}/bootstrap-token-abcdef"), secret("false")).await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(who(token).await.0, StatusCode::UNAUTHORIZED);
}

/// A request for a certificate of that group.
fn signing_request(group: &str, signer: &str) -> Value {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, "jane");
    parameters.distinguished_name.push(DnType::OrganizationName, group);
    let pem = parameters.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    json!({"metadata": {"generateName": "jane-"}, "spec": {"request": STANDARD.encode(pem), "signerName": signer,
        "usages": ["client auth"]}})
}

#[tokio::test]
async fn nobody_asks_the_signer_of_clients_for_a_master_s_certificate() {
    let cluster = Cluster::start(|_, _| ()).await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let client = "kubernetes.io/kube-apiserver-client";
    for (group, signer, wanted) in [
        ("devs", client, StatusCode::CREATED),
        ("system:masters", "example.com/mine", StatusCode::CREATED),
        ("system:masters", client, StatusCode::FORBIDDEN),
    ] {
        let (code, answer) = cluster.post("admin", requests, signing_request(group, signer)).await;
        assert_eq!(code, wanted, "{group} {signer}: {answer}");
        if wanted == StatusCode::FORBIDDEN {
            let message = answer["message"].as_str().unwrap();
            let why = "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed";
            assert!(message.ends_with(why), "{message}");
        }
    }
}
