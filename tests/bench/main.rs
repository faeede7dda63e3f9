//! The benchmark of a whole cluster: how fast it starts, what it takes at rest, how fast a pod is ready.
//!
//! Everything is measured on the real binary with a new user and an empty home, several times over; the medians are
//! printed. Memory is the resident set of each process, and what each has for itself alone (Pss of smaps_rollup shares
//! out what several map).

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k3s_tests::{Cluster, User, binary, busybox_image, condition};
use serde_json::Value;

/// How often start, restart and apply are measured.
const ROUNDS: usize = 5;
/// How long an idle cluster is watched.
const IDLE: Duration = Duration::from_secs(60);
const LIMIT: Duration = Duration::from_secs(60);

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let idle = if quick { Duration::from_secs(5) } else { IDLE };
    println!("| what | measured |\n|---|---|");
    let size = std::fs::metadata(binary()).expect("the binary").len();
    row("binary", format!("{:.1} MB", size as f64 / 1e6));
    let (mut api, mut ready, mut dns) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let user = User::create("bench");
        let mut cluster = Cluster::rootless(&user, &["--https-listen-port=16460"]);
        let begin = Instant::now();
        cluster.spawn();
        api.push(until(begin, || cluster.kubeconfig.exists() && cluster.try_kubectl(&["get", "namespaces"]).is_ok()));
        ready.push(until(begin, || node_ready(&cluster)));
        dns.push(until(begin, || coredns_ready(&cluster)));
        if round + 1 == ROUNDS {
            row("first start to API", seconds(&mut api));
            row("first start to node Ready", seconds(&mut ready));
            row("first start to coredns Running and ready", seconds(&mut dns));
            running(&user, &mut cluster, idle);
        }
        cluster.stop();
    }
}

/// What a cluster that runs takes and does.
fn running(user: &User, cluster: &mut Cluster, idle: Duration) {
    cluster.add_image("web.tar", busybox_image("example.test/web:1"));
    let (mut applied, mut deleted) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let begin = Instant::now();
        cluster.kubectl_input(&["apply", "-f", "-"], POD);
        let took = until(begin, || {
            cluster.try_kubectl(&["get", "pod", "bench", "-o", "json"]).is_ok_and(|text| {
                serde_json::from_str::<Value>(&text).is_ok_and(|pod| condition(&pod, "Ready") == "True")
            })
        });
        let begin = Instant::now();
        cluster.kubectl(&["delete", "pod", "bench"]);
        let gone = begin.elapsed();
        // The first also waits for the import of the image.
        if round > 0 {
            applied.push(took);
            deleted.push(gone);
        }
    }
    row("apply to pod Ready, image present", seconds(&mut applied));
    row("delete to pod gone", seconds(&mut deleted));
    std::thread::sleep(idle / 4);
    let before = cpu(user);
    std::thread::sleep(idle);
    let used = cpu(user) - before;
    row(
        &format!("CPU of the idle tree over {} s", idle.as_secs()),
        format!("{:.2} % of a core", used * 100.0 / idle.as_secs_f64()),
    );
    memory(user);
    let mut restarts = Vec::new();
    for _ in 0..ROUNDS {
        cluster.stop();
        let (begin, stopped) = (Instant::now(), Timestamp::now());
        cluster.spawn();
        // The node's condition is from before the stop; that it is there again says its lease.
        restarts.push(until(begin, || node_ready(cluster) && renewed(cluster).is_some_and(|time| time > stopped)));
    }
    row("restart to node Ready", seconds(&mut restarts));
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: bench}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: example.test/web:1
    readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1}
";

fn row(what: &str, value: String) {
    println!("| {what} | {value} |");
}

fn until(begin: Instant, mut done: impl FnMut() -> bool) -> Duration {
    while !done() {
        assert!(begin.elapsed() < LIMIT, "not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    begin.elapsed()
}

fn seconds(samples: &mut [Duration]) -> String {
    samples.sort();
    let (first, last) = (samples.first().copied().unwrap_or_default(), samples.last().copied().unwrap_or_default());
    let median = samples.get(samples.len() / 2).copied().unwrap_or_default();
    format!("{:.2} s ({:.2} to {:.2})", median.as_secs_f64(), first.as_secs_f64(), last.as_secs_f64())
}

fn node_ready(cluster: &Cluster) -> bool {
    let nodes = cluster
        .try_kubectl(&["get", "nodes", "-o", "json"])
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok());
    nodes.is_some_and(|nodes| {
        nodes["items"]
            .as_array()
            .is_some_and(|all| !all.is_empty() && all.iter().all(|node| condition(node, "Ready") == "True"))
    })
}

/// When the node last renewed its lease.
fn renewed(cluster: &Cluster) -> Option<Timestamp> {
    let leases = cluster.try_kubectl(&["-n", "kube-node-lease", "get", "leases", "-o", "json"]).ok()?;
    let leases: Value = serde_json::from_str(&leases).ok()?;
    leases["items"][0]["spec"]["renewTime"].as_str()?.parse().ok()
}

fn coredns_ready(cluster: &Cluster) -> bool {
    let pods = cluster.try_kubectl(&["-n", "kube-system", "get", "pods", "-l", "k8s-app=kube-dns", "-o", "json"]);
    let pods = pods.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    pods.is_some_and(|pods| {
        pods["items"]
            .as_array()
            .is_some_and(|all| !all.is_empty() && all.iter().all(|pod| condition(pod, "Ready") == "True"))
    })
}

/// Seconds of CPU that the processes of the user have used.
fn cpu(user: &User) -> f64 {
    let ticks: u64 = user
        .processes()
        .iter()
        .filter_map(|(pid, _)| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        })
        .sum();
    ticks as f64 / 100.0
}

fn memory(user: &User) {
    let (mut resident, mut shared_out) = (0, 0);
    for (pid, line) in user.processes() {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let of = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        let (rss, pss) = (of("Rss:"), of("Pss:"));
        resident += rss;
        shared_out += pss;
        let name: String = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let name = name.rsplit('/').next().unwrap_or(&name).to_owned();
        row(&format!("resident, `{name}`"), format!("{:.1} MiB ({:.1} Pss)", rss as f64 / 1024.0, pss as f64 / 1024.0));
    }
    row("resident, whole tree", format!("{:.1} MiB ({:.1} Pss)", resident as f64 / 1024.0, shared_out as f64 / 1024.0));
}
