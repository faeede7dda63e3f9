//! Servers whose datastore is another program. No nodes: the API server and the controllers are what needs it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use k3s_tests::datastore::database::{Kind, Server};
use k3s_tests::datastore::etcd;
use k3s_tests::{Cluster, eventually, free_port};
use serde_json::json;

/// How long a start, or going on after an outage, may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the database is away.
const OUTAGE: Duration = Duration::from_secs(10);

const OBJECTS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: first, namespace: shop}
data: {text: grün}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'example.test/web:1'}]}
";

/// A server with its files below `folder`. Not started yet.
fn server(folder: &Path, endpoint: &str, flags: &[String]) -> Cluster<'static> {
    std::fs::create_dir_all(folder).expect("a folder");
    let port = format!("--https-listen-port={}", free_port());
    let endpoint = format!("--datastore-endpoint={endpoint}");
    let own = ["--disable-agent", "--disable=coredns", "--bind-address=127.0.0.1", &port, &endpoint];
    let flags = own.into_iter().chain(flags.iter().map(String::as_str));
    Cluster::root(folder, &flags.collect::<Vec<_>>())
}

/// The flags for the files that are made for the tests' authority.
fn certificates(tls: &Path) -> Vec<String> {
    [("cafile", "ca.crt"), ("certfile", "client.crt"), ("keyfile", "client.key")]
        .map(|(flag, file)| format!("--datastore-{flag}={}", tls.join(file).display()))
        .into()
}

fn start(cluster: &mut Cluster) {
    cluster.spawn();
    eventually("the API answers", PATIENCE, || {
        cluster.try_kubectl(&["get", "--raw=/readyz"]).map_err(|error| format!("{error}\n{}", cluster.log_tail()))
    });
}

/// The objects written here, by name: uid, and what they hold. Pods come from controllers, one after the other.
fn objects(cluster: &Cluster) -> BTreeMap<String, (String, String)> {
    let list = cluster.get(&["namespace/shop", "configmap/first", "deployment/web", "-n", "shop"]);
    let items = list["items"].as_array().expect("items").iter();
    let found: BTreeMap<_, _> = items
        .map(|item| {
            let name = item["metadata"]["name"].as_str().expect("a name").to_owned();
            let holds = format!("{}{}", item["data"], item["spec"]);
            (name, (item["metadata"]["uid"].as_str().expect("a uid").to_owned(), holds))
        })
        .collect();
    assert_eq!(found.len(), 3, "{list}");
    found
}

/// Controllers work: they have made what they make in a namespace.
fn controllers_see(cluster: &Cluster, namespace: &str) {
    eventually("the namespace has its service account", PATIENCE, || {
        cluster.try_kubectl(&["get", "serviceaccount", "default", "-n", namespace])
    });
}

/// A `kubectl get --watch` of the config maps in `shop`.
struct Watching {
    child: Child,
    lines: mpsc::Receiver<String>,
    told: Vec<String>,
}

impl Watching {
    fn begin(cluster: &Cluster) -> Self {
        let mut command = cluster.kubectl_command(&["get", "configmaps", "-n", "shop", "--watch", "-o", "name"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a started kubectl");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, told: Vec::new() }
    }

    /// Waits until it has told of a config map.
    fn until(&mut self, name: &str) {
        let name = format!("configmap/{name}");
        while !self.told.contains(&name) {
            let line = self.lines.recv_timeout(PATIENCE);
            self.told.push(line.unwrap_or_else(|_| panic!("{name} did not come, but {:?}", self.told)));
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn servers_that_share_postgres_go_on_after_a_kill_and_an_outage() {
    let mut database = Server::start(Kind::Postgres);
    database.sql("postgres", "CREATE ROLE cert LOGIN SUPERUSER");
    let folder = tempfile::tempdir().expect("a folder");
    let endpoint = format!("postgres://cert@localhost:{}/shared", database.port);
    let mut flags = certificates(&database.path("tls"));
    let mut stranger = server(&folder.path().join("stranger"), &endpoint, &flags);
    flags.push("--token=one-for-all".into());
    let mut one = server(&folder.path().join("one"), &endpoint, &flags);
    start(&mut one);
    one.kubectl_input(&["apply", "-f", "-"], OBJECTS);
    let written = objects(&one);
    one.kill();
    start(&mut one);
    assert_eq!(objects(&one), written, "all is there after the kill");

    let mut two = server(&folder.path().join("two"), &endpoint, &flags);
    start(&mut two);
    assert_eq!(objects(&two), written, "another server has the same");
    let authority =
        |server: &str| std::fs::read(folder.path().join(server).join("data/server/tls/server-ca.crt")).expect("a file");
    assert_eq!(authority("one"), authority("two"), "they are one cluster");
    let token = one.kubectl(&["create", "token", "default", "-n", "shop"]);
    let review =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token.trim()}});
    let reviewed = two.kubectl_input(&["create", "-f", "-", "-o", "json"], &review.to_string());
    assert!(reviewed.contains("system:serviceaccount:shop:default"), "a token of one is good at the other: {reviewed}");
    stranger.spawn();
    assert!(!stranger.wait_end().success());
    let said = stranger.log_tail();
    assert!(said.contains("encrypted with different token"), "{said}");
    let mut watching = Watching::begin(&two);
    watching.until("first");
    one.kubectl(&["create", "configmap", "through-the-other", "-n", "shop"]);
    watching.until("through-the-other");

    database.stop();
    let waiting = one
        .kubectl_command(&["create", "configmap", "while-away", "-n", "shop"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a started kubectl");
    // Nothing happens that could be waited for: that is what an outage is.
    std::thread::sleep(OUTAGE);
    database.run();
    let waited = waiting.wait_with_output().expect("kubectl's output");
    let said = String::from_utf8_lossy(&waited.stderr);
    assert!(waited.status.success(), "a request waits for the database: {said}");
    watching.until("while-away");
    one.kubectl(&["create", "configmap", "after", "-n", "shop"]);
    watching.until("after");
    let expected = ["first", "through-the-other", "while-away", "after"].map(|name| format!("configmap/{name}"));
    let told: Vec<_> = watching.told.iter().filter(|line| expected.contains(line)).collect();
    assert_eq!(told, expected.iter().collect::<Vec<_>>(), "each event once, in order");
    two.kubectl(&["create", "namespace", "later"]);
    controllers_see(&one, "later");
    drop(watching);
    assert!(one.stop().success() && two.stop().success());
}

#[test]
fn a_cluster_in_mariadb_or_etcd_is_there_after_a_kill() {
    let mariadb = Server::start(Kind::Mariadb);
    let etcd = etcd::Cluster::start_with_tls();
    let folder = tempfile::tempdir().expect("a folder");
    let places = [
        ("mariadb", format!("mysql://cert@tcp(127.0.0.1:{})/shared", mariadb.port), mariadb.path("tls")),
        ("etcd", etcd.urls(), etcd.path("tls")),
    ];
    // Side by side.
    let mut clusters = places.map(|(name, endpoint, tls)| {
        let mut cluster = server(&folder.path().join(name), &endpoint, &certificates(&tls));
        cluster.spawn();
        cluster
    });
    let answers = |cluster: &Cluster| {
        eventually("the API answers", PATIENCE, || {
            cluster.try_kubectl(&["get", "--raw=/readyz"]).map_err(|error| format!("{error}\n{}", cluster.log_tail()))
        })
    };
    let written = clusters.each_ref().map(|cluster| {
        answers(cluster);
        cluster.kubectl_input(&["apply", "-f", "-"], OBJECTS);
        controllers_see(cluster, "shop");
        objects(cluster)
    });
    for cluster in &mut clusters {
        cluster.kill();
        cluster.spawn();
    }
    for (cluster, written) in clusters.iter_mut().zip(written) {
        answers(cluster);
        assert_eq!(objects(cluster), written);
        cluster.kubectl(&["create", "namespace", "later"]);
        controllers_see(cluster, "later");
        assert!(cluster.stop().success());
    }
}

#[test]
fn a_datastore_that_cannot_be_opened_ends_the_server_which_says_why() {
    let database = Server::start(Kind::Postgres);
    database.sql("postgres", "CREATE DATABASE foreigner");
    database.sql("foreigner", "CREATE TABLE kine (id integer, colour text)");
    let folder = tempfile::tempdir().expect("a folder");
    let tls = database.path("tls");
    let half = vec![format!("--datastore-certfile={}", tls.join("client.crt").display())];
    let cases = [
        ("password", database.endpoint("k3s:wrong-one", "kubernetes"), vec![], &["refused the login"][..]),
        (
            "host",
            "postgres://k3s:secret@no-such-host.invalid/kubernetes?sslmode=disable".to_owned(),
            vec![],
            &["no-such-host.invalid", "is not available"],
        ),
        ("schema", database.endpoint("k3s:secret", "foreigner"), vec![], &["foreigner", "not kine's"]),
        ("scheme", "oracle://k3s:secret@localhost/db".to_owned(), vec![], &["oracle://", "no such datastore"]),
        ("half", format!("postgres://cert@localhost:{}/kubernetes", database.port), half, &["--datastore-keyfile"]),
    ];
    // Side by side: one waits a while for its host.
    let mut servers = cases.each_ref().map(|(name, endpoint, flags, _)| {
        let mut server = server(&folder.path().join(name), endpoint, flags);
        server.spawn();
        server
    });
    for (server, (name, _, _, expected)) in servers.iter_mut().zip(cases) {
        assert!(!server.wait_end().success(), "{name}");
        let said = server.log_tail();
        for words in expected {
            assert!(said.contains(words), "{name}: {words:?} is not in: {said}");
        }
        assert!(!said.contains("secret") && !said.contains("wrong-one"), "{name}: {said}");
    }
}
