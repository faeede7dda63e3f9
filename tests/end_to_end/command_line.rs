//! What can be asked of the binary without a cluster, and a server that is the API alone.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use k3s_tests::{Cluster, User, binary, eventually};
use serde_json::Value;

fn k3s(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().expect("k3s")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_version_is_told_as_k3s_tells_it_within_20_ms() {
    let said = stdout(&k3s(&["--version"]));
    let mut lines = said.lines();
    let first = lines.next().expect("a line");
    assert!(first.starts_with("k3s version v1.36.") && first.ends_with(')'), "{said}");
    assert!(lines.next().is_some_and(|line| line.starts_with("rust version 1.")), "{said}");
    let times = (0..20).map(|_| {
        let begin = Instant::now();
        k3s(&["--version"]);
        begin.elapsed()
    });
    // The best of many: the machine is shared.
    let best = times.min().expect("a time");
    assert!(best < Duration::from_millis(20), "{best:?}");
}

#[test]
fn helps_have_the_flags_of_k3s_in_its_groups() {
    let server = stdout(&k3s(&["server", "--help"]));
    for words in ["listener:", "--https-listen-port", "db:", "--datastore-endpoint", "agent/node:", "[$K3S_NODE_NAME]"]
    {
        assert!(server.contains(words), "{words:?} is not in {server}");
    }
    let agent = k3s(&["agent", "--help"]);
    assert!(agent.status.success() && stdout(&agent).contains("--server"), "{}", stdout(&agent));
    assert!(!stdout(&agent).contains("--cluster-cidr"));
}

#[test]
fn links_are_commands_and_what_is_not_there_says_so() {
    let folder = std::env::temp_dir().join(format!("k3s-links-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    for name in ["crictl", "ctr"] {
        let link = folder.join(name);
        symlink(binary(), &link).expect("a link");
        let output = Command::new(&link).arg("version").env("K3S_DATA_DIR", &folder).output().expect("k3s");
        assert!(!output.status.success() && stderr(&output).contains("no k3s runs here"), "{}", stderr(&output));
    }
    let kubectl = folder.join("kubectl");
    symlink(binary(), &kubectl).expect("a link");
    let output = Command::new(&kubectl).args(["version", "--client"]).output().expect("kubectl");
    assert!(output.status.success() && stdout(&output).contains("v1.36"), "{}", stderr(&output));
    fs::remove_dir_all(&folder).expect("a removed folder");

    let joining = k3s(&["agent", "--server=https://127.0.0.1:6443", "--token=x"]);
    assert!(!joining.status.success() && stderr(&joining).contains("not available in this version"));
    assert!(stderr(&k3s(&["sever"])).contains("did you mean \"server\"?"));
    assert!(stderr(&k3s(&["etcd-snapshot", "save"])).contains("etcd-snapshot is not available"));
}

#[test]
fn completions_are_scripts_that_know_the_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let script = stdout(&k3s(&["completion", shell]));
        for words in ["https-listen-port", "check-config", "kubectl"] {
            assert!(script.contains(words), "{shell}: {words}");
        }
    }
    let ask = r#"eval "$("$0" completion bash)" && COMP_WORDS=(k3s server --https) && COMP_CWORD=2 && _k3s k3s --https server
        printf '%s\n' "${COMPREPLY[@]}""#;
    let output = Command::new("bash").args(["-c", ask]).arg(binary()).output().expect("bash");
    assert_eq!(stdout(&output).trim(), "--https-listen-port", "{}", stderr(&output));
    assert!(!k3s(&["completion", "tcsh"]).status.success());
}

#[test]
fn a_shell_is_made_to_load_its_completions_once() {
    let home = std::env::temp_dir().join(format!("k3s-completion-{}", std::process::id()));
    fs::create_dir_all(&home).expect("a folder");
    fs::write(home.join(".bashrc"), "alias k=kubectl").expect("a start file");
    let install = |shell: &str| {
        let output = Command::new(binary()).args(["completion", "-i", shell]).env("HOME", &home).output();
        let output = output.expect("k3s");
        assert!(output.status.success(), "{}", stderr(&output));
    };
    for shell in ["bash", "bash", "fish"] {
        install(shell);
    }
    let start = fs::read_to_string(home.join(".bashrc")).expect("a start file");
    let lines = "# >> k3s command completion (start)\n. <(k3s completion bash)\n# >> k3s command completion (end)\n";
    assert_eq!(start, format!("alias k=kubectl\n{lines}"));
    let fish = fs::read_to_string(home.join(".config/fish/completions/k3s.fish")).expect("fish's script");
    assert!(fish.contains("https-listen-port"));
    fs::remove_dir_all(&home).expect("a removed folder");
}

#[test]
fn options_before_the_command_are_the_commands() {
    let nowhere = k3s(&["--debug", "--data-dir", "/dev/null/nowhere", "server"]);
    assert!(!nowhere.status.success() && stderr(&nowhere).contains("/dev/null/nowhere"), "{}", stderr(&nowhere));
    assert!(k3s(&["--debug=true", "-d=/nowhere", "server", "--help"]).status.success());
    assert!(k3s(&["--debug", "completion", "bash"]).status.success());
    let unknown = k3s(&["--node-name=x", "server"]);
    assert!(!unknown.status.success() && stderr(&unknown).contains("--node-name=x"), "{}", stderr(&unknown));
    assert!(stderr(&k3s(&["--debug"])).contains("no command"));
}

#[test]
fn a_configuration_that_only_root_may_read_is_not_for_others() {
    let hidden = r#"mkdir -p /etc/rancher && mount -t tmpfs -o mode=0700 tmpfs /etc/rancher && mkdir /etc/rancher/k3s &&
        echo 'https-listen-port: none' >/etc/rancher/k3s/config.yaml &&
        exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" server --data-dir /tmp/nobody"#;
    let as_nobody = Command::new("unshare").args(["-m", "sh", "-c", hidden]).arg(binary()).output().expect("unshare");
    assert!(stderr(&as_nobody).contains("a node needs root"), "{}", stderr(&as_nobody));
}

#[test]
fn check_config_is_right_for_root_and_for_a_fresh_user() {
    let root = k3s(&["check-config"]);
    let said = stdout(&root);
    assert!(root.status.success() && said.contains("STATUS: pass"), "{said}");
    for words in ["- kernel:", "- net namespaces: present", "- nftables:", "- time: set", "- hierarchy:"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }

    let user = User::create("checks");
    let check = |prepare: &str| {
        let script = format!(
            "{prepare} && exec setpriv --reuid {name} --regid {name} --init-groups --reset-env {binary} check-config",
            name = user.name,
            binary = binary().display(),
        );
        let shell = ["--mount", "--propagation", "private", "sh", "-c", &script];
        Command::new("unshare").args(shell).current_dir(&user.home).output().expect("a shell")
    };
    let output = check("true");
    let said = stdout(&output);
    assert!(output.status.success() && said.contains("STATUS: pass"), "{said}{}", stderr(&output));
    for words in ["- newuidmap: good", "- sub-uids: good", "- slirp4netns: good", &format!("as user {}", user.name)] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }

    let empty = user.home.join("empty");
    fs::write(&empty, "").expect("a file");
    for (over, mend) in [("/etc/subuid", "usermod --add-subuids"), ("/usr/bin/newuidmap", "apt-get install uidmap")] {
        let output = check(&format!("mount --bind {} {over}", empty.display()));
        let said = stdout(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("STATUS: 1 (fail)") && said.contains(mend), "{mend:?}: {said}");
    }
}

/// Who the API server takes the bearer of a token for.
fn whoami(folder: &Path, port: u16, token: &str) -> Result<String, String> {
    let kubeconfig = folder.join("token.yaml");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: t\ncontexts: [{{name: t, context: {{cluster: t, user: t}}}}]\n\
         clusters: [{{name: t, cluster: {{server: 'https://127.0.0.1:{port}', insecure-skip-tls-verify: true}}}}]\n\
         users: [{{name: t, user: {{token: {token}}}}}]\n"
    );
    fs::write(&kubeconfig, text).expect("a file");
    let output = k3s(&["kubectl", "--kubeconfig", &kubeconfig.to_string_lossy(), "auth", "whoami", "-o", "json"]);
    if !output.status.success() {
        return Err(stderr(&output));
    }
    let answer: Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    Ok(answer["status"]["userInfo"]["username"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn the_api_is_served_by_itself_with_logs_modes_and_tokens_as_asked() {
    let folder = std::env::temp_dir().join(format!("k3s-api-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a free port").port();
    let tokens = folder.join("tokens.csv");
    fs::write(&tokens, "letmein,alice,1,system:masters\n").expect("a file");
    let log = folder.join("server.log");
    let config = folder.join("config.yaml");
    fs::create_dir(folder.join("config.yaml.d")).expect("a folder");
    let text = "disable-agent: true\ndisable-scheduler: true\ndisable-controller-manager: true\npause-image: mine\n";
    fs::write(&config, text).expect("a file");
    let text = format!("kube-apiserver-arg+: token-auth-file={}\nwrite-kubeconfig-mode: 0640\n", tokens.display());
    fs::write(folder.join("config.yaml.d/1.yaml"), text).expect("a file");
    let args = [
        &*format!("--config={}", config.display()),
        &format!("--https-listen-port={port}"),
        "--bind-address=127.0.0.1",
        "--write-kubeconfig-group=daemon",
        "--service-cidr=10.96.0.0/16",
        &format!("--log={}", log.display()),
        "--alsologtostderr",
        "-v=4",
    ];
    let mut server = Cluster::root(&folder, &args).with_variable("K3S_LOG_FORMAT", "json");
    server.spawn();
    eventually("the API answers", Duration::from_secs(60), || server.try_kubectl(&["get", "--raw=/readyz"]));

    assert_eq!(server.kubectl(&["get", "nodes", "-o", "name"]).trim(), "");
    let service = server.kubectl(&["get", "service", "kubernetes", "-o", "jsonpath={.spec.clusterIP}"]);
    assert_eq!(service.trim(), "10.96.0.1");
    assert_eq!(whoami(&folder, port, "letmein").expect("an answer"), "alice");
    let stranger = whoami(&folder, port, "letmeout").expect_err("a refusal");
    assert!(stranger.contains("Unauthorized") || stranger.contains("logged in"), "{stranger}");

    let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
    assert_eq!(mode(&server.kubeconfig), 0o640);
    assert_eq!(fs::metadata(&server.kubeconfig).expect("a file").gid(), 1, "the group daemon");
    for (path, want) in
        [("server", 0o700), ("server/tls", 0o700), ("server/token", 0o600), ("server/tls/server-ca.key", 0o600)]
    {
        assert_eq!(mode(&server.data_dir.join(path)), want, "{path}");
    }
    server.stop();

    let text = fs::read_to_string(&log).expect("the log");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert!(lines.iter().any(|line| line["message"] == "API server is ready"), "{text}");
    let warnings = lines.iter().filter(|line| line["message"].to_string().contains("pause-image"));
    let warnings: Vec<_> = warnings.collect();
    assert_eq!(warnings.len(), 1, "{text}");
    assert_eq!(warnings[0]["level"], "WARN");
    assert!(warnings[0]["message"].to_string().contains("config.yaml:4: pause-image"), "{text}");
    assert!(fs::read_to_string(&server.log).expect("standard error").contains("API server is ready"));
    fs::remove_dir_all(&folder).expect("a removed folder");
}
