//! The peer: nginx, which serves the same bytes as files over TLS.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;

use crate::client::Client;
use crate::server::{TOKEN, free_address};

/// An nginx that ends with this.
pub struct Nginx {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Nginx {
    /// Serves `files` by name to who has the token.
    pub async fn start(files: &[(&str, &Bytes)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("files")).expect("a folder");
        for (name, bytes) in files {
            std::fs::write(at("files").join(name), bytes).expect("a file");
        }
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        std::fs::write(at("cert.pem"), certified.cert.pem()).expect("a file");
        std::fs::write(at("key.pem"), certified.signing_key.serialize_pem()).expect("a file");
        // As root its workers are another user's, who has to get at the files.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a folder");
        let address = free_address();
        let configuration = include_str!("nginx.conf")
            .replace("FOLDER", &folder.path().to_string_lossy())
            .replace("ADDRESS", &address.to_string())
            .replace("TOKEN", TOKEN);
        std::fs::write(at("nginx.conf"), configuration).expect("a file");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder.path()).arg("-c").arg(at("nginx.conf")).stdout(Stdio::null());
        let server = Self { child: command.spawn().expect("nginx starts"), address, _folder: folder };
        let begin = Instant::now();
        loop {
            if let Ok(mut client) = Client::connect(address).await
                && let Ok((code, _)) = client.get(&format!("/{}", files[0].0)).await
            {
                assert!(code.is_success(), "nginx answers {code}");
                return server;
            }
            assert!(begin.elapsed() < Duration::from_secs(10), "nginx does not answer");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Where a file is.
    pub fn url(&self, name: &str) -> String {
        format!("https://{}/{name}", self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it only if it is asked to end.
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a process of ours");
        self.child.wait().expect("a process of ours");
    }
}
