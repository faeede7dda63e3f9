//! etcd's own measure of a cluster, which clients of etcd are told to expect: `etcdctl check perf`.

use std::process::Command;

use crate::{rest, row, server::Server};

/// Takes a minute: 150 writes a second, none of which may take half a second.
pub async fn run() {
    let server = Server::kine().await;
    rest::wait().await;
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["--endpoints", server.url(), "check", "perf"])
        .output()
        .expect("etcdctl");
    let out = String::from_utf8_lossy(&output.stdout);
    // A line for each of throughput, slowest request and deviation, and one for all.
    let said: Vec<&str> = out.lines().filter(|line| line.starts_with("PASS") || line.starts_with("FAIL")).collect();
    row(
        "`etcdctl check perf`, gRPC",
        "",
        &said.join(", "),
        "",
        "PASS",
        output.status.success() && !said.is_empty() && said.iter().all(|line| line.starts_with("PASS")),
    );
}
