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
    assert_eq!(node.runtime.pull_image("docker.io/library/busybox").await.unwrap(), image.id);
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
    assert!(error("3-zstd.tar.zst").contains("zstd"), "{results:?}");
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
    let used = node.runtime.fs_used_bytes().await.unwrap();
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
    assert!(node.runtime.fs_used_bytes().await.unwrap() < used / 10);
    node.end().await;
}

pub async fn an_absent_image_is_an_honest_pull_error() {
    let node = Node::empty().await;
    match node.runtime.pull_image("nginx:1.27").await {
        Err(Error::Pull { image, detail }) => {
            assert_eq!(image, "nginx:1.27");
            assert!(detail.contains("not on this node"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(node.runtime.pull_image("Bad Name").await, Err(Error::InvalidArgument { .. })));
    until("nothing", || true).await;
    node.end().await;
}
