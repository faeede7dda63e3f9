//! `./install.sh`, as root for an ordinary user.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use k3s_tests::{User, eventually};

/// Runs the script of this checkout.
fn install(user: &User, variables: &[(&str, &str)]) -> Output {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut command = Command::new("sh");
    // What the test runner's cargo has set is no part of a person's shell, and would have crates built anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_") && !matches!(&*text, "CARGO_HOME" | "CARGO_TARGET_DIR") {
            command.env_remove(&name);
        }
    }
    command
        .arg(checkout.join("install.sh"))
        .arg("--https-listen-port=16451")
        .env("INSTALL_K3S_USER", &user.name)
        .env("INSTALL_K3S_BIN_DIR", user.home.join("bin"))
        .envs(variables.iter().copied())
        .output()
        .expect("a shell")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn install_sh_brings_up_a_cluster_and_a_second_run_changes_nothing() {
    let user = User::create("install");
    let first = install(&user, &[]);
    assert!(first.status.success(), "{}", said(&first));
    assert!(said(&first).contains("ready: KUBECONFIG="), "{}", said(&first));
    let pid = std::fs::read_to_string(user.home.join(".rancher/k3s/k3s.pid")).expect("a pid file");
    let second = install(&user, &[]);
    assert!(second.status.success(), "{}", said(&second));
    assert!(said(&second).contains(&format!("k3s runs already (pid {})", pid.trim())), "{}", said(&second));
    assert_eq!(std::fs::read_to_string(user.home.join(".rancher/k3s/k3s.pid")).expect("a pid file"), pid);
    let kubectl = user.command(&user.home.join("bin/k3s")).args(["kubectl", "get", "nodes"]).output().expect("kubectl");
    assert!(said(&kubectl).contains("Ready"), "{}", said(&kubectl));

    // The scripts it wrote, as the user: what ends k3s leaves its data, what removes it leaves nothing.
    let script = |name: &str| {
        let output = user.command(&user.home.join("bin").join(name)).output().expect("a script");
        assert!(output.status.success(), "{name}: {}", said(&output));
    };
    script("k3s-killall.sh");
    eventually("all processes have ended", Duration::from_secs(10), || {
        let left = user.processes();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    assert!(user.home.join(".rancher/k3s/server/db/state.db").exists());
    script("k3s-uninstall.sh");
    for left in [".rancher/k3s", ".kube/k3s.yaml", ".config/k3s/k3s-rootless.env", "bin/k3s", "bin/k3s-killall.sh"] {
        assert!(!user.home.join(left).exists(), "{left} is left");
    }
}

#[test]
fn install_sh_refuses_what_it_can_not_do() {
    let user = User::create("refuse");
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    // The user can't look into the checkout everywhere, so the script is handed in.
    let script = std::fs::read_to_string(checkout.join("install.sh")).expect("a script");
    let output = user
        .command(Path::new("sh"))
        .args(["-c", &script, "install.sh"])
        .env("INSTALL_K3S_USER", "root")
        .output()
        .expect("a shell");
    assert!(!output.status.success());
    assert!(said(&output).contains("only root can install for another user (root)"), "{}", said(&output));
}
