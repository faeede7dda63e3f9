//! SIGHUP: what was read from files is read anew, and the service manager is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use k3s_tests::{Cluster, User, kubectl_of_kubernetes};

const PORT: u16 = 16_452;
const POLICY: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: LEVEL}]\n";

#[test]
fn what_was_read_from_files_is_read_anew_and_what_is_no_good_leaves_it_in_force() {
    let user = User::create("reload");
    let file = |name: &str| user.home.join(name);
    let manager = UnixDatagram::bind(file("manager")).expect("a socket");
    manager.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
    fs::set_permissions(file("manager"), fs::Permissions::from_mode(0o666)).expect("a socket");
    // Files of the user: root's are nobody's inside, and these are mended from here.
    let write = |name: &str, text: &str| {
        fs::write(file(name), text).expect("a file");
        fs::set_permissions(file(name), fs::Permissions::from_mode(0o644)).expect("a file");
    };
    write("tokens", "first,ann,1\n");
    write("policy", &POLICY.replace("LEVEL", "None"));
    write("registries", "mirrors: {}\n");
    let argument = |name: &str, of: &str| format!("--kube-apiserver-arg={name}={}", file(of).display());
    let arguments = [
        format!("--https-listen-port={PORT}"),
        "--disable=coredns".to_owned(),
        format!("--private-registry={}", file("registries").display()),
        argument("token-auth-file", "tokens"),
        argument("audit-policy-file", "policy"),
        argument("audit-log-path", "audit.log"),
    ];
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let socket = file("manager");
    let mut cluster =
        Cluster::rootless(&user, &arguments).with_variable("NOTIFY_SOCKET", socket.to_str().expect("text"));
    cluster.start();
    let launcher = format!("MAINPID={}", cluster.pid());
    let heard = |until: &str| loop {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).unwrap_or_else(|error| panic!("never {until}: {error}"));
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if text.contains(until) {
            return text;
        }
    };
    assert!(heard("READY=1").contains(&launcher));
    assert!(asks("first").is_ok());
    assert!(asks("second").is_err());
    let logged = || fs::read_to_string(file("audit.log")).unwrap_or_default();
    assert_eq!(logged(), "", "nothing was to be logged");
    let before = shown();

    write("tokens", "second,bob,2\n");
    write("policy", &POLICY.replace("LEVEL", "Metadata"));
    let tls = cluster.data_dir.join("server/tls");
    for end in ["crt", "key"] {
        fs::remove_file(tls.join(format!("serving-kube-apiserver.{end}"))).expect("a certificate");
    }
    let reload = || {
        let launcher = nix::unistd::Pid::from_raw(cluster.pid());
        nix::sys::signal::kill(launcher, nix::sys::signal::Signal::SIGHUP).expect("a launcher");
        assert!(heard("RELOADING=1").contains("MONOTONIC_USEC="));
        heard("READY=1")
    };
    let said = reload();
    assert!(said.contains(&launcher) && said.contains("STATUS=Kubernetes v"), "{said}");
    assert!(!said.contains("not reloaded"), "{said}");
    asks("second").expect("a token of the new file");
    assert!(asks("first").is_err(), "a token of the old file is still good");
    assert!(logged().contains("\"bob\""), "the new policy is not in force: {}", logged());
    let after = shown();
    assert_ne!(after, before, "the old certificate is still shown");
    let made = fs::read_to_string(tls.join("serving-kube-apiserver.crt")).expect("a new certificate");
    assert!(made.replace('\n', "").starts_with(&after.replace('\n', "")), "{made}\n{after}");

    write("tokens", "no columns\n");
    write("policy", "kind: Riddle\n");
    write("registries", "mirrors: 7\n");
    let said = reload();
    assert!(said.contains("not reloaded: the token file, the audit policy, registries.yaml"), "{said}");
    asks("second").expect("a token of the last good file");
    let log = fs::read_to_string(&cluster.log).expect("a log");
    for reason in ["a token file's line is", "the audit policy", "registries"] {
        assert!(log.contains(reason), "{reason} is not in the log");
    }
    // Without a word of what was bad when all is good again.
    write("tokens", "third,cat,3\n");
    write("policy", &POLICY.replace("LEVEL", "Metadata"));
    write("registries", "");
    assert!(!reload().contains("not reloaded"));
    asks("third").expect("a token of the newest file");
    assert!(cluster.stop().success());
}

/// Whether a token is good.
fn asks(token: &str) -> Result<(), String> {
    let mut command = Command::new(kubectl_of_kubernetes());
    command.args(["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", &format!("--token={token}")]);
    command.args([&format!("--server=https://127.0.0.1:{PORT}"), "get", "--raw", "/version"]);
    let output = command.output().expect("a kubectl that starts");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The certificate that clients see.
fn shown() -> String {
    let script = format!("import ssl; print(ssl.get_server_certificate(('127.0.0.1', {PORT})))");
    let output = Command::new("python3").args(["-c", &script]).output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
