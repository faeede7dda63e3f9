//! Images built from files, as archives that `docker save` would write.

use std::io::Write;
use std::path::Path;

use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// An image with one layer.
pub struct Image {
    reference: String,
    layer: Builder<Vec<u8>>,
    command: Vec<String>,
}

impl Image {
    /// An empty image of that name and tag.
    pub fn new(reference: &str) -> Self {
        Self { reference: reference.to_owned(), layer: Builder::new(Vec::new()), command: Vec::new() }
    }

    /// Adds a file.
    ///
    /// # Panics
    /// If the path is longer than tar allows.
    pub fn file(mut self, path: &str, mode: u32, content: &[u8]) -> Self {
        let mut header = header(EntryType::Regular, content.len(), mode);
        self.layer.append_data(&mut header, path, content).expect("a valid entry");
        self
    }

    /// Adds a folder.
    ///
    /// # Panics
    /// If the path is longer than tar allows.
    pub fn folder(mut self, path: &str, mode: u32) -> Self {
        let mut header = header(EntryType::Directory, 0, mode);
        self.layer.append_data(&mut header, path, std::io::empty()).expect("a valid entry");
        self
    }

    /// Adds a symbolic link.
    ///
    /// # Panics
    /// If a path is longer than tar allows.
    pub fn link(mut self, path: &str, target: &str) -> Self {
        let mut header = header(EntryType::Symlink, 0, 0o777);
        self.layer.append_link(&mut header, path, target).expect("a valid entry");
        self
    }

    /// The command that its containers run.
    pub fn command(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// The archive.
    ///
    /// # Panics
    /// Never: it is written into memory.
    pub fn docker_archive(self) -> Vec<u8> {
        let layer = self.layer.into_inner().expect("a layer in memory");
        let digest = hex(&layer);
        let config = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": {"Cmd": self.command, "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
            "history": []
        });
        let config = config.to_string().into_bytes();
        let config_name = format!("{}.json", hex(&config));
        let layer_name = format!("{digest}/layer.tar");
        let manifest = json!([{"Config": config_name, "RepoTags": [self.reference], "Layers": [layer_name]}]);
        let mut archive = Builder::new(Vec::new());
        for (name, content) in [
            (config_name.as_str(), config),
            (layer_name.as_str(), layer),
            ("manifest.json", manifest.to_string().into_bytes()),
        ] {
            let mut header = header(EntryType::Regular, content.len(), 0o644);
            archive.append_data(&mut header, name, content.as_slice()).expect("a valid entry");
        }
        archive.into_inner().expect("an archive in memory")
    }

    /// Writes the archive where anybody can read it, all at once.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn save(self, path: &Path) {
        let temporary = path.with_extension("part");
        let mut file = std::fs::File::create(&temporary).expect("a file for the image");
        file.write_all(&self.docker_archive()).expect("room for the image");
        std::fs::rename(&temporary, path).expect("the image in place");
    }
}

/// The image `reference` with Debian's static busybox: a shell, and a web server that serves /www on port 8080.
///
/// # Panics
/// If busybox-static is not installed.
pub fn busybox_image(reference: &str) -> Image {
    let busybox = std::fs::read("/bin/busybox")
        .or_else(|_| std::fs::read("/usr/bin/busybox"))
        .expect("busybox-static is installed");
    let mut image = Image::new(reference)
        .folder("bin/", 0o755)
        .folder("tmp/", 0o1777)
        .folder("etc/", 0o755)
        .folder("www/", 0o755)
        .file("bin/busybox", 0o755, &busybox)
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\nweb:x:1000:\n")
        .file("www/index.html", 0o644, b"hello\n");
    for applet in [
        "cat", "echo", "env", "false", "grep", "hostname", "httpd", "id", "ls", "nc", "nslookup", "ps", "sh", "sleep",
        "stty", "test", "touch", "true", "tty", "wget", "kill", "mount", "ip", "head", "date", "rm", "mkdir", "seq",
        "tail", "trap",
    ] {
        image = image.link(&format!("bin/{applet}"), "busybox");
    }
    // A static program can't use the C library's resolver; getent can, with the libraries it names.
    for path in std::iter::once("/usr/bin/getent".to_owned()).chain(libraries("/usr/bin/getent")) {
        let content = std::fs::read(&path).expect("a readable library");
        image = image.file(path.trim_start_matches('/'), 0o755, &content);
    }
    image.command(&["/bin/httpd", "-f", "-p", "8080", "-h", "/www"])
}

/// The files that the dynamic loader would map for a program, the loader included.
fn libraries(program: &str) -> Vec<String> {
    let output = std::process::Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect()
}

/// Of a file of root's from the beginning of time, so that the same content makes the same image.
fn header(kind: EntryType, size: usize, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_cksum();
    header
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
