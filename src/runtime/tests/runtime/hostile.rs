//! Archives that try to get out, or to hide things.

use tar::EntryType;

use crate::archive::{self, Layer};
use crate::node::Node;

pub async fn no_entry_of_a_layer_leads_out_of_it() {
    let node = Node::empty().await;
    let target = node.path("target");
    std::fs::create_dir(&target).unwrap();
    let outside = target.to_str().unwrap();
    let deep = format!("{}{}", "../".repeat(20), outside.trim_start_matches('/'));
    let layers: Vec<(&str, Layer)> = vec![
        ("dotdot", Layer::new().file("../../../../../../target/dotdot", 0o644, b"x")),
        ("absolute", Layer::new().file(&format!("{outside}/absolute"), 0o644, b"x")),
        ("link", Layer::new().symlink("out", outside).file("out/link", 0o644, b"x")),
        ("relative", Layer::new().symlink("out", &deep).file("out/relative", 0o644, b"x")),
        ("chain", Layer::new().symlink("a", "b").symlink("b", outside).file("a/chain", 0o644, b"x")),
        ("through", Layer::new().symlink("file", &format!("{outside}/through")).file("file", 0o644, b"x")),
        ("hard", Layer::new().entry(EntryType::Link, "passwd", 0o644, "/etc/passwd", b"")),
        ("harddots", Layer::new().entry(EntryType::Link, "p", 0o644, "../../../../../../../../etc/passwd", b"")),
        ("magic", Layer::new().symlink("m", "/proc/self/root").file(&format!("m{outside}/magic"), 0o644, b"x")),
        ("whiteout", Layer::new().directory("d/", 0o755).file("d/.wh...", 0o644, b"")),
        ("replaced", Layer::new().symlink("d", outside).directory("d/", 0o777).file("d/replaced", 0o644, b"x")),
    ];
    let before = std::fs::metadata("/etc/passwd").unwrap();
    for (name, layer) in layers {
        archive::docker(&node.images_dir().join(format!("{name}.tar")), name, &[layer.finish()], "");
    }
    node.runtime.import_images().await;
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0, "an entry got out");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata("/etc/passwd").unwrap().nlink(), before.nlink());

    let nodes =
        Layer::new().entry(EntryType::Block, "disk", 0o666, "", b"").entry(EntryType::Char, "mem", 0o666, "", b"");
    let layer = nodes.finish();
    let unpacked = node.path("root/snapshots").join(archive::digest(&layer));
    archive::docker(&node.images_dir().join("nodes.tar"), "nodes", &[layer], "");
    node.runtime.import_images().await;
    assert!(unpacked.is_dir());
    assert_eq!(std::fs::read_dir(unpacked).unwrap().count(), 0, "a device node was made");
    node.end().await;
}

pub async fn whiteouts_hide_what_lower_layers_have() {
    let node = Node::empty().await;
    let lower = Layer::new()
        .file("gone", 0o644, b"x")
        .file("stays", 0o644, b"x")
        .directory("opaque/", 0o755)
        .file("opaque/hidden", 0o644, b"x")
        .finish();
    let upper = Layer::new()
        .file(".wh.gone", 0o644, b"")
        .file(".wh.never-there", 0o644, b"")
        .directory("opaque/", 0o755)
        .file("opaque/.wh..wh..opq", 0o644, b"")
        .file("opaque/new", 0o644, b"x")
        .finish();
    let layers = [archive::busybox_layer(), lower, upper];
    archive::docker(&node.images_dir().join("busybox.tar"), "busybox", &layers, "");
    for report in node.runtime.import_images().await {
        report.result.unwrap();
    }
    let got = node.script("ls / /opaque | grep -v -E '^(bin|dev|etc|home|made|proc|sys|tmp)$'").await;
    assert_eq!(got, ["/:", "opaque", "stays", "", "/opaque:", "new"]);
    node.end().await;
}
