//! Clusters of etcd (packages etcd-server and etcd-client).

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::certificates;
use crate::free_port;

/// A cluster, which stops when it is dropped.
pub struct Cluster {
    folder: tempfile::TempDir,
    members: Vec<Member>,
    tls: bool,
}

struct Member {
    name: String,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

impl Cluster {
    /// Starts one of so many members, which speak plain HTTP.
    pub fn start(members: usize) -> Self {
        Self::start_with(members, false)
    }

    /// Starts a member that wants certificates.
    pub fn start_with_tls() -> Self {
        Self::start_with(1, true)
    }

    fn start_with(members: usize, tls: bool) -> Self {
        // Another test may have been faster to take a port.
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            certificates::make(&folder.path().join("tls"));
            let member =
                |n| Member { name: format!("m{n}"), client_port: free_port(), peer_port: free_port(), child: None };
            let mut cluster = Self { folder, members: (0..members).map(member).collect(), tls };
            (0..members).for_each(|member| cluster.run(member));
            if cluster.serves() {
                return cluster;
            }
        }
        panic!("etcd does not start");
    }

    /// What is in its folder: `tls` has what [`certificates::make`] makes.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The endpoint as k3s has it.
    pub fn urls(&self) -> String {
        (0..self.members.len()).map(|member| self.url(member)).collect::<Vec<_>>().join(",")
    }

    /// The endpoint of one member.
    pub fn url(&self, member: usize) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.members[member].client_port)
    }

    /// Starts a member, after the beginning or after [`Cluster::kill`].
    pub fn run(&mut self, member: usize) {
        let peers: Vec<_> =
            self.members.iter().map(|of| format!("{}=http://127.0.0.1:{}", of.name, of.peer_port)).collect();
        let of = &self.members[member];
        let scheme = if self.tls { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", of.client_port);
        let peer = format!("http://127.0.0.1:{}", of.peer_port);
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "etcd", "--name", &of.name]);
        command.arg("--data-dir").arg(self.path(&of.name));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &peers.join(","), "--unsafe-no-fsync", "--log-level", "error"]);
        if self.tls {
            for (flag, file) in
                [("--cert-file", "server.crt"), ("--key-file", "server.key"), ("--trusted-ca-file", "ca.crt")]
            {
                command.arg(flag).arg(self.path("tls").join(file));
            }
            command.arg("--client-cert-auth");
        }
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().unwrap();
        self.members[member].child = Some(child);
    }

    /// Waits until all members serve; false if one has ended.
    fn serves(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(60);
        while !(0..self.members.len()).all(|member| self.etcdctl_at(member, &["get", "/"]).is_ok()) {
            let ended = |member: &mut Member| member.child.as_mut().unwrap().try_wait().unwrap().is_some();
            if self.members.iter_mut().any(ended) {
                return false;
            }
            assert!(Instant::now() < until, "etcd does not serve: {}", fs::read_to_string(self.path("log")).unwrap());
            std::thread::sleep(Duration::from_millis(50));
        }
        true
    }

    /// Waits until all members serve, after one was started again.
    pub fn wait(&mut self) {
        assert!(self.serves(), "a member ended: {}", fs::read_to_string(self.path("log")).unwrap());
    }

    /// Ends a member at once, as if the power had gone.
    pub fn kill(&mut self, member: usize) {
        let mut child = self.members[member].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops a member in whatever it does, until [`Cluster::thaw`]; the kernel still takes connections for it.
    pub fn freeze(&self, member: usize) {
        let pid = self.signal(member, Signal::SIGSTOP);
        let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    }

    pub fn thaw(&self, member: usize) {
        self.signal(member, Signal::SIGCONT);
    }

    fn signal(&self, member: usize, signal: Signal) -> Pid {
        let child = self.members[member].child.as_ref().expect("a member that runs");
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
        pid
    }

    /// Ends a member and forgets all it had.
    pub fn lose(&mut self, member: usize) {
        self.kill(member);
        fs::remove_dir_all(self.path(&self.members[member].name)).unwrap();
    }

    /// Which member leads.
    pub fn leader(&self) -> usize {
        let leads = |member: &usize| {
            let status: serde_json::Value =
                serde_json::from_str(&self.etcdctl(*member, &["endpoint", "status", "--write-out=json"])).unwrap();
            status[0]["Status"]["header"]["member_id"] == status[0]["Status"]["leader"]
        };
        (0..self.members.len()).find(leads).expect("a leader")
    }

    /// What etcd's own client says, through a member.
    pub fn etcdctl(&self, member: usize, args: &[&str]) -> String {
        self.etcdctl_at(member, args).unwrap_or_else(|error| panic!("etcdctl {args:?}: {error}"))
    }

    fn etcdctl_at(&self, member: usize, args: &[&str]) -> Result<String, String> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--command-timeout=2s", "--dial-timeout=2s", "--endpoints"]);
        command.arg(self.url(member)).args(args);
        if self.tls {
            for (flag, file) in [("--cacert", "ca.crt"), ("--cert", "client.crt"), ("--key", "client.key")] {
                command.arg(flag).arg(self.path("tls").join(file));
            }
        }
        let output = command.output().expect("etcdctl (package etcd-client)");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut child) = member.child.take() {
                // Has ended already, if the test has failed for that.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
