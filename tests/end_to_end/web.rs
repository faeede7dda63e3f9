//! A small web application and what is done with it, as root and as an ordinary user alike.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use k3s_tests::{Cluster, busybox_image, eventually};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);

/// Two pods behind a service on a node port, with a config map in the environment and as files, and a secret.
fn manifest(node_port: u16, greeting: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {{name: page}}
data:
  index.html: "{greeting} from a config map\n"
  COLOUR: green
---
apiVersion: v1
kind: Secret
metadata: {{name: key}}
stringData: {{token: s3cret}}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: example.test/web:1
        ports: [{{name: http, containerPort: 8080}}]
        readinessProbe: {{httpGet: {{path: /index.html, port: http}}, periodSeconds: 1}}
        livenessProbe: {{exec: {{command: [/bin/test, -e, /bin/busybox]}}, periodSeconds: 5}}
        env:
        - name: COLOUR
          valueFrom: {{configMapKeyRef: {{name: page, key: COLOUR}}}}
        - name: TOKEN
          valueFrom: {{secretKeyRef: {{name: key, key: token}}}}
        volumeMounts:
        - {{name: page, mountPath: /www}}
        - {{name: key, mountPath: /key, readOnly: true}}
        - {{name: scratch, mountPath: /scratch}}
      volumes:
      - {{name: page, configMap: {{name: page}}}}
      - {{name: key, secret: {{secretName: key}}}}
      - {{name: scratch, emptyDir: {{}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{name: http, port: 80, targetPort: http, nodePort: {node_port}}}]
"#
    )
}

/// Names of the pods of the application that are there to stay, sorted.
pub fn pods(cluster: &Cluster) -> Vec<String> {
    let list = cluster.get(&["pods", "-l", "app=web"]);
    let living =
        list["items"].as_array().into_iter().flatten().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let mut names: Vec<String> = living.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    names
}

fn ready_pods(cluster: &Cluster) -> usize {
    let deployment = cluster.get(&["deployment", "web"]);
    deployment["status"]["readyReplicas"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

/// A page over HTTP from this machine.
pub fn fetch(address: SocketAddr, path: &str) -> Result<String, String> {
    let fetch = || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    let answer = fetch().map_err(|error| error.to_string())?;
    if !answer.starts_with("HTTP/1.0 200") && !answer.starts_with("HTTP/1.1 200") {
        return Err(answer);
    }
    Ok(answer.split("\r\n\r\n").nth(1).unwrap_or_default().to_owned())
}

/// Brings the application up.
pub fn deploy(cluster: &Cluster, node_port: u16) {
    cluster.add_image("web.tar", busybox_image("example.test/web:1"));
    let applied = cluster.kubectl_input(&["apply", "-f", "-"], &manifest(node_port, "hello"));
    for line in ["configmap/page created", "secret/key created", "deployment.apps/web created", "service/web created"] {
        assert!(applied.contains(line), "{applied}");
    }
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(ready_pods(cluster), 2);
}

/// DNS runs, pods find each other, and the host finds them.
pub fn check_network(cluster: &Cluster, node_port: u16) {
    eventually("coredns runs", LIMIT, || {
        let list = cluster.try_kubectl(&["get", "pods", "-A"])?;
        let line = list.lines().find(|line| line.contains("coredns")).ok_or(list.clone())?;
        if line.contains("1/1") && line.contains("Running") { Ok(()) } else { Err(line.to_owned()) }
    });
    let pod = &pods(cluster)[0];
    let service = cluster.get(&["service", "web"]);
    let cluster_ip = service["spec"]["clusterIP"].as_str().expect("a cluster address").to_owned();
    for host in ["web", "web.default.svc.cluster.local", &cluster_ip] {
        eventually(&format!("the service answers a pod as {host}"), LIMIT, || {
            let entry = cluster.try_kubectl(&["exec", pod, "--", "getent", "ahostsv4", host])?;
            let address = entry.split_whitespace().next().unwrap_or_default();
            if address != cluster_ip {
                return Err(format!("{host} is {entry:?}"));
            }
            let get = format!("printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} 80");
            let page = cluster.try_kubectl(&["exec", pod, "--", "sh", "-c", &get])?;
            if page.ends_with("hello from a config map\n") { Ok(()) } else { Err(page) }
        });
    }
    let host = SocketAddr::from(([127, 0, 0, 1], node_port));
    let page = eventually("the node port answers on the host", LIMIT, || fetch(host, "/index.html"));
    assert_eq!(page, "hello from a config map\n");
}

/// On the host's IPv6 addresses the node port answers as well, if the host has any.
pub fn check_ipv6(node_port: u16) {
    let loopback = std::net::Ipv6Addr::LOCALHOST;
    if std::net::TcpListener::bind((loopback, 0)).is_err() {
        eprintln!("not tried with IPv6: this machine has none");
        return;
    }
    let page = fetch((loopback, node_port).into(), "/index.html").expect("an answer to IPv6");
    assert_eq!(page, "hello from a config map\n");
}

/// What users look at and do.
pub fn check_kubectl(cluster: &Cluster) {
    let pod = pods(cluster)[0].clone();
    let run = |command: &[&str]| cluster.kubectl(&[&["exec", &pod, "--"], command].concat());
    assert_eq!(run(&["sh", "-c", "echo $COLOUR $TOKEN"]), "green s3cret\n");
    assert_eq!(run(&["cat", "/key/token"]), "s3cret");
    assert_eq!(run(&["sh", "-c", "echo x > /scratch/x; cat /scratch/x"]), "x\n");
    assert!(run(&["cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"]).starts_with("ey"));
    let failed = cluster.try_kubectl(&["exec", &pod, "--", "sh", "-c", "exit 7"]).unwrap_err();
    assert!(failed.starts_with("exit status: 7"), "{failed}");
    let missing = cluster.try_kubectl(&["exec", &pod, "--", "/no/such"]).unwrap_err();
    assert!(missing.contains("no such file or directory"), "{missing}");

    let wide = cluster.kubectl(&["get", "pods", "-o", "wide"]);
    assert!(wide.lines().next().is_some_and(|head| head.contains("NOMINATED NODE")), "{wide}");
    assert!(cluster.kubectl(&["get", "pod", &pod, "-o", "yaml"]).contains("phase: Running"));
    let described = cluster.kubectl(&["describe", "pod", &pod]);
    for text in ["Successfully assigned", "Started", "Readiness:"] {
        assert!(described.contains(text), "{text:?} is not in:\n{described}");
    }
    assert!(cluster.kubectl(&["describe", "node"]).contains("Allocatable"));

    cluster.kubectl(&["scale", "deployment/web", "--replicas=3"]);
    eventually("three pods are ready", LIMIT, || match ready_pods(cluster) {
        3 => Ok(()),
        count => Err(format!("{count} are")),
    });
    cluster.kubectl(&["scale", "deployment/web", "--replicas=2"]);
    eventually("the third is gone", LIMIT, || match pods(cluster).len() {
        2 => Ok(()),
        count => Err(format!("{count} are there")),
    });
    let before = pods(cluster);
    cluster.kubectl(&["rollout", "restart", "deployment/web"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    eventually("all pods are new", LIMIT, || {
        let now = pods(cluster);
        if now.len() == 2 && now.iter().all(|name| !before.contains(name)) { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

/// Logs that are followed, and watches.
pub fn check_streams(cluster: &Cluster) {
    let pod = r#"
apiVersion: v1
kind: Pod
metadata: {name: counter}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: counter
    image: example.test/web:1
    command: [sh, -c, 'for i in $(seq 1 5); do echo line $i; sleep 0.2; done; sleep 3600']
"#;
    cluster.kubectl_input(&["apply", "-f", "-"], pod);
    eventually("the counter runs", LIMIT, || {
        let phase = cluster.try_kubectl(&["get", "pod", "counter", "-o", "jsonpath={.status.phase}"])?;
        if phase == "Running" { Ok(()) } else { Err(phase) }
    });
    let mut follow =
        cluster.kubectl_command(&["logs", "-f", "counter"]).stdout(Stdio::piped()).spawn().expect("a started kubectl");
    let mut output = follow.stdout.take().expect("a pipe");
    let mut text = String::new();
    let mut buffer = [0; 256];
    while !text.contains("line 5") {
        let length = output.read(&mut buffer).expect("logs that go on");
        assert!(length > 0, "the log ended: {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    assert_eq!(text, "line 1\nline 2\nline 3\nline 4\nline 5\n");
    let mut watch =
        cluster.kubectl_command(&["get", "pod", "counter", "-w"]).stdout(Stdio::piped()).spawn().expect("a kubectl");
    let mut changes = watch.stdout.take().expect("a pipe");
    let mut seen = String::new();
    while !seen.contains("Running") {
        let length = changes.read(&mut buffer).expect("a watch that goes on");
        assert!(length > 0, "the watch ended: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    assert!(cluster.kubectl(&["delete", "pod", "counter"]).contains("deleted"));
    // The log ends with its container; the watch is ended here.
    let ended = eventually("the followed log ends", LIMIT, || {
        follow.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "it goes on".to_owned())
    });
    assert!(ended.success(), "{ended}");
    watch.kill().expect("a running kubectl");
    watch.wait().expect("an ended kubectl");
}

/// A terminal in a container, and one of its ports here, through `kubectl` as a shell would call it.
pub fn check_terminal_and_port(cluster: &Cluster, kubectl: &str, port: u16) {
    let pod = pods(cluster)[0].clone();
    // `script` gives the command a terminal, as a person has one. Its size comes after the start.
    let typed = format!(
        "{kubectl} exec -it {pod} -- sh -c 'tty; for i in $(seq 20); do size=$(stty size 2>/dev/null); case $size in ?*) break ;; esac; sleep 0.1; done; echo $size; read line; echo got $line'"
    );
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &format!("stty rows 33 cols 77; {typed}"), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script");
    let mut stdin = terminal.stdin.take().expect("a pipe");
    stdin.write_all(b"hello\n").expect("input taken");
    let output = terminal.wait_with_output().expect("an ended terminal");
    drop(stdin);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{typed}: {}: {text}", output.status);
    for line in ["/dev/pts/", "33 77", "got hello"] {
        assert!(text.contains(line), "{line:?} is not in {text:?}");
    }

    let command = format!("exec {kubectl} port-forward pod/{pod} {port}:8080");
    let mut forward = Command::new("sh").args(["-c", &command]).stdout(Stdio::null()).spawn().expect("a shell");
    for _ in 0..3 {
        let page =
            eventually("the forwarded port answers", LIMIT, || fetch(([127, 0, 0, 1], port).into(), "/index.html"));
        assert!(page.ends_with("from a config map\n"), "{page:?}");
    }
    forward.kill().expect("a running kubectl");
    forward.wait().expect("an ended kubectl");
}

/// A change is applied and takes effect.
pub fn check_change(cluster: &Cluster, node_port: u16) {
    let applied = cluster.kubectl_input(&["apply", "-f", "-"], &manifest(node_port, "bye"));
    assert!(applied.contains("configmap/page configured"), "{applied}");
    assert!(applied.contains("secret/key"), "{applied}");
    let pod = pods(cluster)[0].clone();
    eventually("the change is in the pod", Duration::from_secs(120), || {
        let page = cluster.try_kubectl(&["exec", &pod, "--", "cat", "/www/index.html"])?;
        if page == "bye from a config map\n" { Ok(()) } else { Err(page) }
    });
}

/// Containers of pods that are there to stay, by id, with how often their place was restarted.
pub fn containers(cluster: &Cluster) -> Vec<(String, u64)> {
    let list = cluster.get(&["pods", "-A"]);
    let living =
        list["items"].as_array().into_iter().flatten().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let statuses = living.flat_map(|pod| {
        let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        statuses.into_iter().map(|it: Value| {
            (it["containerID"].as_str().unwrap_or_default().to_owned(), it["restartCount"].as_u64().unwrap_or(u64::MAX))
        })
    });
    let mut all: Vec<_> = statuses.collect();
    all.sort();
    all
}

/// Takes the application away and waits until nothing of it is left.
pub fn delete(cluster: &Cluster) {
    cluster.kubectl(&["delete", "deployment/web", "service/web", "configmap/page", "secret/key"]);
    eventually("the pods are gone", LIMIT, || {
        let left = pods_of_all_states(cluster);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn pods_of_all_states(cluster: &Cluster) -> Vec<String> {
    let list = cluster.get(&["pods", "-l", "app=web"]);
    let names = list["items"].as_array().into_iter().flatten();
    names.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

/// The node's own tools reach its runtime, from where its user is.
pub fn check_tools(cluster: &Cluster) {
    let pod = pods(cluster)[0].clone();
    let id = cluster.k3s(&["crictl", "pods", "-q", "--name", &pod]);
    let shown = cluster.k3s(&["crictl", "ps", "--pod", id.trim()]);
    assert!(shown.contains("Running") && shown.contains(&pod), "{shown}");
    let container = cluster.k3s(&["crictl", "ps", "-q", "--pod", id.trim()]);
    let container = container.trim();
    assert_eq!(cluster.k3s(&["crictl", "exec", container, "echo", "through CRI"]), "through CRI\n");
    let direct = cluster.kubectl(&["logs", &pod, "--tail=1"]);
    assert_eq!(cluster.k3s(&["crictl", "logs", "--tail", "1", container]), direct);
    let names = cluster.k3s(&["ctr", "-n", "k8s.io", "images", "ls", "-q"]);
    assert!(names.contains("coredns"), "{names}");
}
