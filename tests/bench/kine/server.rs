//! The servers: etcd, and kine with its gRPC face, each a process with its data below one folder.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use k3s_kine::{
    grpc::{self, Listener},
    sqlite::{Options, Sqlite},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::client::Client;

/// A server that ends with this.
pub struct Server {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Server {
    pub async fn etcd() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (client, peer) = (url(), url());
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(folder.path().join("etcd"));
        command.args(["--quota-backend-bytes=8589934592", "--logger=zap", "--log-level=error"]);
        for (flag, url) in [("client", &client), ("peer", &peer)] {
            command.args([format!("--listen-{flag}-urls"), url.clone()]);
        }
        command.args(["--advertise-client-urls", &client, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        Self::start(command, client, folder).await
    }

    pub async fn kine() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = url();
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.arg("serve").arg(folder.path().join("state.db")).arg(&url);
        Self::start(command, url, folder).await
    }

    async fn start(mut command: Command, url: String, folder: TempDir) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a server");
        let server = Self { child, url, _folder: folder };
        for _ in 0..200 {
            if let Ok(mut client) = etcd_client::Client::connect([&server.url], None).await
                && client.get("health", None).await.is_ok()
            {
                return server;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{command:?} does not answer");
    }

    /// Where clients reach it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// As many clients, over at most 8 connections.
    pub async fn clients(&self, count: usize) -> Vec<Client> {
        let mut connections = Vec::new();
        for _ in 0..count.min(8) {
            connections.push(etcd_client::Client::connect([&self.url], None).await.expect("a connection"));
        }
        (0..count).map(|n| Client::Grpc(Box::new(connections[n % connections.len()].clone()))).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().expect("a process of ours");
        self.child.wait().expect("a process of ours");
    }
}

/// An address of this machine that nobody has. Between this and its use another process might take it.
fn url() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    format!("http://{}", listener.local_addr().expect("its address"))
}

/// The other process of [`Server::kine`].
pub fn serve(database: &str, address: &str) {
    crate::runtime().block_on(async {
        let store = Sqlite::open(Path::new(database), Options::default()).expect("a datastore");
        let listener = Listener::bind(&address.parse().expect("an address"), None).await.expect("a socket");
        grpc::serve(Arc::new(store), listener, CancellationToken::new()).await.expect("it serves");
    });
}

/// A datastore in this process, in a folder that goes with it.
pub struct Local {
    pub store: Arc<Sqlite>,
    pub folder: TempDir,
}

impl Local {
    pub fn open(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(Sqlite::open(&folder.path().join("state.db"), options).expect("a datastore"));
        Self { store, folder }
    }

    pub fn clients(&self, count: usize) -> Vec<Client> {
        (0..count).map(|_| Client::Trait(self.store.clone())).collect()
    }

    /// Closes it, so that its threads are not there in what is measured next.
    pub async fn close(self) {
        self.store.close().await.expect("it closes");
    }
}
