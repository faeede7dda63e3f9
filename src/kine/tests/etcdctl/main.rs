//! The gRPC face, driven by Debian's `etcdctl` (package etcd-client), which has etcd's own Go client inside.

mod commands;
mod listeners;
mod maintenance;
mod watches;

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

use k3s_kine::{
    grpc::{self, Address, Listener, Tls},
    sqlite::{Options, Sqlite},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A datastore that is served, in a folder that goes with it.
struct Served {
    folder: tempfile::TempDir,
    store: Arc<Sqlite>,
    url: String,
    closing: CancellationToken,
    serving: JoinHandle<()>,
}

impl Served {
    /// On an unused port of the loopback interface.
    async fn tcp() -> Self {
        Self::at("127.0.0.1:0", None).await
    }

    async fn at(address: &str, tls: Option<Tls>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address: Address = address.replace("FOLDER", &folder.path().display().to_string()).parse().unwrap();
        let store = Arc::new(Sqlite::open(&folder.path().join("state.db"), Options::default()).unwrap());
        let listener = Listener::bind(&address, tls).await.unwrap();
        let url = listener.url();
        let closing = CancellationToken::new();
        let serving = grpc::serve(store.clone(), listener, closing.clone());
        let serving = tokio::spawn(async move { serving.await.unwrap() });
        Self { folder, store, url, closing, serving }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn etcdctl(&self, args: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env_clear().env("ETCDCTL_API", "3").env("PATH", std::env::var_os("PATH").unwrap());
        command.arg("--endpoints").arg(&self.url).args(args);
        command
    }

    /// What the command prints; it must succeed.
    async fn run(&self, args: &[&str]) -> String {
        self.run_with(args, "").await
    }

    async fn run_with(&self, args: &[&str], input: &str) -> String {
        let (success, out, err) = self.output(args, input).await;
        assert!(success, "etcdctl {args:?}: {out}{err}");
        out
    }

    /// What the command says on stderr; it must fail.
    async fn fail(&self, args: &[&str]) -> String {
        let (success, out, err) = self.output(args, "").await;
        assert!(!success, "etcdctl {args:?} succeeded: {out}");
        err
    }

    async fn output(&self, args: &[&str], input: &str) -> (bool, String, String) {
        let mut command = self.etcdctl(args);
        let input = input.to_owned();
        let output = tokio::task::spawn_blocking(move || {
            let mut child =
                command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("etcdctl");
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let output = output.await.unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    async fn json(&self, args: &[&str]) -> serde_json::Value {
        let out = self.run(&[args, &["--write-out=json"]].concat()).await;
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    async fn close(self) -> tempfile::TempDir {
        self.closing.cancel();
        self.serving.await.unwrap();
        k3s_kine::sqlite::Sqlite::close(&self.store).await.unwrap();
        self.folder
    }
}
