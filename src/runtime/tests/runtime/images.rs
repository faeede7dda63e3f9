//! The image store.

use k3s_cri::*;

use crate::archive;
use crate::node::{Node, busybox, shell, until};

pub async fn both_kinds_of_archive_are_imported_by_their_full_names() {
    let node = Node::empty().await;
    archive::docker(&node.images_dir().join("a.tar"), "busybox", &[archive::busybox_layer()], "web");
    let overlay = archive::Layer::new().file("etc/second", 0o644, b"second layer\n").finish();
    archive::oci(&node.images_dir().join("b.tar.gz"), "example.com/app:v2", &[archive::busybox_layer(), overlay]);
    for report in node.runtime.import_images().await {
        report.result.unwrap();
    }
    let image = node.runtime.image_status("busybox").await.unwrap().unwrap();
    assert_eq!(image.repo_tags, ["docker.io/library/busybox:latest"]);
    assert_eq!(image.username, "web");
    assert_eq!(node.runtime.image_status(&image.id).await.unwrap().unwrap(), image);

    let app = node.runtime.image_status("example.com/app:v2").await.unwrap().unwrap();
    let by_digest = node.runtime.image_status(&app.repo_digests[0]).await.unwrap().unwrap();
    assert_eq!(by_digest.id, app.id);
    let config = ContainerConfig { image_id: app.id, ..shell("cat /etc/second") };
    assert_eq!(node.run_to_end(config).await.1, ["stdout F second layer"]);
    // What is imported is not read again.
    assert!(node.runtime.import_images().await.is_empty());
    node.end().await;
}

pub async fn a_damaged_archive_is_reported_and_the_others_go_on() {
    let node = Node::empty().await;
    let path = |name: &str| node.images_dir().join(name);
    let outside = node.path("work");
    std::fs::create_dir(&outside).unwrap();
    archive::docker(&outside.join("whole.tar"), "whole", &[archive::busybox_layer()], "");
    let whole = std::fs::read(outside.join("whole.tar")).unwrap();
    std::fs::write(path("1-cut.tar"), &whole[..whole.len() / 2]).unwrap();
    let mut changed = whole.clone();
    changed[5000] ^= 1;
    std::fs::write(path("2-changed.tar"), changed).unwrap();
    std::fs::write(path("3-zstd.tar.zst"), [0x28, 0xb5, 0x2f, 0xfd, 0, 0]).unwrap();
    std::fs::write(path("4-text.tar"), "hello").unwrap();
    std::fs::write(path("5-whole.tar"), &whole).unwrap();
    let mut results = std::collections::BTreeMap::new();
    // The watch may have seen some of them already.
    for report in node.runtime.import_images().await {
        let name = report.file.file_name().unwrap().to_string_lossy().into_owned();
        results.insert(name, report.result.map_err(|error| error.to_string()));
    }
    let error = |name: &str| results[name].clone().unwrap_err();
    assert!(error("1-cut.tar").contains("cut off") || error("1-cut.tar").contains("read archive"), "{results:?}");
    assert!(error("2-changed.tar").contains("layer is sha256:"), "{results:?}");
    assert!(!error("3-zstd.tar.zst").is_empty());
    assert!(!error("4-text.tar").is_empty());
    assert!(node.runtime.image_status("whole").await.unwrap().is_some());
    assert_eq!(node.runtime.list_images().await.unwrap().len(), 2);
    // The watch may be at it once more.
    until("an empty ingest", || std::fs::read_dir(node.path("root/images/ingest")).unwrap().count() == 0).await;
    node.end().await;
}

pub async fn an_archive_that_appears_is_imported() {
    let node = Node::empty().await;
    archive::docker(&node.images_dir().join("busybox.tar"), "late", &[archive::busybox_layer()], "");
    for _ in 0..500 {
        if node.runtime.image_status("late").await.unwrap().is_some() {
            return node.end().await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the image was not imported");
}

pub async fn removing_an_image_gives_its_space_back() {
    let node = Node::new().await;
    let used = node.runtime.image_fs_info().await.unwrap().used_bytes;
    let sandbox = node.sandbox("web").await;
    let id = node.run(&sandbox, busybox(&["sleep", "1000"])).await;
    node.runtime.remove_image("busybox").await.unwrap();
    assert!(node.runtime.image_status("busybox").await.unwrap().is_none());
    // A container stands on it still.
    let command = vec!["/bin/echo".into(), "here".into()];
    let output = node.runtime.exec_sync(&id, command, std::time::Duration::from_secs(5)).await.unwrap();
    assert_eq!(output.stdout, b"here\n");
    node.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
    node.runtime.remove_image("busybox").await.unwrap();
    let mut node = node;
    node.restart_after(async |_| {}).await;
    assert!(node.runtime.image_fs_info().await.unwrap().used_bytes < used / 10);
    node.end().await;
}

pub async fn images_go_out_and_come_back_in() {
    let node = Node::new().await;
    let image = node.runtime.image_status("busybox").await.unwrap().unwrap();
    node.runtime.tag_image("busybox", "example.com/again:1").await.unwrap();
    let path = node.path("out.tar");
    let names = ["busybox".to_owned(), "example.com/again:1".to_owned()];
    node.runtime.export_archive(&names, std::fs::File::create(&path).unwrap()).await.unwrap();
    // The store itself, and the archive, as another program reads them.
    for source in [
        format!("oci:{}:example.com/again:1", node.path("root/images").display()),
        format!("docker-archive:{}:docker.io/library/busybox:latest", path.display()),
        format!("oci-archive:{}:1", path.display()),
    ] {
        let output = std::process::Command::new("skopeo").args(["inspect", "--raw", &source]).output().unwrap();
        assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains("config"), "{source}");
    }
    node.runtime.untag_image("example.com/again:1").await.unwrap();
    assert_eq!(node.runtime.image_status(&image.id).await.unwrap().unwrap().repo_tags, image.repo_tags);
    node.runtime.remove_image("busybox").await.unwrap();
    assert!(node.runtime.image_status(&image.id).await.unwrap().is_none());
    assert!(matches!(node.runtime.untag_image("busybox").await, Err(Error::NotFound { .. })));
    let mut imported = node.runtime.import_archive(std::fs::File::open(&path).unwrap()).await.unwrap();
    imported.sort();
    assert_eq!(imported, ["docker.io/library/busybox:latest", "example.com/again:1"]);
    let again = node.runtime.image_status("busybox").await.unwrap().unwrap();
    assert_eq!((&again.id, again.size), (&image.id, image.size));
    assert_eq!(node.run_to_end(shell("echo back")).await.1, ["stdout F back"]);
    node.end().await;
}

/// Without overlays the layers are copied, whiteouts and all, and each container has a copy of its own.
pub async fn native_snapshots_are_copies() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut options = crate::node::options(directory.path(), Default::default());
    options.snapshotter = k3s_runtime::Snapshotter::Native;
    let node = Node::with(directory, options).await;
    let lower = archive::Layer::new().file("gone", 0o644, b"x").file("kept", 0o600, b"lower").finish();
    let upper = archive::Layer::new().file(".wh.gone", 0o644, b"").finish();
    let path = node.path("layers.tar");
    archive::docker(&path, "layers", &[archive::busybox_layer(), lower, upper], "");
    node.runtime.import_archive(std::fs::File::open(path).unwrap()).await.unwrap();
    for round in 0..2 {
        let script = "ls /gone; cat /kept; ls -l /kept; echo changed > /kept; grep ' / ' /proc/mounts";
        let config = ContainerConfig { image_id: "layers".into(), image: "layers".into(), ..shell(script) };
        let (_, lines) = node.run_to_end(config).await;
        let has = |text: &str| lines.iter().any(|line| line.contains(text));
        assert!(has("ls: /gone: No such file") && has("lower") && has("-rw-------"), "{round}: {lines:#?}");
        assert!(!lines.iter().any(|line| line.contains("overlay")), "{round}: {lines:#?}");
    }
    node.end().await;
}

pub async fn images_of_the_directory_are_pinned() {
    let node = Node::new().await;
    let pinned = async || node.runtime.image_status("busybox").await.unwrap().unwrap().pinned;
    assert!(pinned().await);
    std::fs::remove_file(node.images_dir().join("busybox.tar")).unwrap();
    node.runtime.import_images().await;
    assert!(!pinned().await);
    node.end().await;
}
