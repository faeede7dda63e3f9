//! What is refused, with a message that says what and what to do.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use k3s_tests::{Cluster, Image, User, binary, eventually};

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs `k3s server --rootless` as `user`, in a mount namespace that `prepare` (a shell command of root) has changed.
fn refused(user: &User, prepare: &str, args: &str) -> String {
    let script = format!(
        "{prepare} && exec setpriv --reuid {name} --regid {name} --init-groups --reset-env {binary} server --rootless {args}",
        name = user.name,
        binary = binary().display(),
    );
    let output = Command::new("timeout")
        .args(["60", "unshare", "--mount", "--propagation", "private", "sh", "-c", &script])
        .current_dir(&user.home)
        .output()
        .expect("a shell");
    let said = said(&output);
    assert!(!output.status.success() && output.status.code() != Some(124), "{prepare}: {}: {said}", output.status);
    said
}

#[test]
fn what_the_host_lacks_is_named_with_what_mends_it() {
    let user = User::create("lacks");
    let empty = user.home.join("empty");
    std::fs::write(&empty, "").expect("a file");
    let over = |path: &str| format!("mount --bind {} {path}", empty.display());
    for (prepare, words) in [
        (over("/etc/subuid"), &["/etc/subuid", "--add-subuids"][..]),
        (over("/usr/bin/newuidmap"), &["newuidmap", "uidmap"]),
        ("mount -t tmpfs tmpfs /dev/net".to_owned(), &["/dev/net/tun", "modprobe tun"]),
        (over("/usr/bin/slirp4netns"), &["slirp4netns"]),
    ] {
        let said = refused(&user, &prepare, "--https-listen-port=16446");
        for word in words {
            assert!(said.contains(word), "{prepare}: {word:?} is not in: {said}");
        }
    }
}

#[test]
fn flags_and_variables_that_make_no_sense_are_refused() {
    let user = User::create("flags");
    let run = |args: &[&str], variable: (&str, &str)| {
        let mut command = user.command(Path::new("timeout"));
        let output = command.arg("20").arg(binary()).args(args).env(variable.0, variable.1).output().expect("k3s");
        assert!(
            !output.status.success() && output.status.code() != Some(124),
            "{args:?} {variable:?}: {}",
            output.status
        );
        said(&output)
    };
    let none = ("UNUSED", "");
    assert!(run(&["server", "--rootles"], none).contains("--rootless"));
    assert!(run(&["serve"], none).contains("unknown command \"serve\""));
    assert!(run(&["server"], none).contains("k3s server --rootless"));
    assert!(run(&["server", "--rootless", "--https-listen-port=70000"], none).contains("--https-listen-port"));
    assert!(run(&["server", "--rootless"], ("K3S_ROOTLESS_MTU", "abc")).contains("K3S_ROOTLESS_MTU"));
    assert!(run(&["server", "--rootless"], ("K3S_ROOTLESS_CIDR", "10.41.0.1/16")).contains("K3S_ROOTLESS_CIDR"));
    let config = user.home.join("config.yaml");
    std::fs::write(&config, "node-nam: x\n").expect("a file");
    let said = run(&["server", "--rootless", "--config", config.to_str().expect("ASCII")], none);
    assert!(said.contains("node-nam") && said.contains("did you mean \"node-name\"?"), "{said}");
}

#[test]
fn a_port_in_use_a_second_start_and_damaged_files_are_told() {
    let user = User::create("taken");
    let _taken = std::net::TcpListener::bind("0.0.0.0:16447").expect("a free port");
    let mut blocked = Cluster::rootless(&user, &["--https-listen-port=16447", "--disable=coredns"]);
    blocked.spawn();
    assert!(!blocked.wait_end().success());
    assert!(blocked.log_tail().contains("16447"), "{}", blocked.log_tail());
    drop(blocked);

    let mut cluster = Cluster::rootless(&user, &["--https-listen-port=16448", "--disable=coredns"]);
    cluster.start();
    let second =
        user.command(&binary()).args(["server", "--rootless", "--https-listen-port=16449"]).output().expect("k3s");
    assert!(!second.status.success());
    assert!(said(&second).contains(&cluster.pid().to_string()), "{}", said(&second));

    let images = cluster.data_dir.join("agent/images");
    let make = user.command(Path::new("mkdir")).arg("-p").arg(&images).status().expect("mkdir");
    assert!(make.success());
    let mut damaged = Image::new("example.test/damaged:1").file("a", 0o644, b"a").docker_archive();
    damaged.truncate(1000);
    std::fs::File::create(images.join("damaged.tar")).and_then(|mut file| file.write_all(&damaged)).expect("a file");
    eventually("the damaged image is told", Duration::from_secs(20), || {
        let log = cluster.log_tail();
        if log.contains("damaged.tar") { Ok(()) } else { Err(log) }
    });
    let manifests = cluster.data_dir.join("server/manifests");
    std::fs::write(manifests.join("broken.yaml"), "kind: [\n").expect("a file");
    eventually("the broken manifest is told", Duration::from_secs(20), || {
        let log = cluster.log_tail();
        if log.contains("broken.yaml is not a manifest") { Ok(()) } else { Err(log) }
    });
    let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good}\n";
    std::fs::write(manifests.join("good.yaml"), good).expect("a file");
    eventually("the good one is deployed", Duration::from_secs(20), || {
        cluster.try_kubectl(&["get", "configmap", "good"])
    });
    cluster.stop();
}
