//! An ordinary user.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use k3s_tests::{Cluster, User, eventually, kubectl_of_kubernetes};

use crate::{pods, web};

#[test]
fn an_ordinary_user_works_on_a_cluster_of_his_own() {
    let user = User::create("life");
    let mut cluster = Cluster::rootless(&user, &["--https-listen-port=16443"]);
    cluster.start();
    let mode = std::fs::metadata(&cluster.kubeconfig).expect("a kubeconfig").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    assert!(cluster.kubectl(&["get", "nodes"]).contains("Ready"));
    web::deploy(&cluster, 30081);
    let holders = cluster.holders();
    assert!(holders.iter().all(|line| line.contains("k3s server")) && !holders.is_empty(), "{holders:?}");
    web::check_network(&cluster, 30081);
    web::check_ipv6(30081);
    web::check_kubectl(&cluster);
    pods::check(&cluster, false);
    web::check_streams(&cluster);
    web::check_tools(&cluster);
    let kubeconfig = cluster.kubeconfig.display();
    let embedded = format!("{} kubectl --kubeconfig {kubeconfig}", k3s_tests::binary().display());
    web::check_terminal_and_port(&cluster, &embedded, 16491);
    let stock = format!("{} --kubeconfig {kubeconfig}", kubectl_of_kubernetes().display());
    web::check_terminal_and_port(&cluster, &stock, 16492);
    web::check_change(&cluster, 30081);
    stock_kubectl(&cluster);
    survives(&user, &mut cluster);
    web::delete(&cluster);
    let gone = web::fetch(([127, 0, 0, 1], 30081).into(), "/");
    assert!(gone.is_err(), "the node port still answers: {gone:?}");

    cluster.stop();
}

/// The kubectl that Kubernetes releases does the same.
fn stock_kubectl(cluster: &Cluster) {
    let run = |args: &[&str]| {
        let output = Command::new(kubectl_of_kubernetes())
            .arg("--kubeconfig")
            .arg(&cluster.kubeconfig)
            .args(args)
            .output()
            .expect("a kubectl that starts");
        assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(run(&["get", "nodes"]).contains("Ready"));
    assert!(run(&["get", "pods", "-A"]).contains("coredns"));
    let pod = web::pods(cluster)[0].clone();
    assert_eq!(run(&["exec", &pod, "--", "echo", "through a web socket"]), "through a web socket\n");
    assert!(run(&["describe", "pod", &pod]).contains("Readiness:"));
    assert!(run(&["explain", "deployment.spec.replicas"]).contains("Number of desired pods"));
    assert!(run(&["api-resources"]).contains("deployments"));
    run(&["label", "deployment/web", "tier=front"]);
    assert!(run(&["get", "deployment", "-l", "tier=front", "-o", "name"]).contains("deployment.apps/web"));
    run(&["scale", "deployment/web", "--replicas=2"]);
    run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
}

/// Killed and started again, stopped and started again: the same containers go on.
fn survives(user: &User, cluster: &mut Cluster) {
    eventually("the rollout is over", Duration::from_secs(60), || match web::pods(cluster).len() {
        2 => Ok(()),
        count => Err(format!("{count} pods")),
    });
    let before = web::containers(cluster);
    // Everything of k3s but the pods: launcher, server, network driver.
    cluster.kill();
    for (pid, line) in user.processes() {
        if line.contains(" server --rootless") || line.contains("slirp4netns") {
            // It may have ended with the launcher.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
    cluster.start();
    unchanged(cluster, &before);
    eventually("the node port answers again", Duration::from_secs(30), || {
        web::fetch(([127, 0, 0, 1], 30081).into(), "/index.html")
    });
    assert!(cluster.stop().success());
    cluster.start();
    unchanged(cluster, &before);
}

/// For a while, so that a late restart would show.
fn unchanged(cluster: &Cluster, before: &[(String, u64)]) {
    for _ in 0..10 {
        assert_eq!(web::containers(cluster), before);
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn after_the_last_pod_nothing_is_left_of_a_stopped_cluster() {
    let user = User::create("clean");
    let mut cluster = Cluster::rootless(&user, &["--https-listen-port=16444", "--disable=coredns"]);
    cluster.start();
    assert!(cluster.stop().success());
    eventually("no process is left", Duration::from_secs(20), || {
        let left = user.processes();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("a mount table");
    assert!(!mounts.contains(user.home.to_str().expect("a path of ASCII")), "{mounts}");
}
