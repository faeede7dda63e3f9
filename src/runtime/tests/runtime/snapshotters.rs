//! What containers see of their images, whoever lays the layers over one another.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use k3s_cri::*;
use k3s_runtime::Snapshotter;
use nix::mount::MsFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::archive::{self, Layer};
use crate::node::{Node, busybox, log, mounts_below, options, shell, until};

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

async fn node(snapshotter: Snapshotter) -> Node {
    let directory = directory();
    let mut options = options(directory.path(), Default::default());
    options.snapshotter = snapshotter;
    Node::with(directory, options).await
}

/// The running programs that serve roots of containers of a store: what they say goes to files there.
fn servers_of(directory: &Path) -> Vec<i32> {
    let store = directory.join("root");
    let serves = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(14).any(|word| word == b"fuse-overlayfs")
            && std::fs::read_link(format!("/proc/{pid}/fd/2")).is_ok_and(|log| log.starts_with(&store))
    };
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(serves).collect()
}

async fn nothing_is_left(node: Node) {
    let (directory, path) = (node.directory.path().to_owned(), node.path("root/containers"));
    for sandbox in node.runtime.list_pod_sandboxes().await.unwrap() {
        node.runtime.remove_pod_sandbox(&sandbox.id).await.unwrap();
    }
    assert_eq!(servers_of(&directory), Vec::<i32>::new());
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
    node.end().await;
}

pub async fn layers_are_laid_over_one_another_in_every_way() {
    for snapshotter in [Snapshotter::Overlayfs, Snapshotter::FuseOverlayfs, Snapshotter::Native] {
        let node = node(snapshotter).await;
        let below = Layer::new().file("data/gone", 0o644, b"").file("data/kept", 0o600, b"below\n").file(
            "opaque/hidden",
            0o644,
            b"",
        );
        let above = Layer::new()
            .file("data/.wh.gone", 0o644, b"")
            .file("data/kept", 0o640, b"above\n")
            .file("opaque/.wh..wh..opq", 0o644, b"")
            .file("opaque/new", 0o644, b"");
        let layers = [archive::busybox_layer(), below.finish(), above.finish()];
        archive::docker(&node.images_dir().join("layered.tar"), "layered", &layers, "");
        for report in node.runtime.import_images().await {
            report.result.unwrap();
        }
        let script = "cat data/kept; ls data; ls opaque; rm() { busybox rm \"$@\"; }; rm data/kept && ls data; \
            echo new > data/kept && cat data/kept; busybox chown 101:102 data/kept && busybox stat -c %u:%g data/kept; \
            busybox mkdir -p made/deep && busybox mv made moved && ls moved; busybox ln data/kept linked && busybox stat -c %h linked; \
            ls -l /bin/sh >/dev/null && echo there";
        let config = ContainerConfig { image_id: "layered".into(), working_dir: "/".into(), ..shell(script) };
        let (status, lines) = node.run_to_end(config).await;
        let said: Vec<&str> = lines.iter().map(|line| line.rsplit(' ').next().unwrap()).collect();
        let want = ["above", "kept", "new", "new", "101:102", "deep", "2", "there"];
        assert_eq!(said, want, "{snapshotter:?}: {status:?}");
        // What belongs to somebody else is closed to others.
        let config = ContainerConfig {
            image_id: "layered".into(),
            working_dir: "/".into(),
            security: SecurityContext { run_as_user: Some(101), run_as_group: Some(102), ..Default::default() },
            ..shell("cat data/kept || echo closed; touch data/mine || echo closed; touch tmp/mine && echo open")
        };
        let lines = node.run_to_end(config).await.1;
        let said: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("stdout F ")).collect();
        assert_eq!(said, ["closed", "closed", "open"], "{snapshotter:?}");
        nothing_is_left(node).await;
    }
}

pub async fn a_served_root_lives_as_long_as_its_container() {
    let mut node = node(Snapshotter::FuseOverlayfs).await;
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, shell("echo before > /file; sleep 1000")).await;
    assert_eq!(servers_of(node.directory.path()).len(), 1);
    // The mount is the container's alone.
    let kinds = mounts_below(&node.path("root"));
    assert!(kinds.is_empty(), "{kinds:?}");
    // The next k3s has another snapshotter, which is none of this container's business.
    node.restart_after(async |_| {}).await;
    let command = vec!["cat".into(), "/file".into()];
    let output = node.runtime.exec_sync(&id, command, Duration::from_secs(5)).await.unwrap();
    assert_eq!(output.stdout, b"before\n");
    node.runtime.stop_container(&id, Duration::ZERO).await.unwrap();
    until("the end of what served it", || servers_of(node.directory.path()).is_empty()).await;
    nothing_is_left(node).await;
}

pub async fn a_container_ends_with_what_serves_its_root() {
    let mut node = node(Snapshotter::FuseOverlayfs).await;
    let sandbox = node.sandbox("web").await;
    let kill = |node: &Node| {
        for pid in servers_of(node.directory.path()) {
            nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
    };
    let id = node.run(&sandbox, busybox(&["sleep", "1000"])).await;
    kill(&node);
    let status = node.ended(&id).await;
    // Killed; or before that by SIGBUS, when it wanted a page of its program.
    assert!([137, 135].contains(&status.exit_code), "{status:?}");
    // Told a moment later, where it ended by itself.
    while node.status(&id).await.message.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(node.status(&id).await.message.starts_with("fuse-overlayfs, which served"));
    // The same while k3s is away.
    let again = ContainerConfig { attempt: 1, log_path: "1.log".into(), ..busybox(&["sleep", "1000"]) };
    let id = node.run(&sandbox, again).await;
    let pids = servers_of(node.directory.path());
    assert_eq!(pids.len(), 1);
    node.restart_after(async |_| nix::sys::signal::kill(Pid::from_raw(pids[0]), Signal::SIGKILL).unwrap()).await;
    assert!([137, 135].contains(&node.ended(&id).await.exit_code));
    // Its successor has a root again.
    let next = ContainerConfig { attempt: 2, log_path: "2.log".into(), ..shell("echo here") };
    let id = node.run(&sandbox, next).await;
    assert_eq!(log(&node.ended(&id).await.log_path), ["stdout F here"]);
    nothing_is_left(node).await;
}

pub async fn where_the_kernel_mounts_no_overlay_the_program_does() {
    // An overlay takes no other overlay as its upper directory.
    let outer = directory();
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(outer.path().join(name)).unwrap();
    }
    let path = |name: &str| outer.path().join(name).display().to_string();
    let data = format!("lowerdir={},upperdir={},workdir={},userxattr", path("lower"), path("upper"), path("work"));
    let merged = outer.path().join("merged");
    nix::mount::mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(data.as_str())).unwrap();
    let directory = tempfile::tempdir_in(&merged).unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = options(directory.path(), Default::default());
    let node = Node::with(directory, options).await;
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, shell("echo here > file; cat file; sleep 1000")).await;
    assert_eq!(servers_of(node.directory.path()).len(), 1);
    let path = node.status(&id).await.log_path;
    until("its output", || !log(&path).is_empty()).await;
    assert_eq!(log(&path), ["stdout F here"]);
    nothing_is_left(node).await;
    nix::mount::umount(&merged).unwrap();
}
