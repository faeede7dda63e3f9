//! Pulling an image of ten layers from Debian's registry.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use k8s_cri::v1::*;

use crate::archive::{self, Layer};
use crate::runtimes::Server;

/// A registry that is ended with this.
struct Registry(Child);

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn registry(directory: &Path) -> (Registry, String) {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let host = format!("127.0.0.1:{port}");
    let folder = directory.join("registry");
    let config = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n",
        folder.display()
    );
    let path = directory.join("registry.yml");
    std::fs::write(&path, config).expect("a configuration");
    let child =
        Command::new("docker-registry").arg("serve").arg(path).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let began = Instant::now();
    while std::net::TcpStream::connect(&host).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "docker-registry does not answer");
        std::thread::sleep(Duration::from_millis(10));
    }
    (Registry(child.expect("docker-registry starts")), host)
}

/// A layer of files that compress as programs do, by half.
fn layer(number: u64, size: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut layer = Layer::new().directory("data/", 0o755);
    for file in 0..16 {
        let mut content = Vec::with_capacity(size / 16);
        while content.len() < size / 16 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            content.extend_from_slice(&state.to_le_bytes());
            content.extend_from_slice(b"01234567");
        }
        layer = layer.file(&format!("data/{number}-{file}"), 0o644, &content);
    }
    layer.finish()
}

/// Pulls and unpacks ten layers of `size` bytes each.
pub async fn pull(server: &Server, size: usize) -> Duration {
    let (_registry, host) = registry(&server.directory);
    let image = server.directory.join("large.tar.gz");
    let layers: Vec<Vec<u8>> = (1..=10).map(|number| layer(number, size)).collect();
    archive::oci(&image, "bench/large:v1", &layers);
    let plain = server.directory.join("large.tar");
    let unpack = Command::new("gzip").args(["-dc"]).arg(&image).stdout(File::create(&plain).expect("a file")).status();
    assert!(unpack.is_ok_and(|status| status.success()), "gzip");
    let reference = format!("{host}/bench/large:v1");
    let source = format!("oci-archive:{}", plain.display());
    let copied = Command::new("skopeo")
        .args(["copy", "-q", "--insecure-policy", "--dest-tls-verify=false", &source, &format!("docker://{reference}")])
        .output()
        .expect("skopeo");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    let mut images = server.images.clone();
    let image = Some(ImageSpec { image: reference.clone(), ..Default::default() });
    let begin = Instant::now();
    images.pull_image(PullImageRequest { image, ..Default::default() }).await.expect("a pulled image");
    begin.elapsed()
}
