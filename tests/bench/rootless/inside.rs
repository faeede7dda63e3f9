//! Ways into namespaces of one's own.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::agent::now;
use crate::user::User;

/// One of them.
#[derive(Debug, Clone)]
pub enum Kind {
    /// The launcher.
    K3s {
        driver: &'static str,
        mtu: u32,
    },
    Rootlesskit {
        mtu: u32,
    },
    /// Namespaces and nothing else.
    Unshare,
    /// Namespaces, and a network driver started by hand.
    Bare {
        driver: &'static str,
        mtu: u32,
    },
}

impl Kind {
    pub fn k3s() -> Self {
        Self::out("slirp4netns", 65_520)
    }

    pub fn rootlesskit() -> Self {
        Self::rootlesskit_out(65_520)
    }

    pub fn out(driver: &'static str, mtu: u32) -> Self {
        Self::K3s { driver, mtu }
    }

    pub fn rootlesskit_out(mtu: u32) -> Self {
        Self::Rootlesskit { mtu }
    }

    pub fn bare(driver: &'static str, mtu: u32) -> Self {
        Self::Bare { driver, mtu }
    }

    /// Which is the host's loopback.
    pub fn gateway(&self) -> &'static str {
        if matches!(self, Self::K3s { .. }) { "10.41.0.2" } else { "10.0.2.2" }
    }

    fn command(&self, user: &User, program: &Path, state: &Path) -> Command {
        let namespaces =
            ["--user", "--map-root-user", "--mount", "--net", "--pid", "--ipc", "--uts", "--cgroup", "--fork"];
        match self {
            Self::K3s { driver, mtu } => {
                let mut command = user.command(program);
                command.arg("launch").arg(state).env("K3S_ROOTLESS_NET_DRIVER", driver);
                command.env("K3S_ROOTLESS_MTU", mtu.to_string()).env("K3S_ROOTLESS_DISABLE_HOST_LOOPBACK", "false");
                command
            }
            Self::Rootlesskit { mtu } => {
                let mut command = user.command(Path::new("/usr/bin/rootlesskit"));
                command.arg(format!("--state-dir={}", state.display())).arg(format!("--mtu={mtu}"));
                command.args(["--net=slirp4netns", "--port-driver=builtin", "--copy-up=/etc", "--copy-up=/run"]);
                command.args([
                    "--copy-up=/var/lib",
                    "--pidns",
                    "--cgroupns",
                    "--utsns",
                    "--ipcns",
                    "--propagation=rslave",
                ]);
                command.args(["--slirp4netns-sandbox=auto", "--slirp4netns-seccomp=auto"]);
                command.arg(program).arg("agent");
                command
            }
            Self::Unshare | Self::Bare { .. } => {
                let mut command = user.command(Path::new("/usr/bin/unshare"));
                command.args(namespaces).arg(program).arg("agent");
                command
            }
        }
    }
}

/// An agent that runs inside.
pub struct Inside {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// From the start of the process to the agent's first instruction.
    pub took: Duration,
    state: PathBuf,
    driver: Option<Child>,
}

impl Inside {
    pub fn start(user: &User, kind: &Kind) -> Self {
        // Where an ordinary user can execute it, whatever folder it was built in.
        let program = user.home.join("bench");
        if !program.exists() {
            std::fs::copy("/proc/self/exe", &program).expect("a copy of this program");
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&program, mode).expect("a program");
        }
        let state = user.home.join(if matches!(kind, Kind::Rootlesskit { .. }) { "kit" } else { "k3s" });
        let begin = now();
        let mut child = kind
            .command(user, &program, &state)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a command that starts");
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().expect("a pipe")));
        let mut inside = Self { child, stdin, stdout, took: Duration::ZERO, state, driver: None };
        let first = inside.answer();
        let first: u64 = first.parse().unwrap_or_else(|_| panic!("{kind:?} does not start: {first}"));
        inside.took = Duration::from_nanos(first - begin);
        if let Kind::Bare { driver, mtu } = kind {
            inside.driver = Some(connect(user, driver, *mtu, inside.child.id()));
        }
        inside
    }

    pub fn ask(&mut self, command: &str) -> String {
        writeln!(self.stdin.as_mut().expect("a pipe"), "{command}").expect("an agent that listens");
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("an agent that answers");
        line.trim_end().to_owned()
    }

    /// By rootlesskit's own API.
    pub fn publish(&self, port: &str) {
        let socket = self.state.join("api.sock");
        let mut command = Command::new("rootlessctl");
        let status = command.arg("--socket").arg(socket).args(["add-ports", port]).stdout(Stdio::null()).status();
        assert!(status.expect("rootlessctl").success(), "rootlesskit publishes {port}");
    }

    /// Of the process that was started, in KiB: resident, and its share.
    pub fn parents_memory(&self) -> (u64, u64) {
        memory(self.child.id())
    }
}

/// Of a process, in KiB: resident, and its share.
pub fn memory(pid: u32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("a process");
    let of = |name| text.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    (of("Rss:").unwrap_or(0), of("Pss:").unwrap_or(0))
}

impl Drop for Inside {
    fn drop(&mut self) {
        // The agent ends with its input, and all the others with it.
        drop(self.stdin.take());
        if let Some(mut driver) = self.driver.take() {
            // It may have ended with the namespace.
            let _ = driver.kill();
            let _ = driver.wait();
        }
        let _ = self.child.wait();
    }
}

/// A driver for the namespaces of `unshare`'s child, as its manual says.
fn connect(user: &User, driver: &str, mtu: u32, unshare: u32) -> Child {
    let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).expect("a process");
    let pid = children.trim();
    let program = PathBuf::from(format!("/usr/bin/{driver}"));
    let mut command = user.command(&program);
    if driver == "slirp4netns" {
        command.args(["--configure", &format!("--mtu={mtu}"), "--enable-sandbox", "--enable-seccomp", pid, "tap0"]);
    } else {
        command.args(["--config-net", "--ns-ifname", "tap0", "--address", "10.0.2.100", "--netmask", "24"]);
        command.args(["--gateway", "10.0.2.2", "--mtu", &mtu.to_string(), "--ipv4-only", "--foreground", "--quiet"]);
        command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none", pid]);
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let begin = std::time::Instant::now();
    // The route comes last.
    let routed =
        || std::fs::read_to_string(format!("/proc/{pid}/net/route")).is_ok_and(|text| text.contains("tap0\t00000000"));
    while !routed() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{driver} gives no route");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.expect("a driver that starts")
}

/// Becomes the launcher.
pub fn launch(data_dir: &str) {
    let config = k3s_rootless::Config::from_env(std::env::vars(), Path::new(data_dir), false).expect("settings");
    match k3s_rootless::launch(&config, std::env::args_os()) {
        Ok(exit) => std::process::exit(exit.code()),
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(1)
        }
    }
}
