//! Image archives built from files.

use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A layer being built.
pub struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// Adds an entry with the name as it is, also where `tar` would not write it.
    pub fn entry(mut self, kind: EntryType, name: &str, mode: u32, target: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_mtime(1_700_000_000);
        header.set_uid(0);
        header.set_gid(0);
        if matches!(kind, EntryType::Char | EntryType::Block) {
            header.set_device_major(8).unwrap();
            header.set_device_minor(0).unwrap();
        }
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub fn directory(self, name: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, name, mode, "", b"")
    }

    pub fn file(self, name: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, name, mode, "", content)
    }

    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, name, 0o777, target, b"")
    }

    pub fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub fn busybox_layer() -> Vec<u8> {
    let busybox = std::fs::read("/usr/bin/busybox").expect("busybox-static is installed");
    let mut layer = Layer::new()
        .directory("bin/", 0o755)
        .file("bin/busybox", 0o755, &busybox)
        .directory("etc/", 0o755)
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nweb:x:101:102:web:/home/web:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nweb:x:102:\nextra:x:103:web\n")
        .file("etc/plain", 0o644, b"not a program\n")
        .directory("tmp/", 0o1777)
        .directory("home/web/", 0o755);
    for name in [
        "sh", "cat", "echo", "ls", "sleep", "id", "env", "mount", "kill", "nc", "true", "touch", "stty", "pwd",
        "readlink", "grep", "ps", "mknod", "dd", "hostname", "tty", "chroot", "unshare", "wc", "cut", "mkdir",
    ] {
        layer = layer.symlink(&format!("bin/{name}"), "busybox");
    }
    layer.finish()
}

pub fn config(layers: &[Vec<u8>], user: &str) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", digest(layer))).collect();
    let config: Value = json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"], "User": user, "WorkingDir": "/made/by/the/runtime"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    serde_json::to_vec(&config).unwrap()
}

/// Writes a docker-archive.
pub fn docker(path: &Path, name: &str, layers: &[Vec<u8>], user: &str) {
    docker_of(path, name, layers, &config(layers, user));
}

/// Writes a docker-archive of an image with this configuration.
pub fn docker_of(path: &Path, name: &str, layers: &[Vec<u8>], config: &[u8]) {
    let config_name = format!("{}.json", digest(config));
    let mut layer = Layer::new();
    let mut names = Vec::new();
    for (index, content) in layers.iter().enumerate() {
        names.push(format!("{index}/layer.tar"));
        layer = layer.file(&names[index], 0o644, content);
    }
    let manifest = json!([{"Config": config_name, "RepoTags": [format!("{name}:latest")], "Layers": names}]);
    let bytes =
        layer.file(&config_name, 0o644, config).file("manifest.json", 0o644, &serde_json::to_vec(&manifest).unwrap());
    // As a tool would: written aside and moved in.
    let temporary = path.with_extension("part");
    std::fs::write(&temporary, bytes.finish()).unwrap();
    std::fs::rename(temporary, path).unwrap();
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Writes an OCI layout with compressed layers, itself compressed.
pub fn oci(path: &Path, name: &str, layers: &[Vec<u8>]) {
    let config = config(layers, "");
    let mut archive = Layer::new().file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut descriptors = Vec::new();
    let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()});
    let blob = |archive: Layer, bytes: &[u8]| archive.file(&format!("blobs/sha256/{}", digest(bytes)), 0o644, bytes);
    for layer in layers {
        let layer = gzip(layer);
        descriptors.push(descriptor("layer.v1.tar+gzip", &layer));
        archive = blob(archive, &layer);
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config),
        "layers": descriptors,
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    archive = blob(blob(archive, &config), &manifest);
    let mut entry = descriptor("manifest.v1+json", &manifest);
    entry["annotations"] = json!({"io.containerd.image.name": name});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    archive = archive.file("index.json", 0o644, &serde_json::to_vec(&index).unwrap());
    std::fs::write(path, gzip(&archive.finish())).unwrap();
}
