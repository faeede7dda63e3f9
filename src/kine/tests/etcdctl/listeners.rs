//! Unix sockets, and TCP with TLS.

use std::os::unix::fs::PermissionsExt;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_for_its_user_alone_and_goes_at_the_end() {
    let served = Served::at("unix://FOLDER/kine.sock", None).await;
    let socket = served.path("kine.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(served.run(&["put", "/a", "1"]).await, "OK\n");
    assert_eq!(served.run(&["get", "/a"]).await, "/a\n1\n");
    let address = Address::Unix(socket.clone());
    assert!(matches!(Listener::bind(&address, None).await, Err(grpc::ListenError::InUse { .. })));
    let folder = served.close().await;
    assert!(!socket.exists());

    // One that a killed process left behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    drop(Listener::bind(&address, None).await.unwrap());
    drop(folder);
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new([]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key for 127.0.0.1.
fn issue(authority: &CertifiedIssuer<KeyPair>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_authority_only_its_clients_are_let_in() {
    let (servers, clients) = (authority("servers"), authority("clients"));
    let (certificate, key) = issue(&servers);
    let tls = Tls { certificate: certificate.into(), key: key.into(), client_ca: Some(clients.pem().into_bytes()) };
    let served = Served::at("127.0.0.1:0", Some(tls)).await;
    assert!(served.url.starts_with("https://"));
    let write = |name: &str, text: &str| {
        std::fs::write(served.path(name), text).unwrap();
        served.path(name).display().to_string()
    };
    let trusted = format!("--cacert={}", write("ca", &servers.pem()));
    let (certificate, key) = issue(&clients);
    let certificate = format!("--cert={}", write("cert", &certificate));
    let key = format!("--key={}", write("key", &key));
    assert_eq!(served.run(&["put", "/a", "1", &trusted, &certificate, &key]).await, "OK\n");
    let timeout = "--dial-timeout=1s";
    served.fail(&["put", "/a", "2", &trusted, timeout, "--command-timeout=2s"]).await;
    let (certificate, key) = issue(&servers);
    let certificate = format!("--cert={}", write("foreign", &certificate));
    let key = format!("--key={}", write("foreign.key", &key));
    served.fail(&["put", "/a", "2", &trusted, &certificate, &key, timeout, "--command-timeout=2s"]).await;
}
