//! Who is let in, to what; and what is said if not.

use k3s_kine::endpoint;

use super::*;

async fn open_endpoint(endpoint: &str, tls: Files) -> Result<endpoint::Opened, endpoint::Error> {
    let options = endpoint::Options {
        endpoint: endpoint.into(),
        tls,
        request_timeout: Some(Duration::from_secs(2)),
        ..Default::default()
    };
    endpoint::open(&options).await
}

async fn refused(endpoint: &str, tls: Files) -> String {
    let Err(error) = open_endpoint(endpoint, tls).await else { panic!("{endpoint} was let in") };
    error.to_string()
}

async fn works(opened: endpoint::Opened) {
    let revision = opened.store.create(bytes("/works"), bytes("v"), 0).await.unwrap();
    assert_eq!(opened.store.get(bytes("/works"), 0).await.unwrap().0, revision);
    opened.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_let_in_who_may_and_others_are_told() {
    let cluster = Cluster::start_with_tls();
    let at = |name: &str| Some(cluster.path("tls").join(name));
    let client = Files { ca: at("ca.crt"), cert: at("client.crt"), key: at("client.key") };
    let url = cluster.url(0);
    works(open_endpoint(&url, client.clone()).await.unwrap()).await;

    let stranger = refused(&url, Files { cert: None, key: None, ..client.clone() }).await;
    assert!(stranger.contains("certificate is not accepted"), "{stranger}");
    let other = tempfile::tempdir().unwrap();
    certificates::make(other.path());
    let forged = refused(&url, Files { ca: Some(other.path().join("ca.crt")), ..client.clone() }).await;
    assert!(forged.contains("certificate is not accepted") && forged.contains("invalid peer certificate"), "{forged}");
    let another = Files {
        cert: Some(other.path().join("client.crt")),
        key: Some(other.path().join("client.key")),
        ..client.clone()
    };
    let unknown = refused(&url, another).await;
    assert!(unknown.contains("certificate is not accepted"), "{unknown}");
    let half = refused(&url, Files { key: None, ..client.clone() }).await;
    assert!(half.contains("--datastore-keyfile"), "{half}");
    let nobody = refused("https://localhost:1", client.clone()).await;
    assert!(nobody.contains("is not available") && nobody.contains("refused"), "{nobody}");
    let plain = refused(&url.replace("https", "http"), Files::default()).await;
    assert!(plain.contains("is not available"), "{plain}");
    // One member that answers is enough.
    works_not_twice(open_endpoint(&format!("https://localhost:1,{url}"), client).await.unwrap()).await;
}

async fn works_not_twice(opened: endpoint::Opened) {
    let again = opened.store.create(bytes("/works"), bytes("v"), 0).await;
    assert!(matches!(&again, Err(Error::Conflict { current: Some(_), .. })), "{again:?}");
    opened.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_with_users_says_that_it_wants_one() {
    let cluster = Cluster::start(1);
    cluster.etcdctl(0, &["user", "add", "root:secret"]);
    cluster.etcdctl(0, &["user", "grant-role", "root", "root"]);
    cluster.etcdctl(0, &["auth", "enable"]);
    let nameless = refused(&cluster.urls(), Files::default()).await;
    assert!(nameless.contains("refused the login") && nameless.contains("client certificate"), "{nameless}");
}

#[tokio::test]
async fn a_host_that_does_not_exist_and_one_that_is_no_etcd_are_told_apart() {
    let unknown = refused("http://no-such-host.invalid:2379", Files::default()).await;
    assert!(unknown.contains("is not available") && unknown.contains("no-such-host.invalid"), "{unknown}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // A client that is gone already needs no answer.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 404 Not Found\r\n\r\n").await;
        }
    });
    let foreign = refused(&url, Files::default()).await;
    assert!(foreign.contains("is not available"), "{foreign}");
    answering.abort();
}
