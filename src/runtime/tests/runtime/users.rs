//! Pods with user namespaces of their own (`hostUsers: false`).

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use k3s_cri::*;

use crate::node::{Node, is_rootless, log, shell};

/// Where the ids of a test's pod begin on the node.
const FIRST: u32 = 0x2000_0000;
const IDS: IdMapping = IdMapping { host_id: FIRST, container_id: 0, length: 65536 };
const USERS: IdMappings = IdMappings { uids: IDS, gids: IDS };

fn pod(node: &Node, name: &str) -> PodSandboxConfig {
    let mut pod = node.pod(name);
    pod.namespaces.user = Some(USERS);
    pod
}

/// Rootless there is no such pod, and whoever asks is told why. Returns whether the test is over.
async fn refused_where_rootless(node: &Node) -> bool {
    if !is_rootless() {
        assert_eq!(node.runtime.status().await.unwrap().user_namespaces, Ok(()));
        return false;
    }
    let error = node.runtime.run_pod_sandbox(pod(node, "web")).await.unwrap_err().to_string();
    assert!(error.contains("hostUsers: false") && error.contains("rootless"), "{error}");
    assert!(node.runtime.status().await.unwrap().user_namespaces.is_err());
    assert_eq!(node.runtime.list_pod_sandboxes().await.unwrap(), []);
    true
}

/// A directory as the kubelet makes volumes, with a file of `owner`.
fn volume(node: &Node, name: &str, owner: u32) -> Mount {
    let path = node.path(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(path.join("file"), "from the node\n").unwrap();
    std::fs::set_permissions(path.join("file"), PermissionsExt::from_mode(0o600)).unwrap();
    chown(path.join("file"), Some(owner), Some(owner)).unwrap();
    Mount { container_path: Path::new("/").join(name), host_path: path, id_mappings: Some(USERS), ..Mount::default() }
}

fn text(lines: &[String]) -> Vec<&str> {
    lines.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap_or_default()).collect()
}

async fn run_to_end(node: &Node, sandbox: &str, config: ContainerConfig) -> Vec<String> {
    let id = node.run(sandbox, config).await;
    let status = node.ended(&id).await;
    let lines = log(&status.log_path);
    node.runtime.remove_container(&id).await.unwrap();
    std::fs::remove_file(&status.log_path).unwrap();
    text(&lines).into_iter().map(str::to_owned).collect()
}

async fn exec(node: &Node, id: &str, script: &str) -> String {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let output = node.runtime.exec_sync(id, command, Duration::from_secs(30)).await.unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned()
}

pub async fn files_of_the_nodes_root_are_the_pods_roots() {
    let node = Node::new().await;
    if refused_where_rootless(&node).await {
        return node.end().await;
    }
    let sandbox = node.runtime.run_pod_sandbox(pod(&node, "web")).await.unwrap();
    let script = "exec 2>&1; id; cat /proc/self/uid_map; ls -ldn / /bin /bin/busybox /data/file /etc/hostname /dev/shm /tmp; \
                  cat /data/file; echo made > /data/made; echo out > /dev/stdout; touch /in-root /dev/shm/x; \
                  mkdir /sys/x; ls /proc; ps; hostname; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                  ls /sys/class/net; mount -t tmpfs none /tmp";
    let config = ContainerConfig { mounts: vec![volume(&node, "data", 0)], ..shell(script) };
    let lines = run_to_end(&node, &sandbox, config.clone()).await;
    let all = lines.join("\n");
    assert!(lines[0].starts_with("uid=0(root) gid=0(root)"), "{all}");
    assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>(), ["0", &FIRST.to_string(), "65536"], "{all}");
    for (line, path) in
        lines[2..9].iter().zip(["/", "/bin", "/bin/busybox", "/data/file", "/dev/shm", "/etc/hostname", "/tmp"])
    {
        let fields: Vec<_> = line.split_whitespace().collect();
        assert_eq!((fields[2], fields[3], fields[8]), ("0", "0", path), "{all}");
    }
    for wanted in ["from the node", "out", "web", "0", "lo"] {
        assert!(lines.iter().any(|line| line == wanted), "{wanted}: {all}");
    }
    for refused in ["mkdir: can't create directory '/sys/x'", "mount: permission denied"] {
        assert!(all.contains(refused), "{refused}: {all}");
    }
    // It sees its own processes, as the first of which it began.
    assert!(lines.iter().any(|line| line.trim().starts_with("1 root")), "{all}");
    assert!(!lines.iter().any(|line| line.contains("k3s-shim")), "{all}");
    // On the disk the volume's files belong to whom they would without a user namespace.
    assert_eq!(std::fs::metadata(node.path("data/made")).unwrap().uid(), 0);

    // Another user, who may write to the streams.
    std::fs::remove_dir_all(node.path("data")).unwrap();
    let script = "id -u; cat /own/file; echo x > /own/file; echo out > /dev/stdout; touch /own/new";
    let mut config = ContainerConfig { mounts: vec![volume(&node, "own", 1000)], ..shell(script) };
    config.security.run_as_user = Some(1000);
    chown(node.path("own"), Some(1000), Some(1000)).unwrap();
    assert_eq!(run_to_end(&node, &sandbox, config).await, ["1000", "from the node", "out"]);
    assert_eq!(std::fs::metadata(node.path("own/new")).unwrap().uid(), 1000);
    node.end().await;
}

pub async fn processes_are_strangers_to_the_node_and_rights_end_at_the_pod() {
    let node = Node::new().await;
    if refused_where_rootless(&node).await {
        return node.end().await;
    }
    let sandbox = node.runtime.run_pod_sandbox(pod(&node, "web")).await.unwrap();
    let mut config = ContainerConfig { tty: true, ..shell("tty; touch /in-root; while :; do sleep 100; done") };
    config.security.privileged = true;
    let id = node.run(&sandbox, config).await;
    let verbose = node.runtime.container_status(&id).await.unwrap();
    assert_eq!(verbose.state, ContainerState::Running);
    // What only a root with rights over its mounts, its network and its host name can do, and the node's would not want.
    let script = "id -u; cut -d' ' -f1 /proc/self/uid_map | wc -l; mount -t tmpfs none /tmp && echo mounted; \
                  hostname other && hostname; echo 1 > /proc/sys/net/ipv4/ip_forward && echo set; \
                  echo 1 > /proc/sys/vm/drop_caches; mknod /dev/sda b 8 0; readlink /proc/self/ns/user; tty";
    let said = exec(&node, &id, script).await;
    for wanted in ["0\n", "mounted", "other", "set", "can't create /proc/sys/vm/drop_caches: Permission denied"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    assert!(said.contains("mknod: /dev/sda: Operation not permitted"), "{said}");
    let own = std::fs::read_link("/proc/self/ns/user").unwrap().display().to_string();
    assert!(said.contains("user:[") && !said.contains(&own), "{said}");
    // On the node it is nobody, and what it writes is nobody's.
    let upper = node.path("root/containers").join(&id).join("upper");
    assert_eq!(std::fs::metadata(upper.join("in-root")).unwrap().uid(), FIRST);
    assert_eq!(node.runtime.container_status(&id).await.unwrap().user.unwrap().uid, 0);
    let lines = log(&verbose.log_path);
    assert!(lines[0].contains("/dev/console") || lines[0].contains("/dev/pts/"), "{lines:?}");
    node.end().await;
}

pub async fn a_new_runtime_takes_them_up() {
    let mut node = Node::new().await;
    if refused_where_rootless(&node).await {
        return node.end().await;
    }
    let mut shared = pod(&node, "web");
    shared.namespaces.pid = PidMode::Pod;
    let sandbox = node.runtime.run_pod_sandbox(shared).await.unwrap();
    let id = node.run(&sandbox, shell("exec sleep 1000")).await;
    node.restart_after(async |_| {}).await;
    assert!(exec(&node, &id, "id -u; ps").await.contains("sleep 1000"));
    let second = node.run(&sandbox, shell("exec sleep 1001")).await;
    let seen = exec(&node, &second, "ps").await;
    assert!(seen.contains("sleep 1000") && seen.contains("sleep 1001"), "{seen}");
    node.runtime.stop_container(&second, Duration::from_secs(0)).await.unwrap();
    assert_eq!(node.status(&second).await.exit_code, 137);
    assert_eq!(node.status(&id).await.state, ContainerState::Running);
    node.end().await;
}

pub async fn what_does_not_go_together_is_refused() {
    let node = Node::new().await;
    type Change = fn(&mut NamespaceOptions);
    let changes: [Change; 4] = [
        |namespaces| namespaces.host_network = true,
        |namespaces| namespaces.host_ipc = true,
        |namespaces| namespaces.pid = PidMode::Host,
        |namespaces| namespaces.user = Some(IdMappings { uids: IdMapping { container_id: 1, ..IDS }, gids: IDS }),
    ];
    for change in changes {
        let mut pod = pod(&node, "web");
        change(&mut pod.namespaces);
        let refused = node.runtime.run_pod_sandbox(pod).await;
        assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{refused:?}");
    }
    let sandbox = node.sandbox("plain").await;
    let mount = Mount {
        container_path: "/data".into(),
        host_path: node.path("data"),
        id_mappings: Some(USERS),
        ..Mount::default()
    };
    let mapped = ContainerConfig { mounts: vec![mount], ..shell("true") };
    let refused = node.runtime.create_container(&sandbox, mapped).await;
    assert!(matches!(refused, Err(Error::InvalidArgument { .. })), "{refused:?}");
    node.end().await;
}

pub async fn a_file_system_that_maps_no_ids_is_named() {
    let node = Node::new().await;
    if refused_where_rootless(&node).await {
        return node.end().await;
    }
    let sandbox = node.runtime.run_pod_sandbox(pod(&node, "web")).await.unwrap();
    // No ids of a proc are mapped.
    let mount = Mount {
        container_path: "/data".into(),
        host_path: "/proc/sys".into(),
        id_mappings: Some(USERS),
        ..Mount::default()
    };
    let id = node
        .runtime
        .create_container(&sandbox, ContainerConfig { mounts: vec![mount], ..shell("true") })
        .await
        .unwrap();
    let error = node.runtime.start_container(&id).await.unwrap_err().to_string();
    assert!(error.contains("/proc/sys") && error.contains("does not support id-mapped mounts"), "{error}");
    node.end().await;
}
