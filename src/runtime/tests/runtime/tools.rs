//! `crictl` and `ctr` as processes, with a runtime that is served.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::node::until;
use crate::served::Served;

/// What a tool said, and the code it ended with.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Cells of a table's lines, but the head.
    fn rows(self) -> Vec<Vec<String>> {
        let cells =
            |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
        self.ok().lines().skip(1).map(cells).collect()
    }

    fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    for variable in ["CONTAINER_RUNTIME_ENDPOINT", "CRI_CONFIG_FILE", "CONTAINERD_ADDRESS", "K3S_DATA_DIR"] {
        command.env_remove(variable);
    }
    command
}

async fn said(mut command: Command) -> Said {
    let output = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A node, and its tools.
struct Tools {
    served: Served,
    endpoint: String,
}

impl Tools {
    async fn new() -> Self {
        let served = Served::new().await;
        let endpoint = format!("unix://{}", served.socket.display());
        Self { served, endpoint }
    }

    fn command(&self, args: &[&str]) -> Command {
        command(&[&["crictl", "-r", &self.endpoint], args].concat())
    }

    async fn crictl(&self, args: &[&str]) -> Said {
        said(self.command(args)).await
    }

    async fn ctr(&self, args: &[&str]) -> Said {
        said(command(&[&["ctr", "-a", &self.endpoint, "-n", "k8s.io", "images"], args].concat())).await
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.served.node.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A pod's file and its id, once it runs.
    async fn pod(&self) -> (PathBuf, String) {
        let logs = self.served.node.path("logs");
        let text = format!(
            "metadata: {{name: web, namespace: shop, uid: u1}}\nlog_directory: {}\nlabels: {{app: web}}\n",
            logs.display()
        );
        let path = self.file("pod.yaml", &text);
        let id = self.crictl(&["runp", path.to_str().unwrap()]).await.ok();
        (path, id.trim().to_owned())
    }

    /// A container that runs a script, once it has started.
    async fn container(&self, pod: &(PathBuf, String), name: &str, script: &str, more: &str) -> String {
        let text = format!(
            r#"{{"metadata": {{"name": "{name}"}}, "image": {{"image": "busybox"}}, "command": ["sh", "-c", "{script}"],
            "labels": {{"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "shop"}}, {more}
            "log_path": "{name}/0.log"}}"#
        );
        let path = self.file(&format!("{name}.json"), &text);
        let args = ["create", &pod.1, path.to_str().unwrap(), pod.0.to_str().unwrap()];
        let id = self.crictl(&args).await.ok().trim().to_owned();
        assert_eq!(self.crictl(&["start", &id]).await.ok().trim(), id);
        id
    }

    async fn end(self) {
        self.served.end().await;
    }
}

pub async fn pods_and_containers_are_made_and_shown() {
    let tools = Tools::new().await;
    let pod = tools.pod().await;
    let id = tools.container(&pod, "main", "echo out; echo err >&2; exec sleep 1000", "").await;

    let pods = tools.crictl(&["pods"]).await.rows();
    let [shown] = pods.as_slice() else { panic!("{pods:?}") };
    assert_eq!(
        (shown[0].as_str(), &shown[2..]),
        (&pod.1[..13], &["Ready", "web", "shop", "0", "(default)"].map(str::to_owned)[..])
    );
    assert_eq!(tools.crictl(&["pods", "-q", "--label", "app=web"]).await.ok().trim(), pod.1);
    assert_eq!(tools.crictl(&["pods", "-q", "--state", "notready"]).await.ok(), "");

    let containers = tools.crictl(&["ps"]).await.rows();
    let [shown] = containers.as_slice() else { panic!("{containers:?}") };
    let expected = [&id[..13], "busybox", &shown[2], "Running", "main", "0", &pod.1[..13], "web", "shop"];
    assert_eq!(shown, &expected.map(str::to_owned));
    assert!(shown[2].ends_with(" ago"), "{shown:?}");
    let list = tools.crictl(&["ps", "-o", "json", "--name", "^ma"]).await.json();
    assert_eq!(
        (&list["containers"][0]["id"], &list["containers"][0]["state"]),
        (&id.clone().into(), &"CONTAINER_RUNNING".into())
    );
    assert_eq!(tools.crictl(&["ps", "-q", "--image", "busybox"]).await.ok().trim(), id);
    assert_eq!(tools.crictl(&["ps", "-q", "--name", "other"]).await.ok(), "");

    let status = tools.crictl(&["inspect", &id[..10]]).await.json();
    assert_eq!(status["status"]["metadata"]["name"], "main");
    assert!(status["status"]["startedAt"].as_str().unwrap().ends_with('Z'), "{status}");
    assert!(status["info"]["pid"].as_i64().unwrap() > 0, "{status}");
    let yaml = tools.crictl(&["inspectp", "-o", "yaml", &pod.1]).await.ok();
    assert!(yaml.contains("\n  state: SANDBOX_READY\n") && yaml.contains("ip: 10.42.0.7\n"), "{yaml}");
    let image = tools.crictl(&["inspecti", "busybox"]).await.json();
    assert_eq!(image["status"]["repoTags"][0], "docker.io/library/busybox:latest");

    let log = tools.served.node.path("logs/main/0.log");
    until("both lines", || std::fs::read_to_string(&log).is_ok_and(|text| text.lines().count() == 2)).await;
    let logs = tools.crictl(&["logs", &id]).await;
    assert_eq!((logs.out.as_str(), logs.err.as_str()), ("out\n", "err\n"));
    assert_eq!(tools.crictl(&["logs", "--tail", "0", &id]).await.ok(), "");
    tools.crictl(&["logs", "--reopen", &id]).await.ok();

    let (stats, of_pods) = tokio::join!(tools.crictl(&["stats", "--all"]), tools.crictl(&["statsp"]));
    for rows in [stats.rows(), of_pods.rows()] {
        assert!(rows.len() == 1 && rows[0].iter().any(|cell| cell.ends_with('B')), "{rows:?}");
    }
    let stats = tools.crictl(&["stats", "-o", "json", &id[..8]]).await.json();
    assert_ne!(stats["stats"][0]["writableLayer"]["inodesUsed"]["value"], "0", "{stats}");
    let metrics = tools.crictl(&["metricsp"]).await.json();
    assert_eq!(metrics["podMetrics"][0]["containerMetrics"][0]["containerId"], id.as_str(), "{metrics}");
    assert!(tools.crictl(&["metricdescs"]).await.ok().contains("container_cpu_usage_seconds_total"));
    // This node has no cgroups, and says so.
    let refused = tools.crictl(&["update", "--memory", "100000000", &id]).await;
    assert!(refused.code == Some(1) && refused.err.contains("limits are not enforced"), "{refused:?}");
    let refused = tools.crictl(&["ps", "-o", "go-template"]).await;
    assert!(refused.code != Some(0) && refused.err.contains("use json"), "{refused:?}");
    let version = tools.crictl(&["version"]).await.ok();
    assert!(version.contains("RuntimeName:  k3s\n") && version.contains("RuntimeApiVersion:  v1\n"), "{version}");
    let info = tools.crictl(&["info"]).await.json();
    assert_eq!(info["status"]["conditions"][0]["type"], "RuntimeReady");
    assert!(tools.crictl(&["runtime-config"]).await.ok().contains("CGROUPFS"));
    assert!(tools.crictl(&["imagefsinfo", "-o", "table"]).await.ok().contains("Mountpoint[0]: "));

    // What runs is not removed unless that is asked for.
    let refused = tools.crictl(&["rm", &id]).await;
    assert!(refused.code == Some(1) && refused.err.contains("is running"), "{refused:?}");
    assert_eq!(tools.crictl(&["stop", &id]).await.ok().trim(), id);
    assert_eq!(tools.crictl(&["ps", "-q"]).await.ok(), "");
    assert_eq!(tools.crictl(&["ps", "-aq"]).await.ok().trim(), id);
    assert_eq!(tools.crictl(&["rm", &id]).await.ok().trim(), id);
    assert_eq!(tools.crictl(&["stopp", &pod.1]).await.ok(), format!("Stopped sandbox {}\n", pod.1));
    assert_eq!(tools.crictl(&["rmp", &pod.1]).await.ok(), format!("Removed sandbox {}\n", pod.1));
    assert_eq!(tools.crictl(&["pods", "-q"]).await.ok(), "");
    tools.end().await;
}

/// A process with pipes, and its output by lines.
fn talking(mut command: Command) -> (Child, tokio::io::Lines<BufReader<tokio::process::ChildStdout>>) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

pub async fn commands_are_run_in_containers() {
    let tools = Tools::new().await;
    let pod = tools.pod().await;
    let id = tools.container(&pod, "main", "read line; echo got $line; exit 4", r#""stdin": true,"#).await;
    let ended = tools.crictl(&["exec", &id, "sh", "-c", "echo out; echo err >&2; exit 7"]).await;
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(7), "out\n", "err\n"));
    let ended = tools.crictl(&["exec", "-s", &id, "sh", "-c", "echo out; exit 3"]).await;
    assert_eq!((ended.code, ended.out.as_str()), (Some(3), "out\n"));
    assert_eq!(tools.crictl(&["exec", "-t", &id, "tty"]).await.ok(), "/dev/pts/0\r\n");

    let (mut cat, mut lines) = talking(tools.command(&["exec", "-i", &id, "cat"]));
    let mut stdin = cat.stdin.take().unwrap();
    stdin.write_all(b"there and back\n").await.unwrap();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("there and back"));
    drop(stdin);
    assert_eq!(cat.wait().await.unwrap().code(), Some(0));

    let (mut attached, mut lines) = talking(tools.command(&["attach", "-i", &id]));
    attached.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("got hello"));
    assert_eq!(attached.wait().await.unwrap().code(), Some(0));
    assert_eq!(tools.served.node.ended(&id).await.exit_code, 4);
    let refused = tools.crictl(&["exec", &id, "true"]).await;
    assert!(refused.code == Some(1) && refused.err.contains("code = FailedPrecondition"), "{refused:?}");
    tools.end().await;
}

pub async fn ports_are_forwarded() {
    let tools = Tools::new().await;
    let pod = tools.pod().await;
    tools.container(&pod, "echo", "while :; do nc -l -p 80 -e cat; done", "").await;
    let (mut forwarding, mut lines) = talking(tools.command(&["port-forward", &pod.1, ":80"]));
    let line = lines.next_line().await.unwrap().unwrap();
    let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.strip_suffix(" -> 80")).unwrap();
    // Until it listens, connections end with nothing.
    loop {
        let mut connection = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut text, sent) = (String::new(), connection.write_all(b"through").await);
        let shut = connection.shutdown().await;
        if connection.read_to_string(&mut text).await.is_ok() && text == "through" {
            sent.and(shut).unwrap();
            break;
        }
    }
    forwarding.kill().await.unwrap();
    tools.end().await;
}

pub async fn images_go_out_and_in_with_ctr() {
    let tools = Tools::new().await;
    let busybox = "docker.io/library/busybox:latest";
    let rows = tools.crictl(&["images", "busybox"]).await.rows();
    assert_eq!(rows[0][..2], ["docker.io/library/busybox".to_owned(), "latest".to_owned()]);
    let names = |said: Said| said.ok().lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(names(tools.ctr(&["ls", "-q"]).await).contains(&busybox.to_owned()));
    let listed = tools.ctr(&["ls", "busybox"]).await.ok();
    let lines: Vec<Vec<&str>> = listed.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["REF", "TYPE", "DIGEST", "SIZE", "PLATFORMS", "LABELS"]);
    let [name, media_type, digest, _, unit, platform, labels] = lines[1][..] else { panic!("{listed}") };
    assert_eq!((name, media_type, unit), (busybox, "application/vnd.oci.image.manifest.v1+json", "MiB"));
    assert!(digest.starts_with("sha256:") && platform.starts_with("linux/"), "{listed}");
    assert_eq!(labels, "io.cri-containerd.image=managed,io.cri-containerd.pinned=pinned");
    tools.ctr(&["tag", busybox, "example.com/again:1"]).await.ok();
    let taken = tools.ctr(&["tag", busybox, "example.com/again:1"]).await;
    assert!(taken.code == Some(1) && taken.err.contains("already exists"), "{taken:?}");
    let archive = tools.served.node.path("out.tar");
    let archive = archive.to_str().unwrap();
    tools.ctr(&["export", archive, busybox, "example.com/again:1"]).await.ok();
    tools.ctr(&["rm", busybox, "example.com/again:1"]).await.ok();
    assert!(!names(tools.ctr(&["ls", "-q"]).await).contains(&busybox.to_owned()));
    let imported = tools.ctr(&["import", archive]).await.ok();
    assert!(imported.contains(busybox) && imported.contains("example.com/again:1"), "{imported}");
    assert!(names(tools.ctr(&["ls", "-q"]).await).contains(&busybox.to_owned()));
    let missing = tools.ctr(&["export", archive, "absent"]).await;
    assert!(missing.code == Some(1) && missing.err.contains("not found"), "{missing:?}");
    let damaged = tools.file("damaged.tar", "no archive");
    let refused = tools.ctr(&["import", damaged.to_str().unwrap()]).await;
    assert!(refused.code == Some(1) && refused.err.contains("damaged.tar"), "{refused:?}");
    let elsewhere = said(command(&["ctr", "-a", &tools.endpoint, "-n", "default", "images", "ls"])).await;
    assert!(elsewhere.code == Some(1) && elsewhere.err.contains("k8s.io"), "{elsewhere:?}");

    let registry = crate::registry::Registry::start(Default::default()).await;
    let layer = crate::archive::busybox_layer();
    registry.image("app", "v1", &[("application/vnd.oci.image.layer.v1.tar", layer.clone(), layer)]);
    let name = format!("{}/app:v1", registry.host());
    assert!(tools.crictl(&["pull", &name]).await.ok().starts_with("Image is up to date for "));
    tools.ctr(&["pull", &name]).await.ok();
    assert_eq!(tools.crictl(&["rmi", &name]).await.ok(), format!("Deleted: {name}\n"));
    let absent = tools.crictl(&["pull", &format!("{}/absent:v1", registry.host())]).await;
    assert!(absent.code == Some(1) && absent.err.contains("code = NotFound"), "{absent:?}");
    tools.end().await;
}

pub async fn the_runtime_is_found() {
    let tools = Tools::new().await;
    let config = tools.file("crictl.yaml", &format!("runtime-endpoint: {}\n", tools.endpoint));
    let mut by_file = command(&["crictl", "version"]);
    by_file.env("CRI_CONFIG_FILE", &config);
    said(by_file).await.ok();
    let configured = tools.file("made.yaml", "");
    let set = format!("runtime-endpoint={}", tools.endpoint);
    said(command(&["crictl", "-c", configured.to_str().unwrap(), "config", "--set", &set])).await.ok();
    said(command(&["crictl", "-c", configured.to_str().unwrap(), "version"])).await.ok();
    let script = said(command(&["crictl", "completion", "bash"])).await.ok();
    assert!(script.contains("complete -F _crictl") && script.contains("inspectp"), "{script}");
    let mut by_variable = command(&["crictl", "version"]);
    by_variable.env("CONTAINER_RUNTIME_ENDPOINT", &tools.endpoint);
    said(by_variable).await.ok();
    // As a cluster's data directory has it.
    let folder = tools.served.node.path("data/agent/containerd");
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(&tools.served.socket, folder.join("containerd.sock")).unwrap();
    let mut by_cluster = command(&["crictl", "version"]);
    by_cluster.env("K3S_DATA_DIR", tools.served.node.path("data"));
    said(by_cluster).await.ok();
    let mut nowhere = command(&["crictl", "ps"]);
    nowhere.env("K3S_DATA_DIR", tools.served.node.path("nothing"));
    let nowhere = said(nowhere).await;
    assert!(nowhere.code == Some(1) && nowhere.err.contains("no k3s runs here"), "{nowhere:?}");
    let help = said(command(&["crictl", "--help"])).await.ok();
    for name in [
        "attach",
        "completion",
        "config",
        "create",
        "exec",
        "images",
        "info",
        "inspect",
        "inspecti",
        "inspectp",
        "logs",
        "metricdescs",
        "metricsp",
        "pods",
        "port-forward",
        "ps",
        "pull",
        "rm",
        "rmi",
        "rmp",
        "runp",
        "start",
        "stats",
        "statsp",
        "stop",
        "stopp",
        "update",
        "version",
    ] {
        assert!(help.contains(&format!("\n  {name} ")), "{name} is not in the help");
    }
    tools.end().await;
}
