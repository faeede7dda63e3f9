//! Pods of RuntimeClasses: containers that another OCI runtime of this host runs.

use std::time::Duration;

use k3s_cri::*;

use crate::node::{Node, busybox, log, shell, until};

/// Debian's runtimes; one that is not installed is said to be skipped.
async fn with_each(test: impl AsyncFn(&Node, &str)) {
    let node = Node::new().await;
    let found = node.runtime.status().await.unwrap().handlers;
    for handler in ["crun", "runc"] {
        if found.iter().any(|known| known == handler) {
            test(&node, handler).await;
        } else {
            println!("{handler} ... skipped: it is not installed");
        }
    }
    node.end().await;
}

fn pod(node: &Node, handler: &str) -> PodSandboxConfig {
    PodSandboxConfig { runtime_handler: handler.to_owned(), ..node.pod(handler) }
}

async fn printed(node: &Node, sandbox: &str, config: ContainerConfig) -> (ContainerStatus, Vec<String>) {
    let id = node.run(sandbox, config).await;
    let status = node.ended(&id).await;
    let lines = log(&status.log_path);
    node.runtime.remove_container(&id).await.unwrap();
    std::fs::remove_file(&status.log_path).unwrap();
    (status, lines)
}

pub async fn an_unknown_handler_is_refused() {
    let node = Node::new().await;
    let refused = node.runtime.run_pod_sandbox(pod(&node, "nope")).await.unwrap_err();
    assert_eq!(refused.to_string(), "failed to get sandbox runtime: no runtime for \"nope\" is configured");
    node.end().await;
}

pub async fn containers_run_log_and_exit_as_by_the_executor() {
    with_each(async |node, handler| {
        let sandbox = node.runtime.run_pod_sandbox(pod(node, handler)).await.unwrap();
        let volume = node.path(handler);
        std::fs::create_dir_all(&volume).unwrap();
        std::fs::write(volume.join("file"), "from the node\n").unwrap();
        let script = "id; cat /data/file; touch /data/x 2>&1; pwd; echo $A $FROM_IMAGE $HOME; hostname; \
                      cat /etc/resolv.conf; echo err >&2; exit 7";
        let mut config = shell(script);
        config.mounts = vec![Mount {
            container_path: "/data".into(),
            host_path: volume,
            readonly: true,
            recursive_read_only: false,
            propagation: Propagation::Private,
            ..Mount::default()
        }];
        config.env = vec![("A".into(), "pod".into())];
        config.security.run_as_user = Some(101);
        let (status, mut lines) = printed(node, &sandbox, config).await;
        assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"), "{handler}: {lines:?}");
        let user = status.user.unwrap();
        assert_eq!((user.uid, user.gid), (101, 102));
        lines.retain(|line| line != "stderr F err");
        let want = [
            "uid=101(web) gid=102(web) groups=102(web),103(extra)",
            "from the node",
            "touch: /data/x: Read-only file system",
            "/made/by/the/runtime",
            "pod yes /home/web",
            handler,
            "nameserver 10.43.0.10",
        ];
        assert_eq!(lines, want.map(|line| format!("stdout F {line}")), "{handler}");
        let (status, _) = printed(node, &sandbox, shell("kill -9 $$; exec sleep 100 & exit 0")).await;
        assert_eq!(status.exit_code, 0, "the first process of a pid namespace is immune to itself");
        let id = node.runtime.create_container(&sandbox, busybox(&["nothing"])).await.unwrap();
        let Err(Error::Start { detail }) = node.runtime.start_container(&id).await else { panic!("it started") };
        assert!(detail.starts_with(&format!("{handler}: ")) && detail.contains("nothing"), "{detail}");
        assert!(detail.to_lowercase().contains("not found"), "{detail}");
        assert_eq!(node.status(&id).await.exit_code, 128);
        node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    })
    .await;
}

pub async fn commands_terminals_signals_and_usage_work() {
    with_each(async |node, handler| {
        let sandbox = node.runtime.run_pod_sandbox(pod(node, handler)).await.unwrap();
        let id = node.run(&sandbox, shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done")).await;
        let path = node.status(&id).await.log_path;
        until("the trap", || !log(&path).is_empty()).await;
        let exec = async |script: &str| {
            let command = vec!["/bin/sh".into(), "-c".into(), script.into()];
            node.runtime.exec_sync(&id, command, Duration::from_secs(20)).await
        };
        let output = exec("echo out; echo err >&2; exit 5").await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!((text(&output.stdout), text(&output.stderr), output.exit_code), ("out\n".into(), "err\n".into(), 5));
        let missing = node.runtime.exec_sync(&id, vec!["nothing".into()], Duration::from_secs(20)).await;
        assert!(matches!(missing, Err(Error::Start { .. })), "{missing:?}");
        let slow = node.runtime.exec_sync(&id, vec!["sleep".into(), "100".into()], Duration::from_secs(1)).await;
        assert!(matches!(slow, Err(Error::Timeout { .. })), "{slow:?}");

        let (ours, theirs) = tokio::io::duplex(1024);
        let request = ExecRequest {
            container_id: id.clone(),
            command: ["sh", "-c", "tty; exit 4"].map(String::from).into(),
            tty: true,
        };
        let streams = Streams { stdout: Some(Box::new(theirs)), ..Streams::default() };
        let read = async {
            let mut text = String::new();
            tokio::io::AsyncReadExt::read_to_string(&mut { ours }, &mut text).await.unwrap();
            text
        };
        let (code, text) = tokio::join!(node.runtime.exec(request, streams), read);
        assert_eq!((code.unwrap(), text.trim()), (4, "/dev/pts/0"), "{handler}");

        let usage = node.runtime.container_stats(&id).await.unwrap();
        assert!(usage.processes >= 1 && usage.memory_working_set > 0, "{usage:?}");
        node.runtime.stop_container(&id, Duration::from_secs(20)).await.unwrap();
        assert_eq!(node.status(&id).await.exit_code, 3);
        assert_eq!(log(&path), ["stdout F up", "stdout F bye"]);

        let tty = ContainerConfig { tty: true, ..shell("tty; echo done") };
        let (_, lines) = printed(node, &sandbox, ContainerConfig { log_path: "tty/0.log".into(), ..tty }).await;
        let lines: Vec<&str> = lines.iter().map(|line| line.trim_end()).collect();
        assert_eq!(lines, ["stdout F /dev/pts/0", "stdout F done"], "{handler}");
        node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    })
    .await;
}

pub async fn a_pods_containers_share_its_namespaces() {
    with_each(async |node, handler| {
        let mut pod = pod(node, handler);
        pod.namespaces.pid = PidMode::Pod;
        let sandbox = node.runtime.run_pod_sandbox(pod).await.unwrap();
        let first = node.run(&sandbox, shell("echo shared > /dev/shm/x; exec sleep 1000")).await;
        let written = node.path(&format!("state/{sandbox}/shm/x"));
        until("shared memory", || std::fs::read(&written).is_ok_and(|content| !content.is_empty())).await;
        let second = ContainerConfig { log_path: "second/0.log".into(), ..shell("cat /dev/shm/x; ps; hostname") };
        let (status, lines) = printed(node, &sandbox, second).await;
        assert_eq!(status.exit_code, 0);
        let text = lines.join("\n");
        assert!(text.contains("F shared") && text.contains("sleep 1000"), "{handler}: {text}");
        node.runtime.stop_container(&first, Duration::ZERO).await.unwrap();
        assert_eq!(node.status(&first).await.exit_code, 137);
        node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    })
    .await;
}

pub async fn a_new_runtime_takes_them_up() {
    let mut node = Node::new().await;
    if !node.runtime.status().await.unwrap().handlers.contains(&"crun".to_owned()) {
        println!("skipped: crun is not installed");
        return node.end().await;
    }
    let sandbox = node.runtime.run_pod_sandbox(pod(&node, "crun")).await.unwrap();
    let id = node.run(&sandbox, shell("echo up; exec sleep 1000")).await;
    node.restart_after(async |_| {}).await;
    assert_eq!(node.status(&id).await.state, ContainerState::Running);
    let output = node.runtime.exec_sync(&id, vec!["echo".into(), "again".into()], Duration::from_secs(20)).await;
    assert_eq!(output.unwrap().stdout, b"again\n");
    let sandboxes = node.runtime.list_pod_sandboxes().await.unwrap();
    assert_eq!(sandboxes[0].runtime_handler, "crun");
    node.end().await;
}
