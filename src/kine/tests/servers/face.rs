//! etcd's own client (package etcd-client) against the gRPC face over each database server, as `k3s kine` serves it.

use k3s_kine::{
    endpoint,
    grpc::{self, Listener},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_serves_etcdctl() {
    serves_etcdctl(&Server::start(Kind::Postgres)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_serves_etcdctl() {
    serves_etcdctl(&Server::start(Kind::Mariadb)).await;
}

/// A minute of load by etcd's own measure; for machines at rest.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn check_perf_passes_over_postgres() {
    check_perf_passes(&Server::start(Kind::Postgres)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn check_perf_passes_over_mariadb() {
    check_perf_passes(&Server::start(Kind::Mariadb)).await;
}

async fn check_perf_passes(server: &Server) {
    let face = Face::over(server).await;
    let (success, said) = face.etcdctl(&["check", "perf"], Duration::from_secs(300)).await;
    assert!(success && said.contains("PASS") && !said.contains("FAIL"), "{said}");
    println!("{said}");
    face.close().await;
}

/// The gRPC face over a database, on an unused port of the loopback interface.
struct Face {
    opened: endpoint::Opened,
    url: String,
    closing: CancellationToken,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Face {
    async fn over(server: &Server) -> Self {
        let endpoint = server.endpoint("k3s:secret", "kine");
        let opened = endpoint::open(&endpoint::Options { endpoint, ..Default::default() }).await.unwrap();
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap(), None).await.unwrap();
        let url = listener.url();
        let closing = CancellationToken::new();
        let serving = tokio::spawn(grpc::serve(opened.store.clone(), listener, closing.clone()));
        Self { opened, url, closing, serving }
    }

    /// Whether the command succeeds, and what it says.
    async fn etcdctl(&self, args: &[&str], within: Duration) -> (bool, String) {
        let mut command = tokio::process::Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(&self.url).args(args).kill_on_drop(true);
        let output = tokio::time::timeout(within, command.output()).await.expect("etcdctl").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout) + &text(output.stderr))
    }

    async fn close(self) {
        self.closing.cancel();
        self.serving.await.unwrap().unwrap();
        self.opened.close().await.unwrap();
    }
}

async fn serves_etcdctl(server: &Server) {
    let face = Face::over(server).await;
    let Face { opened, url, .. } = &face;
    let run = async |args: &[&str]| face.etcdctl(args, Duration::from_secs(30)).await;
    let must = async |args: &[&str]| {
        let (success, said) = run(args).await;
        assert!(success, "{args:?}: {said}");
        said
    };

    assert_eq!(must(&["put", "/a/1", "one"]).await, "OK\n");
    must(&["put", "/a/2", "two"]).await;
    assert_eq!(must(&["get", "/a/", "--prefix"]).await, "/a/1\none\n/a/2\ntwo\n");
    assert_eq!(must(&["get", "/a/1", "--print-value-only", "--rev", "2"]).await, "one\n");
    let granted = must(&["lease", "grant", "100"]).await;
    let lease = granted.split(' ').nth(1).unwrap();
    must(&["put", "/leased", "v", "--lease", lease]).await;
    assert!(must(&["lease", "timetolive", lease, "--keys"]).await.contains("/leased"), "{granted}");
    must(&["lease", "revoke", lease]).await;
    assert_eq!(must(&["get", "/leased"]).await, "");
    assert_eq!(must(&["del", "/a/", "--prefix"]).await, "2\n");
    let current = opened.store.current_revision().await.unwrap();
    must(&["compaction", &current.to_string()]).await;
    let (success, said) = run(&["get", "/a/1", "--rev", "2"]).await;
    assert!(!success && said.contains("compacted"), "{said}");
    // As `check perf` writes them: bytes that are no text.
    let client = etcd_client::Client::connect([url], None).await.unwrap();
    let mut kv = client.kv_client();
    let binary = [b"/etcdctl-check-perf/".as_slice(), &[0xfe, 0x01], &[0; 510]].concat();
    kv.put(binary.clone(), "v", None).await.unwrap();
    assert_eq!(kv.get(binary.clone(), None).await.unwrap().kvs()[0].key(), binary);
    let removed =
        kv.delete("/etcdctl-check-perf/", Some(etcd_client::DeleteOptions::new().with_prefix())).await.unwrap();
    assert_eq!(removed.deleted(), 1);
    let refused = kv.put("x".repeat(2001), "v", None).await.unwrap_err().to_string();
    assert!(refused.contains("InvalidArgument") || refused.contains("invalid argument"), "{refused}");
    assert!(refused.contains("takes no key of more than"), "{refused}");
    assert!(must(&["endpoint", "status"]).await.contains(url));
    let (success, said) = run(&["snapshot", "save", &server.path("snapshot").display().to_string()]).await;
    assert!(!success && said.contains("use the database's own tools"), "{said}");

    let counted = opened.metrics().text();
    assert!(counted.contains("kine_sql_total{error_code=\"\"}"), "{counted}");
    assert!(counted.contains(&format!("kine_compact_revision {current}")), "{counted}");
    face.close().await;
}
