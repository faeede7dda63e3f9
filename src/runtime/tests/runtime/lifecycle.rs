//! From creation to removal.

use std::time::{Duration, Instant};

use k3s_cri::*;

use crate::node::{Node, busybox, is_rootless, log, shell, until};

pub async fn a_container_runs_logs_and_exits_with_its_code() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, shell("echo out; echo err >&2; printf rest; exit 7")).await;
    let status = node.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert!(status.started_at >= status.created_at && status.finished_at >= status.started_at);
    let mut lines = log(&status.log_path);
    lines.sort();
    assert_eq!(lines, ["stderr F err", "stdout F out", "stdout F rest"]);
    assert_eq!(status.log_path, node.path("logs/web/main/0.log"));
    assert_eq!(status.image_id, node.runtime.image_status("busybox").await.unwrap().unwrap().id);

    let pods = node.runtime.list_pod_sandboxes().await.unwrap();
    assert_eq!(pods[0].ips, ["10.42.0.7".parse::<std::net::IpAddr>().unwrap()]);
    use ContainerEventKind::{Created, Started, Stopped};
    assert_eq!(node.events_so_far(), [Created, Started, Stopped]);

    let killed = node.run(&sandbox, shell("kill -9 $$; sleep 100")).await;
    // The first process of a pid namespace is immune to itself; its child is not.
    node.runtime.stop_container(&killed, Duration::ZERO).await.unwrap();
    assert_eq!(node.status(&killed).await.exit_code, 137);
    node.end().await;
}

pub async fn stop_sends_the_signal_and_kills_after_the_grace() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let polite = node.run(&sandbox, shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done")).await;
    let path = node.status(&polite).await.log_path;
    until("the trap", || !log(&path).is_empty()).await;
    node.runtime.stop_container(&polite, Duration::from_secs(20)).await.unwrap();
    assert_eq!(node.status(&polite).await.exit_code, 3);
    assert_eq!(log(&path), ["stdout F up", "stdout F bye"]);

    let stubborn = node.run(&sandbox, shell("trap '' TERM; while :; do sleep 0.05; done")).await;
    let began = Instant::now();
    node.runtime.stop_container(&stubborn, Duration::from_millis(300)).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(node.status(&stubborn).await.exit_code, 137);
    // Again is fine, and so is stopping what never was.
    node.runtime.stop_container(&stubborn, Duration::ZERO).await.unwrap();
    node.runtime.stop_container("nothing", Duration::ZERO).await.unwrap();
    node.end().await;
}

pub async fn a_container_gets_its_mounts_user_and_environment() {
    let node = Node::new().await;
    let volume = node.path("volume");
    std::fs::create_dir_all(volume.join("sub")).unwrap();
    std::fs::write(volume.join("file"), "from the node").unwrap();
    let script = "id; cat /data/file; echo; touch /data/x 2>&1; cat /one; echo; pwd; echo $A $FROM_IMAGE $HOME; hostname; \
                  cat /etc/resolv.conf; cat /etc/hostname";
    let got = node
        .script_with(script, |config| {
            let mount = |container: &str, host: &str, readonly| Mount {
                container_path: container.into(),
                host_path: volume.join(host),
                readonly,
                recursive_read_only: false,
                propagation: Propagation::Private,
                ..Mount::default()
            };
            config.mounts = vec![mount("/data", "", true), mount("/one", "file", false)];
            config.env = vec![("A".into(), "pod".into())];
            config.security.run_as_user = Some(101);
            config.security.supplemental_groups = vec![2000];
        })
        .await;
    assert_eq!(
        got,
        [
            "uid=101(web) gid=102(web) groups=102(web),103(extra),2000",
            "from the node",
            "touch: /data/x: Read-only file system",
            "from the node",
            "/made/by/the/runtime",
            "pod yes /home/web",
            "once",
            "nameserver 10.43.0.10",
            "once",
        ]
    );
    node.end().await;
}

pub async fn what_cannot_start_says_why() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let made = node.path("made").display().to_string();
    let bad_directory = ContainerConfig { working_dir: "/etc/plain".into(), ..busybox(&["true"]) };
    let bad_mount = ContainerConfig {
        mounts: vec![Mount {
            container_path: "/etc/plain/data".into(),
            host_path: node.path("made"),
            readonly: false,
            recursive_read_only: false,
            propagation: Propagation::Private,
            ..Mount::default()
        }],
        ..busybox(&["true"])
    };
    for (config, reason) in [
        (busybox(&["foo"]), "exec: \"foo\": executable file not found in $PATH"),
        (busybox(&["/foo"]), "exec: \"/foo\": stat /foo: no such file or directory"),
        (busybox(&["/etc/plain"]), "exec: \"/etc/plain\": permission denied"),
        (bad_directory, "chdir to cwd (\"/etc/plain\") set in config.json failed: not a directory"),
        (bad_mount, &format!("error mounting {made:?} to rootfs at \"/etc/plain/data\": not a directory")),
    ] {
        let id = node.runtime.create_container(&sandbox, config).await.unwrap();
        match node.runtime.start_container(&id).await {
            Err(Error::Start { detail }) => assert_eq!(detail, reason),
            other => panic!("{other:?}"),
        }
        let status = node.status(&id).await;
        assert_eq!((status.state, status.exit_code), (ContainerState::Exited, 128));
        assert_eq!(status.reason, "StartError");
    }
    // A volume's source that is missing is made, as by containerd.
    assert!(node.path("made").is_dir());
    let unknown =
        node.runtime.create_container(&sandbox, ContainerConfig { image_id: "nothing".into(), ..busybox(&[]) });
    assert!(matches!(unknown.await, Err(Error::NotFound { .. })));
    node.end().await;
}

pub async fn containers_of_a_pod_share_what_they_should() {
    let node = Node::new().await;
    let mut pod = node.pod("shared");
    pod.namespaces.pid = PidMode::Pod;
    let sandbox = node.runtime.run_pod_sandbox(pod).await.unwrap();
    let first = node.run(&sandbox, shell("echo shared > /dev/shm/x; exec sleep 1000")).await;
    let second = ContainerConfig { name: "second".into(), log_path: "second/0.log".into(), ..shell("exec sleep 2000") };
    let second = node.run(&sandbox, second).await;
    let exec = async |id: &str, script: &str| {
        let command = vec!["/bin/sh".into(), "-c".into(), script.into()];
        let output = node.runtime.exec_sync(id, command, Duration::from_secs(5)).await.unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let processes = exec(&second, "ps").await;
    assert!(processes.contains("sleep 1000") && processes.contains("sleep 2000"), "{processes}");
    let written = node.path(&format!("state/{sandbox}/shm/x"));
    until("shared memory", || std::fs::read(&written).is_ok_and(|content| !content.is_empty())).await;
    assert_eq!(exec(&second, "cat /dev/shm/x").await, "shared\n");
    let links = "for kind in net ipc uts pid; do readlink /proc/self/ns/$kind; done";
    assert_eq!(exec(&first, links).await.lines().count(), 4);
    assert_eq!(exec(&first, links).await, exec(&second, links).await);
    assert_ne!(exec(&first, "readlink /proc/self/ns/mnt").await, exec(&second, "readlink /proc/self/ns/mnt").await);

    // A container's end takes what it left behind, and leaves the other alone.
    let leaver =
        ContainerConfig { name: "leaver".into(), log_path: "leaver/0.log".into(), ..shell("sleep 3000 & exit 0") };
    let leaver = node.run(&sandbox, leaver).await;
    assert_eq!(node.ended(&leaver).await.exit_code, 0);
    let processes = exec(&second, "ps").await;
    assert!(!processes.contains("sleep 3000") && processes.contains("sleep 1000"), "{processes}");
    node.end().await;
}

pub async fn logs_are_reopened_after_rotation() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let config = ContainerConfig { stdin: true, ..shell("while read line; do echo $line; done") };
    let id = node.run(&sandbox, config).await;
    let path = node.status(&id).await.log_path;
    let (mut input, stdin) = tokio::io::duplex(64);
    let streams = Streams { stdin: Some(Box::new(stdin)), ..Streams::default() };
    let runtime = node.runtime.clone();
    let attached = tokio::spawn({
        let id = id.clone();
        async move { runtime.attach(&id, streams).await }
    });
    use tokio::io::AsyncWriteExt;
    input.write_all(b"one\n").await.unwrap();
    until("the first line", || !log(&path).is_empty()).await;
    let rotated = path.with_extension("log.1");
    std::fs::rename(&path, &rotated).unwrap();
    node.runtime.reopen_container_log(&id).await.unwrap();
    input.write_all(b"two\n").await.unwrap();
    until("the second line", || !log(&path).is_empty()).await;
    assert_eq!((log(&rotated), log(&path)), (vec!["stdout F one".to_owned()], vec!["stdout F two".to_owned()]));
    drop(input);
    attached.await.unwrap().unwrap();
    node.end().await;
}

pub async fn no_line_is_lost_while_logs_are_rotated() {
    const LINES: usize = 20_000;
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let script = format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo $i; done");
    let id = node.run(&sandbox, shell(&script)).await;
    let path = node.status(&id).await.log_path;
    let mut files = Vec::new();
    // As the kubelet rotates: away with the file, and then the word to the runtime.
    while node.status(&id).await.state == ContainerState::Running && files.len() < 1000 {
        let rotated = path.with_extension(format!("log.{}", files.len()));
        std::fs::rename(&path, &rotated).unwrap();
        files.push(rotated);
        match node.runtime.reopen_container_log(&id).await {
            Ok(()) => {}
            // It has ended just now; the file stays as it is.
            Err(error) => {
                assert!(!path.exists(), "{error}");
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    node.ended(&id).await;
    files.extend(path.exists().then_some(path));
    let lines: Vec<String> = files.iter().flat_map(|file| log(file)).collect();
    let want: Vec<String> = (1..=LINES).map(|number| format!("stdout F {number}")).collect();
    assert!(lines == want, "{} lines in {} files", lines.len(), files.len());
    assert!(files.len() > 2, "it was never rotated in the midst");
    node.end().await;
}

pub async fn pods_on_the_host_namespaces_run() {
    let node = Node::new().await;
    let mut pod = node.pod("host");
    pod.hostname = String::new();
    pod.namespaces = NamespaceOptions { host_network: true, host_ipc: true, pid: PidMode::Host, user: None };
    let sandbox = node.runtime.run_pod_sandbox(pod).await.unwrap();
    let id = node.run(&sandbox, shell("sleep 31234 & readlink /proc/self/ns/net; ls /sys; exec sleep 500")).await;
    let path = node.status(&id).await.log_path;
    until("output", || log(&path).len() > 3).await;
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(log(&path)[0], format!("stdout F {}", own.display()));
    let children = || {
        let lines = std::fs::read_dir("/proc").unwrap().flatten();
        lines
            .filter(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x0031234\0"))
            .count()
    };
    assert_eq!(children(), 1);
    node.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    until("the end of what it left behind", || children() == 0).await;
    assert!(node.network.attached.lock().is_empty());

    // The kernel does not end these processes with their shim; the runtime does.
    let id = node.run(&sandbox, shell("sleep 31234 & wait")).await;
    until("its child", || children() == 1).await;
    let shim = crate::node::processes_of(node.directory.path());
    let shim = nix::unistd::Pid::from_raw(shim[0]);
    nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(node.ended(&id).await.exit_code, 255);
    until("the end of what outlived the shim", || children() == 0).await;
    node.end().await;
}

pub async fn nothing_is_left_after_removal() {
    let node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, shell("mkdir /a; echo x > /a/b; sleep 1000 & sleep 1000")).await;
    assert!(node.runtime.container_stats(&id).await.unwrap().processes > 0);
    assert!(!is_rootless() || node.status(&id).await.user.unwrap().uid == 0);
    node.runtime.stop_pod_sandbox(&sandbox).await.unwrap();
    assert_eq!(node.status(&id).await.state, ContainerState::Exited);
    assert_eq!(node.runtime.list_pod_sandboxes().await.unwrap()[0].state, SandboxState::NotReady);
    assert!(node.network.attached.lock().is_empty());
    node.runtime.stop_pod_sandbox(&sandbox).await.unwrap();
    node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    for directory in ["state", "root/containers", "root/sandboxes"] {
        assert_eq!(std::fs::read_dir(node.path(directory)).unwrap().count(), 0, "{directory}");
    }
    assert!(node.runtime.list_containers().await.unwrap().is_empty());
    node.end().await;
}
