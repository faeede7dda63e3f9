//! A running `k3s server`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use serde_json::Value;

use crate::{User, binary, eventually};

/// How long a start may take on a busy machine. Speed is measured by the benchmark, not here.
const START: Duration = Duration::from_secs(90);

/// A server of a user, or of root.
pub struct Cluster<'a> {
    user: Option<&'a User>,
    args: Vec<String>,
    variables: Vec<(String, String)>,
    pub data_dir: PathBuf,
    pub kubeconfig: PathBuf,
    pub log: PathBuf,
    server: Option<Child>,
}

impl<'a> Cluster<'a> {
    /// A rootless server of `user`, with its default folders and `args` besides `--rootless`. Not started yet.
    pub fn rootless(user: &'a User, args: &[&str]) -> Self {
        Self {
            user: Some(user),
            args: ["server", "--rootless"].iter().chain(args).map(|&arg| arg.to_owned()).collect(),
            variables: Vec::new(),
            data_dir: user.home.join(".rancher/k3s"),
            kubeconfig: user.home.join(".kube/k3s.yaml"),
            log: user.home.join("k3s.log"),
            server: None,
        }
    }

    /// A server of root with everything below `folder`. Not started yet.
    pub fn root(folder: &Path, args: &[&str]) -> Self {
        let data_dir = folder.join("data");
        let kubeconfig = folder.join("k3s.yaml");
        let own = [
            "server".to_owned(),
            format!("--data-dir={}", data_dir.display()),
            format!("--write-kubeconfig={}", kubeconfig.display()),
        ];
        let args = own.into_iter().chain(args.iter().map(|&arg| arg.to_owned())).collect();
        Self {
            user: None,
            args,
            variables: Vec::new(),
            data_dir,
            kubeconfig,
            log: folder.join("k3s.log"),
            server: None,
        }
    }

    /// Adds a variable to the server's environment.
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn command(&self, program: &Path) -> Command {
        match self.user {
            Some(user) => user.command(program),
            None => Command::new(program),
        }
    }

    /// Runs a command of k3s on this cluster's node, as the cluster's user.
    ///
    /// # Panics
    /// If it fails.
    pub fn k3s(&self, args: &[&str]) -> String {
        let output =
            self.command(&binary()).args(args).env("K3S_DATA_DIR", &self.data_dir).output().expect("k3s starts");
        assert!(output.status.success(), "k3s {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts it, without waiting.
    ///
    /// # Panics
    /// If it runs already or can't be started.
    pub fn spawn(&mut self) {
        assert!(self.server.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        // A shell may leave a lock or a pipe open; [`Cluster::holders`] tells whom it reached.
        let left_open = File::create(self.left_open()).expect("a file");
        fcntl(&left_open, FcntlArg::F_SETFD(FdFlag::empty())).expect("a file that children inherit");
        let server = self
            .command(&binary())
            .args(&self.args)
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("a started server");
        self.server = Some(server);
    }

    fn left_open(&self) -> PathBuf {
        self.log.with_extension("left-open")
    }

    /// Command lines of the processes that hold what the caller of the server had left open.
    pub fn holders(&self) -> Vec<String> {
        let mut holders = Vec::new();
        for process in std::fs::read_dir("/proc").expect("/proc").flatten() {
            // Those that end meanwhile hold nothing.
            let Ok(descriptors) = std::fs::read_dir(process.path().join("fd")) else { continue };
            let mut targets = descriptors.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
            if targets.any(|target| target == self.left_open()) {
                let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
                holders.push(String::from_utf8_lossy(&line).replace('\0', " "));
            }
        }
        holders
    }

    /// Starts it and waits until its node is ready. Returns how long that took.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start(&mut self) -> Duration {
        let begin = Instant::now();
        self.spawn();
        self.wait_ready();
        begin.elapsed()
    }

    /// Waits until the node is ready.
    ///
    /// # Panics
    /// If it does not become ready; with the end of the log.
    pub fn wait_ready(&mut self) {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.server.as_mut().and_then(|server| server.try_wait().expect("a child's status")) {
                panic!("k3s ended with {status}:\n{}", self.log_tail());
            }
            if self.kubeconfig.exists() {
                let nodes = self
                    .try_kubectl(&["get", "nodes", "-o", "json"])
                    .and_then(|text| serde_json::from_str::<Value>(&text).map_err(|it| it.to_string()));
                let ready = nodes.is_ok_and(|nodes| {
                    let items = nodes["items"].as_array().cloned().unwrap_or_default();
                    !items.is_empty() && items.iter().all(|node| condition(node, "Ready") == "True")
                });
                if ready {
                    return;
                }
            }
            assert!(begin.elapsed() < START, "the node is not ready after {START:?}:\n{}", self.log_tail());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The process started.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> i32 {
        self.server.as_ref().and_then(|server| i32::try_from(server.id()).ok()).expect("a running server")
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGTERM)
    }

    /// Kills it and waits for the end.
    ///
    /// # Panics
    /// If it does not end.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(nix::sys::signal::Signal::SIGKILL)
    }

    fn signal(&mut self, signal: nix::sys::signal::Signal) -> ExitStatus {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).expect("a signal sent");
        let mut server = self.server.take().expect("a running server");
        eventually("the server ends", Duration::from_secs(30), || {
            server.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "it still runs".to_owned())
        })
    }

    /// Waits for an end that comes by itself.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait_end(&mut self) -> ExitStatus {
        let mut server = self.server.take().expect("a running server");
        eventually("the server ends", Duration::from_secs(60), || {
            server.try_wait().map_err(|error| error.to_string())?.ok_or_else(|| "it still runs".to_owned())
        })
    }

    /// The end of the log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// The embedded kubectl, as the cluster's user.
    pub fn kubectl_command(&self, args: &[&str]) -> Command {
        let mut command = self.command(&binary());
        command.arg("kubectl").arg("--kubeconfig").arg(&self.kubeconfig).args(args);
        command
    }

    /// What the embedded kubectl prints.
    ///
    /// # Errors
    /// What it prints on standard error, if it fails.
    pub fn try_kubectl(&self, args: &[&str]) -> Result<String, String> {
        text(self.kubectl_command(args).stdin(Stdio::null()).output())
    }

    /// What the embedded kubectl prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.try_kubectl(args).unwrap_or_else(|error| panic!("kubectl {args:?}: {error}\n{}", self.log_tail()))
    }

    /// Gives the embedded kubectl `input`.
    ///
    /// # Panics
    /// If it fails.
    pub fn kubectl_input(&self, args: &[&str], input: &str) -> String {
        let mut child = self
            .kubectl_command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a started kubectl");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(input.as_bytes()).expect("input taken");
        drop(stdin);
        text(child.wait_with_output()).unwrap_or_else(|error| panic!("kubectl {args:?}: {error}\n{}", self.log_tail()))
    }

    /// An object.
    ///
    /// # Panics
    /// If it can't be had.
    pub fn get(&self, args: &[&str]) -> Value {
        let args: Vec<_> = ["get", "-o", "json"].iter().chain(args).copied().collect();
        serde_json::from_str(&self.kubectl(&args)).expect("JSON")
    }

    /// Puts an image where the cluster imports it from.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn add_image(&self, name: &str, image: crate::Image) {
        let folder = self.data_dir.join("agent/images");
        let made = self.command(Path::new("mkdir")).arg("-p").arg(&folder).status().expect("mkdir");
        assert!(made.success());
        image.save(&folder.join(name));
    }

    /// Ends the pods of root's cluster, which outlive the server: they have the mount namespace of the test, a thread. Those of a
    /// user end with the user's processes.
    pub fn end_pods(&self) {
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        let own = std::fs::read_link("/proc/thread-self/ns/mnt").expect("this thread's mount namespace");
        for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let same = std::fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|namespace| namespace == own);
            if same && line.starts_with("k3s shim ") {
                // Gone already is as good.
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- end of {}:\n{}", self.log.display(), self.log_tail());
        }
        if let Some(server) = &mut self.server {
            // Gone already is as good.
            let _ = server.kill();
            let _ = server.wait();
        }
        if self.user.is_none() {
            self.end_pods();
        }
    }
}

/// Status of a condition of an object.
pub fn condition(object: &Value, kind: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.and_then(|condition| condition["status"].as_str()).unwrap_or_default().to_owned()
}

fn text(output: std::io::Result<Output>) -> Result<String, String> {
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

/// The kubectl that Kubernetes releases, which `tests/run` fetches and names in `KUBECTL_BINARY`.
///
/// # Panics
/// If it is not set.
pub fn kubectl_of_kubernetes() -> PathBuf {
    PathBuf::from(std::env::var_os("KUBECTL_BINARY").expect("KUBECTL_BINARY names a stock kubectl; tests/run sets it"))
}
