//! Network namespaces: the node's, which a test's thread moves into, and those of pods and neighbours.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

/// The node's address on its link to the outside.
pub const NODE_IP: &str = "192.0.2.1";
/// A neighbour's on the same link.
pub const NEIGHBOUR_IP: &str = "192.0.2.2";

/// Runs a test in a network namespace of its own; says why if it can't.
pub fn in_own_namespace<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED {name}: needs root, in this or its own user namespace, to make network namespaces");
        return;
    }
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
        super::output("ip", &["link", "set", "lo", "up"]);
        // The runtime's threads are made by this one and so live in its namespace.
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.block_on(test());
        runtime.shutdown_timeout(Duration::from_secs(1));
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs one of this program's tests as a user who is root only in a user namespace of their own.
pub fn as_an_ordinary_user(test: &str) {
    let dir = tempfile::tempdir().expect("a directory");
    // The user may not be able to read where it was built.
    let program = dir.path().join("tests");
    std::fs::copy(std::env::current_exe().expect("a path"), &program).expect("copies");
    let mut command = Command::new("unshare");
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).expect("changes the owner");
        command = Command::new("setpriv");
        command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "unshare"]);
    }
    command.args(["--user", "--map-root-user", "--net"]).arg(program).args(["--exact", test, "--nocapture"]);
    let output = command.env("TMPDIR", dir.path()).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare failed") {
        eprintln!("SKIPPED {test} as an ordinary user: this host lets none make a user namespace: {text}");
        return;
    }
    assert!(output.status.success() && text.contains("1 passed") && !text.contains("SKIPPED"), "{text}");
    eprint!("{}", text.lines().filter(|line| line.contains("services:")).collect::<String>());
}

const NOBODY: u32 = 65534;

type Work = Box<dyn FnOnce() + Send>;

/// A network namespace that lasts as long as this value, kept by a thread.
pub struct Space {
    work: mpsc::Sender<Work>,
    pub path: PathBuf,
}

impl Space {
    pub fn new() -> Self {
        let (work, jobs) = mpsc::channel::<Work>();
        let (ready, started) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ready.send(nix::unistd::gettid()).expect("somebody waits");
            for job in jobs {
                job();
            }
        });
        let thread = started.recv().expect("a thread");
        Self { work, path: format!("/proc/self/task/{thread}/ns/net").into() }
    }

    /// Runs something in the namespace.
    pub fn run<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = mpsc::channel();
        self.work.send(Box::new(move || drop(sender.send(what())))).expect("the thread lives");
        receiver.recv().expect("an answer")
    }

    /// [`serve`] in the namespace, at every address.
    pub fn serve(&self, name: &'static str, port: u16) {
        self.run(move || serve(name, &format!("0.0.0.0:{port}")));
    }

    /// What answers at the address, asked from here.
    pub fn ask(&self, to: &str) -> Result<String, std::io::ErrorKind> {
        let to = to.to_owned();
        self.run(move || ask(&to))
    }

    pub fn ask_udp(&self, to: &str) -> Result<String, std::io::ErrorKind> {
        let to = to.to_owned();
        self.run(move || ask_udp(&to))
    }

    /// Links the node (the caller's namespace) and this one, as neighbours on an Ethernet.
    pub fn become_neighbour(&self) {
        let tid = self.run(nix::unistd::gettid);
        let ip = |arguments: &str| {
            super::output("ip", &arguments.split_whitespace().collect::<Vec<_>>());
        };
        ip("link add outside type veth peer name eth0");
        ip(&format!("addr add {NODE_IP}/24 dev outside"));
        ip(&format!("link set eth0 netns {tid}"));
        ip("link set outside up");
        self.run(|| {
            let ip = |arguments: &str| {
                super::output("ip", &arguments.split_whitespace().collect::<Vec<_>>());
            };
            ip("link set lo up");
            ip(&format!("addr add {NEIGHBOUR_IP}/24 dev eth0"));
            ip("link set eth0 up");
        });
    }
}

/// Answers every TCP connection and UDP datagram with the name and who is seen as the client.
pub fn serve(name: &'static str, at: &str) {
    let tcp = TcpListener::bind(at).expect("binds");
    let udp = UdpSocket::bind(at).expect("binds");
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let peer = stream.peer_addr().expect("a peer");
            let _ = stream.write_all(format!("{name} {}", peer.ip()).as_bytes());
        }
    });
    std::thread::spawn(move || {
        let mut datagram = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut datagram) {
            let _ = udp.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
        }
    });
}

const PATIENCE: Duration = Duration::from_secs(2);

pub fn ask(to: &str) -> Result<String, std::io::ErrorKind> {
    let to: SocketAddr = to.parse().expect("an address");
    let asked = || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    asked().map_err(|error: std::io::Error| error.kind())
}

pub fn ask_udp(to: &str) -> Result<String, std::io::ErrorKind> {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("binds");
    ask_udp_from(&socket, to)
}

pub fn ask_udp_from(socket: &UdpSocket, to: &str) -> Result<String, std::io::ErrorKind> {
    let asked = || {
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(b"?")?;
        let mut answer = [0; 64];
        let length = socket.recv(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    asked().map_err(|error: std::io::Error| error.kind())
}
