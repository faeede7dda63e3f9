//! `./install.sh`, as root for an ordinary user.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use k3s_tests::{User, binary, eventually};

use crate::isolation;

/// Runs the script of this checkout.
fn install(user: &User, variables: &[(&str, &str)]) -> Output {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut command = Command::new("sh");
    // What the test runner's cargo has set is no part of a person's shell, and would have crates built anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_cargo = text.starts_with("CARGO_") && !matches!(&*text, "CARGO_HOME" | "CARGO_TARGET_DIR");
        // The second is in the workspace's own configuration of cargo.
        if of_cargo || text == "LIBSQLITE3_FLAGS" {
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
fn the_service_of_root_goes_with_all_its_pods() {
    std::fs::create_dir_all("/etc/rancher").expect("a folder to mount on");
    std::fs::create_dir_all("/var/lib/rancher").expect("a folder to mount on");
    isolation::own_network_and_mounts(&["/run", "/var/log", "/etc/rancher", "/var/lib/rancher"]);
    let folder = tempfile::tempdir().expect("a folder");
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).expect("a folder");
    std::fs::copy(binary(), bin.join("k3s")).expect("the binary");
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let _end = KillAll(bin.join("k3s-killall.sh"));
    let installed = Command::new("sh")
        .arg(checkout.join("install.sh"))
        .arg("--https-listen-port=16455")
        .envs([("INSTALL_K3S_ROOTFUL", "true"), ("INSTALL_K3S_SKIP_DOWNLOAD", "true"), ("INSTALL_K3S_SYMLINK", "skip")])
        .env("INSTALL_K3S_BIN_DIR", &bin)
        .env("INSTALL_K3S_SYSTEMD_DIR", folder.path())
        .output()
        .expect("a shell");
    assert!(said(&installed).contains("ready: KUBECONFIG="), "{}", said(&installed));
    eventually("coredns runs", Duration::from_secs(60), || {
        let mut kubectl = Command::new(bin.join("k3s"));
        kubectl.args(["kubectl", "get", "pods", "-A"]).env("KUBECONFIG", "/etc/rancher/k3s/k3s.yaml");
        let pods = said(&kubectl.output().expect("kubectl"));
        if pods.contains("1/1") { Ok(()) } else { Err(pods) }
    });
    let pods = pods();
    assert!(pods.len() > 1, "a shim and what it runs: {pods:?}");
    let script = |name: &str| {
        let output = Command::new(bin.join(name)).output().expect("a script");
        assert!(output.status.success(), "{name}: {}", said(&output));
    };
    script("k3s-killall.sh");
    eventually("all pods have ended", Duration::from_secs(10), || {
        let left: Vec<_> =
            pods.iter().filter(|pid| Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    assert!(std::net::TcpStream::connect(("127.0.0.1", 16455)).is_err(), "the server still listens");
    script("k3s-uninstall.sh");
    for left in ["/var/lib/rancher/k3s", "/etc/rancher/k3s", "/run/k3s"] {
        assert!(!Path::new(left).exists(), "{left} is left");
    }
    assert_eq!(std::fs::read_dir(&bin).expect("a folder").count(), 0);
}

/// Ends what is installed, however a test ends.
struct KillAll(PathBuf);

impl Drop for KillAll {
    fn drop(&mut self) {
        // Not there once it has been removed with the rest, or if nothing was installed.
        let _ = Command::new(&self.0).status();
    }
}

/// Processes of pods whose sandboxes are in this process's /run: shims and their children.
fn pods() -> Vec<String> {
    let processes: Vec<_> = std::fs::read_dir("/proc").expect("processes").flatten().map(|it| it.path()).collect();
    let shims = processes.iter().filter(|process| {
        let line = std::fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        let mut words = line.split('\0').skip(1);
        words.next() == Some("shim") && words.next().is_some_and(|sandbox| Path::new(sandbox).exists())
    });
    shims
        .flat_map(|shim| {
            let pid = shim.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let children = std::fs::read_to_string(shim.join("task").join(&pid).join("children")).unwrap_or_default();
            children.split_whitespace().map(str::to_owned).chain([pid]).collect::<Vec<_>>()
        })
        .collect()
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
