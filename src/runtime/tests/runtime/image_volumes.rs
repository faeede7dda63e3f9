//! Images as volumes.

use std::os::unix::fs::PermissionsExt;

use k3s_cri::*;
use k3s_runtime::Snapshotter;

use crate::archive::{self, Layer};
use crate::node::{Node, log, options, shell};

async fn give(node: &Node, name: &str, layers: &[Vec<u8>]) -> String {
    archive::docker(&node.images_dir().join(format!("{name}.tar")), name, layers, "");
    for report in node.runtime.import_images().await {
        report.result.unwrap();
    }
    node.runtime.image_status(name).await.unwrap().unwrap().id
}

fn layers() -> [Vec<u8>; 2] {
    let below = Layer::new().directory("data/", 0o755).file("data/kept", 0o644, b"below\n");
    let below = below.file("data/gone", 0o644, b"").file("data/run", 0o755, b"#!/bin/sh\necho ran\n");
    let above = Layer::new().file("data/.wh.gone", 0o644, b"").file("data/new", 0o644, b"above\n");
    [below.finish(), above.symlink("out", "/etc").finish()]
}

fn mount(container_path: &str, image_id: &str, sub_path: &str) -> Mount {
    let image = ImageMount { image_id: image_id.to_owned(), sub_path: sub_path.into() };
    Mount { container_path: container_path.into(), image: Some(image), readonly: true, ..Mount::default() }
}

pub async fn an_image_is_seen_whole_and_in_parts() {
    for snapshotter in [Snapshotter::Overlayfs, Snapshotter::Native] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = options(directory.path(), Default::default());
        let node = Node::with(directory, k3s_runtime::Options { snapshotter, ..options }).await;
        let id = give(&node, "volume", &layers()).await;
        let single = give(&node, "single", &layers()[..1]).await;
        let script = "exec 2>&1; ls /whole/data; cat /whole/data/kept /whole/data/new; touch /whole/x; /whole/data/run; ls /part; \
                      cat /file; ls /single/data";
        let config = ContainerConfig {
            mounts: vec![
                mount("/whole", &id, ""),
                mount("/part", &id, "data"),
                mount("/file", &id, "data/kept"),
                mount("/single", &single, ""),
            ],
            ..shell(script)
        };
        let (_, lines) = node.run_to_end(config).await;
        let lines: Vec<_> = lines.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap_or_default()).collect();
        let of_data = ["kept", "new", "run"];
        let mut wanted: Vec<&str> = of_data.to_vec();
        wanted.extend(["below", "above", "touch: /whole/x: Read-only file system", "ran"]);
        wanted.extend(of_data);
        wanted.extend(["below", "gone", "kept", "run"]);
        assert_eq!(lines, wanted, "{snapshotter:?}");
        node.end().await;
    }
}

pub async fn no_path_leads_out_of_the_image() {
    let node = Node::new().await;
    let id = give(&node, "volume", &layers()).await;
    let sandbox = node.sandbox("web").await;
    for bad in ["none", "out", "..", "data/../.."] {
        let config = ContainerConfig { mounts: vec![mount("/part", &id, bad)], ..shell("true") };
        let container = node.runtime.create_container(&sandbox, config).await.unwrap();
        let error = node.runtime.start_container(&container).await.unwrap_err().to_string();
        assert!(error.contains(&format!("open path {bad:?} of the image")), "{error}");
    }
    let config = ContainerConfig { mounts: vec![mount("/part", "nothing", "")], ..shell("true") };
    let refused = node.runtime.create_container(&sandbox, config).await;
    assert!(matches!(refused, Err(Error::NotFound { .. })), "{refused:?}");
    node.end().await;
}

pub async fn an_image_stays_as_long_as_it_is_somebodys_volume() {
    let mut node = Node::new().await;
    let id = give(&node, "volume", &layers()).await;
    let sandbox = node.sandbox("web").await;
    let mounts = vec![mount("/whole", &id, "")];
    let config = ContainerConfig { mounts, ..shell("while ! [ -e /go ]; do sleep 0.1; done; cat /whole/data/*") };
    let container = node.run(&sandbox, config).await;
    std::fs::remove_file(node.images_dir().join("volume.tar")).unwrap();
    node.runtime.remove_image(&id).await.unwrap();
    assert_eq!(node.runtime.image_status(&id).await.unwrap(), None);
    // Layers nobody needs are cleared at the start, too.
    node.restart_after(async |_| {}).await;
    let touch = ["touch", "/go"].map(str::to_owned).to_vec();
    node.runtime.exec_sync(&container, touch, std::time::Duration::from_secs(30)).await.unwrap();
    let status = node.ended(&container).await;
    let lines = log(&status.log_path);
    assert!(lines.iter().any(|line| line.ends_with("F below")) && lines.iter().any(|line| line.ends_with("F above")));
    let kept = std::fs::read_dir(node.path("root/snapshots")).unwrap().count();
    node.runtime.remove_container(&container).await.unwrap();
    node.restart_after(async |_| {}).await;
    assert_eq!(std::fs::read_dir(node.path("root/snapshots")).unwrap().count(), kept - 2);
    node.end().await;
}
