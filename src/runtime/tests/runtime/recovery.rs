//! Any process may be killed at any instant.

use std::time::{Duration, Instant};

use k3s_cri::*;

use crate::node::{Node, busybox, log, processes_of, shell, until};

pub async fn a_new_runtime_takes_up_running_containers() {
    let mut node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, shell("echo before; sleep 1000")).await;
    let before = node.status(&id).await;
    node.restart_after(async |_| {}).await;
    assert_eq!(node.status(&id).await, before);
    assert_eq!(node.runtime.list_pod_sandboxes().await.unwrap()[0].state, SandboxState::Ready);
    let output =
        node.runtime.exec_sync(&id, vec!["echo".into(), "again".into()], Duration::from_secs(5)).await.unwrap();
    assert_eq!(output.stdout, b"again\n");
    node.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    assert_eq!(node.status(&id).await.exit_code, 137);
    node.end().await;
}

pub async fn exits_and_logs_of_the_time_between_are_kept() {
    let mut node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let volume = node.path("volume");
    std::fs::create_dir(&volume).unwrap();
    let mut config = shell("while ! [ -e /go/now ]; do sleep 0.02; done; echo while nobody looked; exit 6");
    config.mounts = vec![Mount {
        container_path: "/go".into(),
        host_path: volume.clone(),
        readonly: false,
        recursive_read_only: false,
        propagation: Propagation::Private,
        ..Mount::default()
    }];
    let id = node.run(&sandbox, config.clone()).await;
    let config = ContainerConfig { name: "lost".into(), log_path: "lost.log".into(), ..busybox(&["sleep", "1000"]) };
    let lost = node.run(&sandbox, config).await;
    let exit = format!("state/{sandbox}/{id}.exit");
    node.restart_after(async |directory| {
        std::fs::write(volume.join("now"), "").unwrap();
        until("the exit file", || directory.join(&exit).exists()).await;
    })
    .await;
    let status = node.ended(&id).await;
    assert_eq!(status.exit_code, 6);
    assert_eq!(log(&status.log_path), ["stdout F while nobody looked"]);
    assert_eq!(node.status(&lost).await.state, ContainerState::Running);
    node.end().await;
}

fn shim_of(node: &Node) -> nix::unistd::Pid {
    let shims = processes_of(node.directory.path());
    assert_eq!(shims.len(), 1);
    nix::unistd::Pid::from_raw(shims[0])
}

fn sleepers() -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x007654\0"))
        .count()
}

pub async fn a_killed_shim_takes_its_containers_with_it() {
    let mut node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, shell("sleep 7654 & sleep 7654")).await;
    until("the processes", || sleepers() == 2).await;
    nix::sys::signal::kill(shim_of(&node), nix::sys::signal::Signal::SIGKILL).unwrap();
    let status = node.ended(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    assert_eq!(sleepers(), 0);
    let pods = node.runtime.list_pod_sandboxes().await.unwrap();
    until("the network's removal", || node.network.attached.lock().is_empty()).await;
    assert_eq!(pods[0].state, SandboxState::NotReady);
    node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();

    // The same while k3s is away.
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, shell("sleep 7654 & sleep 7654")).await;
    until("the processes", || sleepers() == 2).await;
    let shim = shim_of(&node);
    node.restart_after(async |_| {
        nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).unwrap();
        until("the end", || sleepers() == 0).await;
    })
    .await;
    assert_eq!(node.status(&id).await.state, ContainerState::Exited);
    assert!(node.network.attached.lock().is_empty());
    node.end().await;
}

pub async fn what_no_one_owns_is_cleared() {
    let mut node = Node::new().await;
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, shell("sleep 7654")).await;
    node.restart_after(async |directory| {
        // As if k3s had been killed before it could remember.
        std::fs::remove_file(directory.join("root/sandboxes").join(format!("{sandbox}.json"))).unwrap();
        std::fs::create_dir_all(directory.join("root/snapshots/new-0123456789abcdef/etc")).unwrap();
        std::fs::create_dir_all(directory.join("root/images/ingest/half")).unwrap();
        std::fs::write(directory.join("root/sandboxes/broken.json"), "{").unwrap();
    })
    .await;
    assert!(node.runtime.container_status(&id).await.is_err());
    assert_eq!(sleepers(), 0);
    assert!(node.network.attached.lock().is_empty());
    for directory in ["state", "root/containers", "root/sandboxes", "root/images/ingest"] {
        assert_eq!(std::fs::read_dir(node.path(directory)).unwrap().count(), 0, "{directory}");
    }
    assert!(!node.path("root/snapshots/new-0123456789abcdef").exists());
    node.end().await;
}

pub async fn starting_takes_little_time_and_memory() {
    let node = Node::new().await;
    let mut times = Vec::new();
    for round in 0..15 {
        let began = Instant::now();
        let sandbox = node.sandbox(&format!("pod-{round}")).await;
        node.run(&sandbox, busybox(&["sleep", "1000"])).await;
        times.push(began.elapsed());
    }
    times.sort();
    let mut memory = Vec::new();
    for shim in processes_of(node.directory.path()) {
        let smaps = std::fs::read_to_string(format!("/proc/{shim}/smaps_rollup")).unwrap();
        let kib = |name: &str| -> u64 {
            let line = smaps.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        memory.push(kib("Private_Clean:") + kib("Private_Dirty:"));
    }
    memory.sort();
    println!(
        "  sandbox and container: median {:?}, slowest {:?}; private memory of a shim: median {} KiB, most {} KiB",
        times[times.len() / 2],
        times[times.len() - 1],
        memory[memory.len() / 2],
        memory[memory.len() - 1]
    );
    assert!(memory[memory.len() - 1] < 1536, "{memory:?} KiB");
    node.end().await;
}

/// The host's cgroup v2 hierarchy, with or without controllers, if this user may write to it.
fn cgroup2() -> Option<std::path::PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let place =
        mounts.lines().find_map(|line| line.split(' ').nth(1).filter(|_| line.split(' ').nth(2) == Some("cgroup2")))?;
    let path = std::path::Path::new(place).join(format!("k3s-test-{}", std::process::id()));
    std::fs::create_dir(&path).ok()?;
    Some(path)
}

pub async fn containers_live_in_their_cgroups_where_there_are_some() {
    let Some(cgroup) = cgroup2() else { return };
    let directory = tempfile::tempdir().unwrap();
    let mut options = crate::node::options(directory.path(), Default::default());
    options.cgroup = k3s_runtime::Cgroup::Delegated(cgroup.clone());
    let node = Node::with(directory, options).await;
    let mut pod = node.pod("web");
    pod.cgroup_parent = "kubepods/besteffort/poduid-web".into();
    let sandbox = node.runtime.run_pod_sandbox(pod).await.unwrap();
    let id = node.run(&sandbox, shell("cat /proc/self/cgroup; sleep 1000")).await;
    let path = cgroup.join("kubepods/besteffort/poduid-web").join(&id);
    until("its processes", || std::fs::read_to_string(path.join("cgroup.procs")).unwrap().lines().count() > 0).await;
    let path_of_log = node.status(&id).await.log_path;
    until("its output", || !log(&path_of_log).is_empty()).await;
    let lines = log(&path_of_log);
    assert!(lines.contains(&"stdout F 0::/".to_owned()), "{lines:?}");
    let status = node.runtime.status().await.unwrap();
    let reason = status.limits_unavailable;
    assert_eq!(
        reason.is_none(),
        ["cpu", "memory", "pids"].iter().all(|name| status.controllers.iter().any(|known| known == name))
    );
    node.end().await;
    assert!(!path.parent().unwrap().exists());
    for left in ["kubepods/besteffort", "kubepods", ""] {
        std::fs::remove_dir(cgroup.join(left)).unwrap();
    }
}
