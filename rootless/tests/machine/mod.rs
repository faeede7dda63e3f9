//! An ordinary user for a test, who is not on this machine.
//!
//! User, sub-ids and tun device exist in a private mount namespace of each launch only, so that
//! nothing of the machine changes and nothing is left behind.

// Each test file takes what it needs.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use k3s_rootless::process::ProcessId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What the user is called, in the password file that only its launches see.
pub const NAME: &str = "k3s-rootless-test";

/// Whether real launches can be made; says why not.
pub fn can_launch() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        "root, to make an ordinary user"
    } else if !launched_program().exists() {
        "the example `launch` (cargo test builds it; with --test add --examples)"
    } else if ["unshare", "setpriv", "slirp4netns", "newuidmap"].iter().any(|p| which(p).is_none()) {
        "unshare, setpriv, slirp4netns and newuidmap"
    } else {
        return true;
    };
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    eprintln!("skipped {test}: it needs {missing}");
    false
}

fn which(program: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin"].iter().map(|d| Path::new(d).join(program)).find(|p| p.exists())
}

/// Beside this test's own program, in Cargo's output folder.
fn launched_program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("examples/launch")
}

/// A user with a home.
pub struct User {
    pub uid: u32,
    dir: PathBuf,
    /// Commands that set up a network of its own for the host; empty for the machine's.
    network: &'static str,
}

/// A host with these addresses, and no other.
pub const NETWORK: &str = "
    ip link set lo up
    ip link add lan0 type veth peer name lan1
    ip link set lan1 up
    ip address add 198.51.100.1/24 dev lan0
    ip address add 198.51.100.2/24 dev lan0
    ip link set lan0 up
    ip route add default via 198.51.100.254
";

impl User {
    /// The number sets a test's user apart from other tests'.
    pub fn new(number: u32) -> Self {
        let uid = 47_110 + number;
        let dir = std::env::temp_dir().join(format!("k3s-rootless-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("home")).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        chown(dir.join("home"), Some(uid), Some(uid)).unwrap();
        fs::copy(launched_program(), dir.join("launch")).unwrap();
        let user = Self { uid, dir, network: "" };
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        user.write("passwd", &format!("{passwd}{NAME}:x:{uid}:{uid}::{}:/bin/sh\n", user.home().display()));
        let first = 1_500_000_000 + number * 65_536;
        user.write("subuid", &format!("{NAME}:{first}:65536\n"));
        user.write("subgid", &format!("{NAME}:{first}:65536\n"));
        user
    }

    /// Gives the host a network of its own, in which these commands are run.
    pub fn on(mut self, network: &'static str) -> Self {
        self.network = network;
        self
    }

    /// One of `passwd`, `subuid`, `subgid` as the user's launches see them.
    pub fn write(&self, file: &str, text: &str) {
        fs::write(self.dir.join(file), text).unwrap();
    }

    pub fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.home().join(".rancher/k3s")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.data_dir().join("rootless")
    }

    /// The example, run as this user.
    pub fn command(&self, vars: &[(&str, &str)]) -> Command {
        self.command_on(&self.data_dir(), vars)
    }

    /// The same with another data directory.
    pub fn command_on(&self, data_dir: &Path, vars: &[(&str, &str)]) -> Command {
        let script = r#"
            mount --bind "$DIR/passwd" /etc/passwd
            for file in subuid subgid; do
                [ -e /etc/$file ] || touch /etc/$file
                mount --bind "$DIR/$file" /etc/$file
            done
            mkdir -p "$DIR/dev"
            mount -t tmpfs tmpfs "$DIR/dev"
            mknod -m 666 "$DIR/dev/tun" c 10 200
            mount --bind "$DIR/dev/tun" /dev/net/tun
            eval "$NETWORK"
            cd "$DIR/home"
            exec setpriv --reuid "$ID" --regid "$ID" --clear-groups env -i "$@" "$DIR/launch" "$DATA_DIR"
        "#;
        let mut command = Command::new("unshare");
        if !self.network.is_empty() {
            command.arg("--net");
        }
        command.args(["--mount", "--propagation", "private", "sh", "-ec", script, "sh"]);
        command.arg(format!("HOME={}", self.home().display())).args(["PATH=/usr/bin:/bin"]);
        command.args(vars.iter().map(|(n, v)| format!("{n}={v}")));
        command.env("DIR", &self.dir).env("ID", self.uid.to_string()).env("DATA_DIR", data_dir);
        command.env("NETWORK", self.network);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Launches, and waits for the server inside to answer.
    pub fn launch(&self, vars: &[(&str, &str)]) -> Launched {
        self.launch_on(&self.data_dir(), vars)
    }

    /// The same with another data directory.
    pub fn launch_on(&self, data_dir: &Path, vars: &[(&str, &str)]) -> Launched {
        let mut launched = Launched::of(self.command_on(data_dir, vars).spawn().unwrap());
        let info = launched.ask("info");
        assert!(info.starts_with('{'), "no server: {info}{}", launched.stderr());
        launched
    }

    /// Launches something that is to fail, and returns its status and what it says.
    pub fn fail(&self) -> (ExitStatus, String) {
        self.fail_with(&[])
    }

    pub fn fail_with(&self, vars: &[(&str, &str)]) -> (ExitStatus, String) {
        let output = self.command(vars).stdin(Stdio::null()).output().unwrap();
        (output.status, String::from_utf8(output.stderr).unwrap())
    }

    /// The recorded init.
    pub fn init(&self) -> Option<ProcessId> {
        let text = fs::read(self.state_dir().join("init.json")).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// Pids of all this user's processes, those by sub-ids included.
    pub fn processes(&self) -> Vec<i32> {
        let first = 1_500_000_000 + (self.uid - 47_110) * 65_536;
        let owned = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let uid = status.lines().find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
            let ours = uid.is_some_and(|uid: u32| uid == self.uid || (first..first + 65_536).contains(&uid));
            // A zombie is no longer a process: its entry waits for whoever is to reap it.
            ours && ProcessId::of(*pid).is_ok()
        };
        let pids = fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(owned).collect()
    }

    pub fn assert_no_processes(&self) {
        let left = self.processes();
        assert!(left.is_empty(), "processes are left: {left:?}");
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let _ = k3s_rootless::killall(&self.state_dir());
        for pid in self.processes() {
            if let Ok(process) = ProcessId::of(pid) {
                let _ = process.kill(PATIENCE);
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A launch that runs.
pub struct Launched {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Launched {
    fn of(mut child: Child) -> Self {
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdin, stdout }
    }

    /// A command to the server, and its answer.
    pub fn ask(&mut self, command: &str) -> String {
        self.tell(command);
        self.answer()
    }

    pub fn tell(&mut self, command: &str) {
        // Fails if the server has ended; its answer then is empty.
        let _ = writeln!(self.stdin.as_mut().unwrap(), "{command}");
    }

    pub fn answer(&mut self) -> String {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).unwrap() == 0 || line == ".\n" {
                return lines.join("\n");
            }
            lines.push(line.trim_end().to_owned());
        }
    }

    pub fn info(&mut self) -> k3s_rootless::Info {
        serde_json::from_str(&self.ask("info")).unwrap()
    }

    /// The launcher's pid.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The launcher's child whose name begins so: `launch` (the server), `slirp4netns`, `k3s-init`.
    pub fn process(&self, name: &str) -> ProcessId {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let found = children.split_whitespace().find_map(|child| {
            let comm = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
            comm.trim().starts_with(name).then(|| child.parse::<i32>().unwrap())
        });
        ProcessId::of(found.unwrap_or_else(|| panic!("{pid} has no child {name}"))).unwrap()
    }

    /// What the closure finds, run in a thread on the host's network.
    pub fn on_host<T: Send + 'static>(&self, run: impl FnOnce() -> T + Send + 'static) -> T {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        let thread = std::thread::spawn(move || {
            nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            run()
        });
        thread.join().unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_raw(self.pid()).unwrap(), signal).unwrap();
    }

    /// Waits for the launcher's end.
    pub fn wait(&mut self) -> ExitStatus {
        await_end(&ProcessId::of(self.pid()).ok());
        self.child.wait().unwrap()
    }

    /// All it ever says; waits for its end.
    fn stderr(&mut self) -> String {
        drop(self.stdin.take());
        let mut text = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Not SIGKILL: the launcher then reaps its own children at once, which the machine's init
        // may do seconds later.
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// The next connection, in time.
pub fn accept(listener: &TcpListener) -> TcpStream {
    assert!(await_input(listener), "nobody connects");
    listener.accept().unwrap().0
}

fn await_input(fd: &impl AsFd) -> bool {
    let timeout = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

/// Waits until a process has ended.
pub fn await_end(process: &Option<ProcessId>) {
    let Some(process) = process else { return };
    let Some(fd) = process.open().unwrap() else { return };
    assert!(await_input(&fd), "process {} does not end", process.pid);
}

/// The inode numbers of a process's namespaces, with their names.
pub fn namespaces(pid: i32) -> Vec<String> {
    ["user", "mnt", "net", "pid", "ipc", "uts", "cgroup"]
        .iter()
        .map(|ns| fs::read_link(format!("/proc/{pid}/ns/{ns}")).unwrap().to_string_lossy().into_owned())
        .collect()
}
