//! `k3s oci`: containers from bundles, by the OCI runtime specification.

use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bundle::Bundle;
use crate::node::{is_rootless, until};

pub async fn a_bundle_goes_through_its_states() {
    let bundle = Bundle::new("echo begun; exec sleep 1000", |config| {
        config["annotations"] = json!({"io.example": "yes"});
    });
    bundle.create("web");
    let state = bundle.state("web");
    let pid: i64 = fs::read_to_string(bundle.path("pid")).unwrap().parse().unwrap();
    assert_eq!((state["status"].as_str(), state["pid"].as_i64()), (Some("created"), Some(pid)));
    assert_eq!(state["ociVersion"], "1.2.0");
    assert_eq!(state["id"], "web");
    assert_eq!(state["bundle"], bundle.directory.path().to_str().unwrap());
    assert_eq!(state["annotations"], json!({"io.example": "yes"}));
    assert_eq!(bundle.log(), "", "the command must not have begun");
    assert_eq!(bundle.refused(&["create", "web"]), "container with given ID already exists: web");

    // What the bundle says after its creation counts for nothing.
    bundle.configure(&json!({}));
    bundle.ok(&["start", "web"]);
    until("the command", || bundle.log() == "begun\n").await;
    assert_eq!(bundle.state("web")["status"], "running");
    assert_eq!(bundle.refused(&["start", "web"]), "cannot start an already running container");
    let refused = bundle.refused(&["delete", "web"]);
    assert_eq!(refused, "cannot delete container web that is not stopped: running");
    assert_eq!(bundle.ok(&["list", "--quiet"]), "web\n");
    let listed: Value = serde_json::from_str(&bundle.ok(&["list", "--format", "json"])).unwrap();
    assert_eq!(listed[0]["pid"], pid);
    assert_eq!(serde_json::from_str::<Value>(&bundle.ok(&["ps", "--format", "json", "web"])).unwrap(), json!([pid]));

    bundle.ok(&["kill", "web", "KILL"]);
    bundle.wait_for("web", "stopped");
    assert_eq!(bundle.state("web")["pid"], 0);
    assert_eq!(bundle.refused(&["kill", "web", "TERM"]), "container not running");
    assert_eq!(bundle.refused(&["start", "web"]), "cannot start a container that has stopped");
    assert_eq!(bundle.refused(&["exec", "web", "true"]), "cannot exec in a container that has stopped");
    bundle.ok(&["delete", "web"]);
    for command in [&["state", "web"][..], &["start", "web"], &["kill", "web"], &["delete", "web"]] {
        assert_eq!(bundle.refused(command), "container \"web\" does not exist");
    }
    bundle.ok(&["delete", "--force", "web"]);
    assert!(bundle.refused(&["state", "../web"]).starts_with("invalid container ID"));
    assert_eq!(fs::read_dir(bundle.path("state")).unwrap().count(), 0);
}

pub async fn a_container_that_was_created_can_be_killed_and_deleted() {
    let bundle = Bundle::new("echo never", |_| {});
    bundle.create("web");
    let refused = bundle.refused(&["delete", "web"]);
    assert_eq!(refused, "cannot delete container web that is not stopped: created");
    bundle.ok(&["kill", "web", "9"]);
    bundle.wait_for("web", "stopped");
    bundle.ok(&["delete", "web"]);
    bundle.create("web");
    bundle.ok(&["delete", "--force", "web"]);
    assert_eq!(bundle.log(), "");
}

pub async fn containers_of_one_name_do_not_share_a_cgroup() {
    let (one, other) = (Bundle::new("exec sleep 1000", |_| {}), Bundle::new("echo never", |_| {}));
    one.create("web");
    other.create("web");
    other.ok(&["delete", "--force", "web"]);
    one.ok(&["start", "web"]);
    assert_eq!(one.state("web")["status"], "running");
    one.ok(&["delete", "--force", "web"]);

    // One that is named by both is the first one's.
    let name = one.directory.path().file_name().unwrap().to_str().unwrap().to_owned();
    let share = |config: &mut Value| config["linux"]["cgroupsPath"] = json!(format!("/k3s-oci{name}"));
    let (one, other) = (Bundle::new("exec sleep 1000", share), Bundle::new("echo never", share));
    one.create("web");
    let first = fs::read_to_string(format!("/proc/{}/cgroup", one.state("web")["pid"])).unwrap();
    if first.lines().any(|line| line.ends_with(&format!("/k3s-oci{name}"))) {
        let refused = other.refused(&["create", "web"]);
        assert_eq!(refused, "container's cgroup is not empty: 1 process(es) found");
    }
    assert_eq!(one.state("web")["status"], "created");
}

pub async fn a_bundle_gets_what_its_configuration_says() {
    let script = "hostname; id; pwd; umask; ls -l /dev/null /dev/special | cut -c1-10; \
        wc -c < /proc/cpuinfo; touch /new 2>&1; touch /data/new 2>&1; echo x > /shared/out; \
        grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; ulimit -n; \
        cat /proc/sys/net/ipv4/ip_unprivileged_port_start; (echo 1 > /proc/sys/net/ipv4/ip_forward) 2>&1; \
        cat /sys/class/net/lo/operstate; mkdir /shared/made 2>&1; ls -d /tmp/extra; echo $A";
    let bundle = Bundle::new(script, |config| {
        config["root"]["readonly"] = json!(true);
        config["process"]["user"] = json!({"uid": 101, "gid": 102, "additionalGids": [7], "umask": 0o027});
        config["process"]["cwd"] = json!("/home/web");
        config["process"]["env"] = json!(["PATH=/bin", "A=b"]);
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}]);
        let set = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        config["process"]["capabilities"] =
            json!({"bounding": set, "effective": [], "permitted": [], "inheritable": [], "ambient": []});
        config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "1"});
        config["linux"]["devices"] =
            json!([{"path": "/dev/special", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640}]);
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ]});
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"type": "bind", "source": "volume", "destination": "/data", "options": ["rbind", "ro"]}));
        mounts.push(json!({"source": "shared", "destination": "/shared", "options": ["bind"]}));
        mounts.push(json!({"type": "tmpfs", "source": "tmpfs", "destination": "/tmp/extra", "options": ["size=1m"]}));
        if is_rootless() {
            // A user namespace makes no nodes; the node's own is shown, and this one is not there.
            config["linux"]["devices"] = json!([]);
        }
    });
    fs::create_dir(bundle.path("volume")).unwrap();
    fs::create_dir(bundle.path("shared")).unwrap();
    fs::set_permissions(bundle.path("shared"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    for place in ["data", "shared", "tmp/extra"] {
        fs::create_dir_all(bundle.path("rootfs").join(place)).unwrap();
    }
    for place in ["proc", "dev", "sys"] {
        fs::create_dir_all(bundle.path("rootfs").join(place)).unwrap();
    }
    let ended = bundle.run(&["run", "web"]);
    let got: Vec<&str> = ended.output.lines().collect();
    let device = if is_rootless() { vec!["crw-rw-rw-"] } else { vec!["crw-rw-rw-", "crw-r-----"] };
    let mut want = vec!["bundle", "uid=101(web) gid=102(web) groups=7,102(web)", "/home/web", "0027"];
    want.extend(device);
    want.extend([
        "0",
        "touch: /new: Read-only file system",
        "touch: /data/new: Read-only file system",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000420",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "77",
        "1",
        "/bin/sh: can't create /proc/sys/net/ipv4/ip_forward: Read-only file system",
        "unknown",
        "mkdir: can't create directory '/shared/made': Function not implemented",
        "/tmp/extra",
        "b",
    ]);
    assert_eq!(got, want, "{}", ended.error);
    assert_eq!(ended.code, 0);
    assert_eq!(fs::read(bundle.path("shared/out")).unwrap(), b"x\n");
    assert_eq!(bundle.ok(&["list", "-q"]), "");
}

pub async fn hooks_run_when_and_where_they_should() {
    let bundle = Bundle::new("echo command >> /notes/log", |config| {
        let hook = |name: &str, place: &str| {
            let script = format!(
                "read -r state; echo \"{name} $(echo $state | grep -o '\"status\":\"[a-z]*\"') $(readlink /proc/self/ns/mnt)\" >> {place}"
            );
            json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
        };
        config["hooks"] = json!({});
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"source": "notes", "destination": "/notes", "options": ["bind"]}));
        // Filled in below, where the bundle's path is known.
        for name in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
            let place = if name == "startContainer" { "/notes/log" } else { "NOTES/log" };
            config["hooks"][name] = hook(name, place);
        }
    });
    fs::create_dir(bundle.path("notes")).unwrap();
    fs::create_dir(bundle.path("rootfs/notes")).unwrap();
    let config = fs::read_to_string(bundle.path("config.json")).unwrap();
    let notes = bundle.path("notes").display().to_string();
    fs::write(bundle.path("config.json"), config.replace("NOTES", &notes)).unwrap();
    bundle.create("web");
    let read = || fs::read_to_string(bundle.path("notes/log")).unwrap_or_default();
    let names = |text: &str| text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(names(&read()), ["prestart", "createRuntime", "createContainer"]);
    bundle.ok(&["start", "web"]);
    bundle.wait_for("web", "stopped");
    bundle.ok(&["delete", "web"]);
    let text = read();
    let mut got = names(&text);
    // The command and the hook after its start run side by side.
    let command = got.iter().position(|name| name == "command").unwrap();
    assert!(command > 3, "{got:?}");
    got.remove(command);
    assert_eq!(got, ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]);
    let field = |name: &str, number: usize| {
        let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.split(' ').nth(number).unwrap().to_owned()
    };
    for (name, status) in [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ] {
        assert_eq!(field(name, 1), format!("\"status\":\"{status}\""));
    }
    let own = fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    let inside = field("startContainer", 2);
    assert_ne!(inside, own);
    assert_eq!(field("createContainer", 2), inside);
    for name in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(field(name, 2), own);
    }
}

pub async fn a_hook_that_fails_leaves_nothing() {
    for (kind, id) in [("prestart", "one"), ("createRuntime", "two"), ("createContainer", "three")] {
        let bundle = Bundle::new("echo never", |config| {
            config["hooks"] = json!({
                kind: [{"path": "/bin/sh", "args": ["sh", "-c", "echo it rains >&2; exit 4"]}],
                "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", "echo stopped > POSTSTOP"]}],
            });
        });
        let text = fs::read_to_string(bundle.path("config.json")).unwrap();
        fs::write(bundle.path("config.json"), text.replace("POSTSTOP", bundle.path("poststop").to_str().unwrap()))
            .unwrap();
        let error = bundle.refused(&["create", id]);
        assert!(
            error.ends_with(&format!("error running {kind} hook #0: /bin/sh: exit status: 4: it rains")),
            "{error}"
        );
        assert_eq!(bundle.ok(&["list", "-q"]), "");
        assert_eq!(fs::read_to_string(bundle.path("poststop")).unwrap(), "stopped\n");
    }
    let bundle = Bundle::new("echo never", |config| {
        config["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "exit 5"]}]});
    });
    bundle.create("web");
    let error = bundle.refused(&["start", "web"]);
    assert!(error.ends_with("error running startContainer hook #0: /bin/sh: exit status: 5:"), "{error}");
    bundle.wait_for("web", "stopped");
    assert_eq!(bundle.log(), "");
}

pub async fn what_makes_no_sense_is_refused() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 9] = [
        (|config| config["ociVersion"] = json!("3.0"), "config.json: ociVersion \"3.0\" is none of 1.x"),
        (|config| config["process"]["args"] = json!([]), "config.json: process.args is empty"),
        (|config| config["process"]["cwd"] = json!("tmp"), "config.json: process.cwd \"tmp\" is not absolute"),
        (
            |config| config["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "mount"}]),
            "config.json: linux.namespaces has mnt twice",
        ),
        (
            |config| config["linux"]["namespaces"] = json!([{"type": "mount"}]),
            "config.json: hostname needs a uts namespace in linux.namespaces",
        ),
        (
            |config| config["linux"]["sysctl"] = json!({"kernel.panic": "1"}),
            "config.json: sysctl \"kernel.panic\" is not in a separate kernel namespace",
        ),
        (
            |config| config["process"]["terminal"] = json!(true),
            "process.terminal is set: give a --console-socket that takes the terminal",
        ),
        (
            |config| config["process"]["args"] = json!(["nothing"]),
            "unable to start container process: exec: \"nothing\": executable file not found in $PATH",
        ),
        (
            |config| config["process"]["args"] = json!(["/etc/passwd"]),
            "unable to start container process: exec: \"/etc/passwd\": permission denied",
        ),
    ];
    for (change, want) in cases {
        let bundle = Bundle::new("true", change);
        assert_eq!(bundle.refused(&["create", "web"]), want);
        assert_eq!(bundle.ok(&["list", "-q"]), "");
    }
    let bundle = Bundle::new("true", |_| {});
    let error = bundle.refused(&["--log", "log.json", "--log-format", "json", "state", "web"]);
    let line = fs::read_to_string(bundle.path("log.json")).unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((line["level"].as_str(), line["msg"].as_str()), (Some("error"), Some(error.as_str())));
}

pub async fn commands_run_in_a_container() {
    let bundle = Bundle::new("exec sleep 1000", |_| {});
    bundle.create("web");
    bundle.ok(&["start", "web"]);
    let ended = bundle.run(&[
        "exec",
        "--env",
        "A=b",
        "--cwd",
        "/tmp",
        "web",
        "sh",
        "-c",
        "pwd; echo $A; id -u; hostname; exit 7",
    ]);
    assert_eq!((ended.code, ended.output.as_str()), (7, "/tmp\nb\n0\nbundle\n"));
    assert_eq!(bundle.ok(&["exec", "--user", "101:102", "web", "id", "-u"]), "101\n");
    let process = json!({
        "user": {"uid": 0, "gid": 0}, "args": ["sh", "-c", "echo by file"], "env": ["PATH=/bin"], "cwd": "/",
    });
    fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    assert_eq!(bundle.ok(&["exec", "--process", "process.json", "web"]), "by file\n");
    let refused = bundle.refused(&["exec", "web", "nothing"]);
    assert_eq!(refused, "unable to start container process: exec: \"nothing\": executable file not found in $PATH");
    bundle.ok(&["exec", "--detach", "--pid-file", "second", "web", "sleep", "2000"]);
    let second: i64 = fs::read_to_string(bundle.path("second")).unwrap().parse().unwrap();
    let pids: Vec<i64> = serde_json::from_str(&bundle.ok(&["ps", "--format", "json", "web"])).unwrap();
    assert!(pids.len() == 2 && pids.contains(&second), "{pids:?}");
    let killed = bundle.run(&["exec", "web", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.code, 137);
    bundle.ok(&["kill", "--all", "web", "KILL"]);
    bundle.wait_for("web", "stopped");
    bundle.ok(&["delete", "web"]);
    // Created, but not started.
    bundle.create("web");
    assert_eq!(bundle.ok(&["exec", "web", "echo", "early"]), "early\n");
}

pub async fn a_terminal_goes_to_the_console_socket() {
    let bundle = Bundle::new("tty; stty size; read line; echo got $line", |config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({"height": 33, "width": 99});
    });
    let listener = UnixListener::bind(bundle.path("console")).unwrap();
    bundle.ok(&["create", "--console-socket", "console", "web"]);
    let mut terminal = fs::File::from(received(&listener));
    bundle.ok(&["start", "web"]);
    let mut text = Vec::new();
    // The terminal shows the input where the output is by then: it comes after what is looked for.
    while !text.ends_with(b"33 99\r\n") {
        let mut byte = [0];
        terminal.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    use std::io::Write;
    terminal.write_all(b"input\n").unwrap();
    // A terminal ends with an error when nobody has its other end open any more.
    let _ = terminal.read_to_end(&mut text);
    let text = String::from_utf8(text).unwrap().replace('\r', "");
    assert!(text.starts_with("/dev/pts/0\n33 99\n") && text.ends_with("got input\n"), "{text:?}");
    bundle.wait_for("web", "stopped");
}

/// The descriptor that comes over a socket.
fn received(listener: &UnixListener) -> OwnedFd {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let (stream, _) = listener.accept().unwrap();
    let mut buffer = [0; 64];
    let mut slices = [std::io::IoSliceMut::new(&mut buffer)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()).unwrap();
    let fd = message.cmsgs().unwrap().find_map(|part| match part {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel made the descriptor for this message, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd.unwrap()) }
}

pub async fn a_create_that_is_killed_leaves_nothing_that_runs() {
    let bundle = Bundle::new("echo never", |config| {
        config["hooks"] =
            json!({"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", "echo $$ > HOOK; exec sleep 1000"]}]});
    });
    let text = fs::read_to_string(bundle.path("config.json")).unwrap();
    fs::write(bundle.path("config.json"), text.replace("HOOK", bundle.path("hook").to_str().unwrap())).unwrap();
    let mut create = bundle.command(&["create", "web"]).stdout(Stdio::null()).spawn().unwrap();
    let hook = || fs::read_to_string(bundle.path("hook")).ok()?.trim().parse::<i32>().ok();
    until("the hook", || hook().is_some()).await;
    assert_eq!(bundle.state("web")["status"], "creating");
    assert_eq!(bundle.refused(&["start", "web"]), "cannot start a container that is being created");
    create.kill().unwrap();
    create.wait().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(hook().unwrap()), nix::sys::signal::Signal::SIGKILL).unwrap();
    bundle.wait_for("web", "stopped");
    let rootfs = bundle.path("rootfs").display().to_string();
    until("its process", || {
        let names = fs::read_dir("/proc").unwrap().flatten();
        names
            .filter_map(|entry| fs::read_to_string(entry.path().join("mountinfo")).ok())
            .all(|table| !table.contains(&rootfs))
    })
    .await;
    bundle.ok(&["delete", "web"]);
    assert_eq!(bundle.ok(&["list", "-q"]), "");
}

pub async fn namespaces_are_joined_by_their_paths() {
    let show = "for kind in net ipc uts pid mnt; do readlink /proc/self/ns/$kind; done";
    let first = Bundle::new(&format!("{show}; exec sleep 1000"), |_| {});
    first.create("first");
    first.ok(&["start", "first"]);
    until("the first", || first.log().lines().count() == 5).await;
    let pid = first.state("first")["pid"].as_i64().unwrap();
    let second = Bundle::new(&format!("{show}; hostname"), |config| {
        let at = |kind: &str, name: &str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")});
        config["hostname"] = Value::Null;
        config["linux"]["namespaces"] =
            json!([at("network", "net"), at("ipc", "ipc"), at("uts", "uts"), at("pid", "pid"), {"type": "mount"}]);
    });
    let output = second.ok(&["run", "second"]);
    let (log, lines) = (first.log(), output.lines().collect::<Vec<_>>());
    let own: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..4], own[..4]);
    assert_ne!(lines[4], own[4]);
    assert_eq!(lines[5], "bundle");
}

pub async fn a_bundle_has_a_user_namespace_of_its_own() {
    let bundle = Bundle::new(
        "cat /proc/self/uid_map; id -u; ls -ln /etc/plain | cut -d' ' -f3-; mount -t tmpfs none /tmp && echo mounted",
        |config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.push(json!({"type": "user"}));
            config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            config["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
            let all = json!(["CAP_SYS_ADMIN"]);
            config["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
        },
    );
    let ended = bundle.run(&["run", "web"]);
    let lines: Vec<String> =
        ended.output.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[..2], ["0 0 1", "0"], "{ended:?}");
    assert_eq!(lines.last().map(String::as_str), Some("mounted"), "{ended:?}");
    assert_eq!(ended.code, 0);
}
