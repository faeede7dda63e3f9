//! `k3s kine`: the datastore alone, with etcd's own client.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use k3s_tests::{binary, eventually};

/// A kine on a unix socket, with its database beside it.
struct Kine(Child);

impl Kine {
    fn start(folder: &Path) -> Self {
        let at = |scheme: &str, name: &str| format!("{scheme}://{}", folder.join(name).display());
        let child = Command::new(binary())
            .args(["kine", "--metrics-bind-address=0", "--endpoint", &at("sqlite", "state.db")])
            .args(["--listen-address", &at("unix", "kine.sock")])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("kine answers", Duration::from_secs(20), || etcdctl(folder, &["endpoint", "health"]));
        Self(child)
    }

    /// Ends it as systemd does.
    fn stop(mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Kine {
    fn drop(&mut self) {
        // Has ended already, unless the test fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn etcdctl(folder: &Path, args: &[&str]) -> Result<String, String> {
    let socket = format!("unix://{}", folder.join("kine.sock").display());
    let output =
        Command::new("etcdctl").env("ETCDCTL_API", "3").args(["--endpoints", &socket]).args(args).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn it_serves_etcd_clients_and_goes_back_to_a_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let kine = Kine::start(folder);
    etcdctl(folder, &["put", "/a", "before"]).unwrap();
    let snapshot = folder.join("snapshot").display().to_string();
    etcdctl(folder, &["snapshot", "save", &snapshot]).unwrap();
    etcdctl(folder, &["put", "/a", "after"]).unwrap();

    let endpoint = format!("sqlite://{}", folder.join("state.db").display());
    let restore =
        || Command::new(binary()).args(["kine", "--endpoint", &endpoint, "--restore", &snapshot]).output().unwrap();
    let refused = restore();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use by another process"), "{refused:?}");
    kine.stop();
    assert!(!folder.join("kine.sock").exists());
    let restored = restore();
    assert!(restored.status.success(), "{restored:?}");

    let kine = Kine::start(folder);
    assert_eq!(etcdctl(folder, &["get", "/a", "--print-value-only"]).unwrap(), "before\n");
    kine.stop();
}
