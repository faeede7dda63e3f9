//! The server that is measured: `k3s server` that serves the API and nothing else.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Client;

/// The token of the administrator who makes all requests; the scripts of wrk have it, too.
pub const TOKEN: &str = "bench-token";
const START: Duration = Duration::from_secs(60);

/// A server that ends with this.
pub struct Server {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Server {
    /// A server over an empty SQLite database, when it is ready.
    pub async fn start() -> Self {
        let binary = PathBuf::from(std::env::var_os("K3S_BINARY").expect("K3S_BINARY names the k3s binary"));
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_address();
        let tokens = folder.path().join("tokens.csv");
        std::fs::write(&tokens, format!("{TOKEN},bench,1,\"system:masters\"\n")).expect("a file");
        let log = File::create(folder.path().join("log")).expect("a file");
        let mut command = Command::new(binary);
        command
            .args(["server", "--disable-agent", "--disable-controller-manager", "--disable-scheduler"])
            .arg(format!("--https-listen-port={}", address.port()))
            .arg(format!("--kube-apiserver-arg=token-auth-file={}", tokens.display()))
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .arg("--write-kubeconfig")
            .arg(folder.path().join("kubeconfig"))
            .stdout(Stdio::null())
            .stderr(log);
        let server = Self { child: command.spawn().expect("K3S_BINARY starts"), address, folder };
        let begin = Instant::now();
        while !server.is_ready().await {
            let log = server.folder.path().join("log");
            assert!(begin.elapsed() < START, "not ready: {}", std::fs::read_to_string(log).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        server
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut client) = Client::connect(self.address).await else { return false };
        client.get("/readyz").await.is_ok_and(|(code, _)| code.is_success())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Its resident memory, in MiB.
    pub fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its resident memory");
        let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
        kibibytes / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("a process of ours");
        self.child.wait().expect("a process of ours");
    }
}

/// An address of this machine that nobody has. Between this and its use another process might take it.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its address")
}
