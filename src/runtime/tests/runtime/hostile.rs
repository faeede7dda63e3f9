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
        ("opaque", Layer::new().symlink("out", outside).file("out/.wh..wh..opq", 0o644, b"")),
        ("whiteout-out", Layer::new().symlink("out", outside).file("out/.wh.file", 0o644, b"")),
        ("device-out", Layer::new().symlink("out", outside).entry(EntryType::Char, "out/mem", 0o666, "", b"")),
        ("fifo-out", Layer::new().symlink("out", outside).entry(EntryType::Fifo, "out/fifo", 0o666, "", b"")),
        ("link-out", Layer::new().symlink("out", outside).symlink("out/link", "/etc")),
        (
            "hard-through",
            Layer::new().symlink("s", "/etc/passwd").entry(EntryType::Link, "h", 0o644, "s", b"").entry(
                EntryType::Link,
                "hh",
                0o644,
                "h",
                b"",
            ),
        ),
        ("hard-dir", Layer::new().symlink("e", "/etc").entry(EntryType::Link, "p", 0o644, "e/passwd", b"")),
        ("parent-file", Layer::new().file("f", 0o644, b"x").file("f/below", 0o644, b"x")),
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

/// An entry of a sparse file: `size` bytes, of which there is nothing.
fn holes(size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path("holes").unwrap();
    header.set_entry_type(EntryType::GNUSparse);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    // As GNU tar marks the end of a file that ends with a hole: a piece of no length at its end.
    gnu.sparse[0].offset = number(size);
    gnu.sparse[0].numbytes = number(0);
    gnu.realsize = number(size);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, std::io::empty()).unwrap();
    archive.into_inner().unwrap()
}

/// In binary, as large sizes are.
fn number(value: u64) -> [u8; 12] {
    let mut field = [0; 12];
    field[0] = 0x80;
    field[4..].copy_from_slice(&value.to_be_bytes());
    field
}

pub async fn archives_that_ask_for_too_much_are_refused_and_leave_nothing() {
    let node = Node::empty().await;
    let long_name = {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(3 << 20);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(512 + (3 << 20), b'a');
        bytes
    };
    let import = async |name: &str, layer: Vec<u8>| {
        // Not in the images directory: what appears there is imported without being asked for.
        let path = node.path(&format!("{name}.tar"));
        archive::docker(&path, name, &[layer], "");
        node.runtime.import_archive(std::fs::File::open(path).unwrap()).await
    };
    let cases = [
        ("sparse", holes(1 << 60), "no space left on device"),
        ("name", long_name, "long name or extended header"),
        ("cut", Layer::new().file("file", 0o644, &[7; 4096]).finish()[..2048].to_vec(), "archive"),
    ];
    for (name, layer, expected) in cases {
        let error = import(name, layer).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        let left = std::fs::read_dir(node.path("root/snapshots")).unwrap().flatten();
        let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
        // That of the built-in image.
        assert_eq!(left.len(), 1, "{name}: {left:?}");
    }
    // Holes that fit stay holes.
    let layer = holes(16 << 20);
    let unpacked = node.path("root/snapshots").join(archive::digest(&layer)).join("holes");
    import("holes", layer).await.unwrap();
    let file = std::fs::metadata(unpacked).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert!(file.size() == 16 << 20 && file.blocks() * 512 < 1 << 20, "{} blocks", file.blocks());
    node.end().await;
}
