//! A node to test on: a runtime in directories of its own, with a network that only has loopback.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k3s_cri::*;
use k3s_runtime::{BuiltinImage, Cgroup, Options, Registries, Runtime};
use parking_lot::Mutex;
use tokio::sync::broadcast;

use crate::archive;

/// Notes what it is asked and gives every pod the same address.
#[derive(Default)]
pub struct FakeNetwork {
    pub attached: Mutex<BTreeMap<String, PathBuf>>,
}

#[async_trait]
impl PodNetwork for FakeNetwork {
    async fn add(&self, pod: &PodRef, netns: &Path, _: &[PortMapping]) -> Result<Attachment, Error> {
        assert!(std::fs::File::open(netns).is_ok(), "{} can't be opened", netns.display());
        self.attached.lock().insert(pod.sandbox_id.clone(), netns.to_owned());
        Ok(Attachment { ips: vec!["10.42.0.7".parse().unwrap()] })
    }

    async fn del(&self, pod: &PodRef, _: Option<PathBuf>) -> Result<(), Error> {
        self.attached.lock().remove(&pod.sandbox_id);
        Ok(())
    }

    async fn gc(&self, alive: &[String]) -> Result<(), Error> {
        self.attached.lock().retain(|id, _| alive.contains(id));
        Ok(())
    }

    async fn ready(&self) -> Result<(), Error> {
        Ok(())
    }
}

pub fn is_rootless() -> bool {
    std::env::var_os("IN_USER_NAMESPACE").is_some()
}

pub struct Node {
    pub directory: tempfile::TempDir,
    pub network: Arc<FakeNetwork>,
    pub runtime: Arc<Runtime>,
    events: Mutex<broadcast::Receiver<ContainerEvent>>,
}

impl Node {
    /// A node without images but the built-in one.
    pub async fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let network = Arc::new(FakeNetwork::default());
        let runtime = Runtime::open(options(directory.path(), network.clone())).await.unwrap();
        let events = Mutex::new(runtime.events());
        Self { directory, network, runtime, events }
    }

    /// A node without images that reaches registries as `registries.yaml` says.
    pub async fn with_registries(yaml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let network = Arc::new(FakeNetwork::default());
        let path = directory.path().join("registries.yaml");
        std::fs::write(&path, yaml).unwrap();
        let options =
            Options { registries: Registries::read(&path).unwrap(), ..options(directory.path(), network.clone()) };
        let runtime = Runtime::open(options).await.unwrap();
        let events = Mutex::new(runtime.events());
        Self { directory, network, runtime, events }
    }

    /// A node with busybox.
    pub async fn new() -> Self {
        Self::empty().await.give_busybox().await
    }

    /// A node with busybox and other options.
    pub async fn with(directory: tempfile::TempDir, mut options: Options) -> Self {
        let network = Arc::new(FakeNetwork::default());
        options.network = network.clone();
        let runtime = Runtime::open(options).await.unwrap();
        let events = Mutex::new(runtime.events());
        Self { directory, network, runtime, events }.give_busybox().await
    }

    async fn give_busybox(self) -> Self {
        let node = self;
        archive::docker(&node.images_dir().join("busybox.tar"), "busybox", &[archive::busybox_layer()], "");
        for report in node.runtime.import_images().await {
            report.result.unwrap();
        }
        node
    }

    pub fn images_dir(&self) -> PathBuf {
        self.directory.path().join("images")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The runtime is dropped, as by a crash of k3s, and opened anew. Returns what is between.
    pub async fn restart_after(&mut self, between: impl AsyncFnOnce(&Path)) {
        let placeholder = tempfile::tempdir().unwrap();
        let other = Runtime::open(options(placeholder.path(), self.network.clone())).await.unwrap();
        let old = std::mem::replace(&mut self.runtime, other);
        old.close().await;
        assert!(Arc::try_unwrap(old).is_ok(), "somebody still holds the runtime");
        between(self.directory.path()).await;
        let other = std::mem::replace(
            &mut self.runtime,
            Runtime::open(options(self.directory.path(), self.network.clone())).await.unwrap(),
        );
        other.close().await;
        *self.events.lock() = self.runtime.events();
    }

    pub fn pod(&self, name: &str) -> PodSandboxConfig {
        PodSandboxConfig {
            name: name.into(),
            namespace: "default".into(),
            uid: format!("uid-{name}"),
            hostname: name.into(),
            log_directory: self.path("logs").join(name),
            dns: Some(DnsConfig { servers: vec!["10.43.0.10".into()], ..DnsConfig::default() }),
            ..PodSandboxConfig::default()
        }
    }

    pub async fn sandbox(&self, name: &str) -> String {
        self.runtime.run_pod_sandbox(self.pod(name)).await.unwrap()
    }

    /// Creates and starts a container.
    pub async fn run(&self, sandbox: &str, config: ContainerConfig) -> String {
        let id = self.runtime.create_container(sandbox, config).await.unwrap();
        self.runtime.start_container(&id).await.unwrap();
        id
    }

    pub async fn status(&self, id: &str) -> ContainerStatus {
        self.runtime.container_status(id).await.unwrap()
    }

    /// Waits for a container's end.
    pub async fn ended(&self, id: &str) -> ContainerStatus {
        let mut events = self.runtime.events();
        loop {
            let status = self.status(id).await;
            if status.state == ContainerState::Exited {
                return status;
            }
            events.recv().await.unwrap();
        }
    }

    /// Runs a container to its end and returns its status and log: `stdout F text` lines without their times.
    pub async fn run_to_end(&self, config: ContainerConfig) -> (ContainerStatus, Vec<String>) {
        let sandbox = self.sandbox("once").await;
        let id = self.run(&sandbox, config).await;
        let status = self.ended(&id).await;
        let lines = log(&status.log_path);
        self.runtime.remove_pod_sandbox(&sandbox).await.unwrap();
        std::fs::remove_file(&status.log_path).unwrap();
        (status, lines)
    }

    /// Runs a shell script to its end and returns what it printed.
    pub async fn script(&self, script: &str) -> Vec<String> {
        self.script_with(script, |_| {}).await
    }

    pub async fn script_with(&self, script: &str, change: impl FnOnce(&mut ContainerConfig)) -> Vec<String> {
        let mut config = shell(script);
        change(&mut config);
        let (_, lines) = self.run_to_end(config).await;
        lines.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap_or_default().to_owned()).collect()
    }

    pub fn events_so_far(&self) -> Vec<ContainerEventKind> {
        let mut events = self.events.lock();
        std::iter::from_fn(|| events.try_recv().ok()).map(|event| event.kind).collect()
    }

    /// Ends the node; everything must have been removed before, or is removed now.
    pub async fn end(self) {
        for sandbox in self.runtime.list_pod_sandboxes().await.unwrap() {
            self.runtime.remove_pod_sandbox(&sandbox.id).await.unwrap();
        }
        self.runtime.close().await;
        assert!(self.network.attached.lock().is_empty(), "networks left");
        assert_eq!(mounts_below(self.directory.path()), Vec::<String>::new());
        assert_eq!(processes_of(self.directory.path()), Vec::<i32>::new());
    }
}

impl Drop for Node {
    /// Also a test that fails leaves nothing behind.
    fn drop(&mut self) {
        clear(self.directory.path());
    }
}

/// Ends the shims with their state below a directory, and takes away what is mounted there.
pub fn clear(directory: &Path) {
    for shim in processes_of(directory) {
        // It may have ended by itself.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL);
    }
    for mount in mounts_below(directory) {
        if let Some(place) = mount.split(' ').nth(4) {
            let _ = nix::mount::umount2(place, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

pub fn options(directory: &Path, network: Arc<FakeNetwork>) -> Options {
    Options {
        root: directory.join("root"),
        state: directory.join("state"),
        images_dir: directory.join("images"),
        network,
        self_exe: "/proc/self/exe".into(),
        rootless: is_rootless(),
        builtin_images: vec![BuiltinImage {
            reference: "rancher/builtin:v1".into(),
            entrypoint: vec!["/bin/k3s".into()],
            cmd: vec!["write-to-self".into()],
            user: String::new(),
        }],
        cgroup: Cgroup::Unavailable("tests have none".into()),
        registries: Registries::default(),
        snapshotter: Default::default(),
    }
}

/// A container of busybox.
pub fn busybox(args: &[&str]) -> ContainerConfig {
    ContainerConfig {
        name: "main".into(),
        image_id: "busybox".into(),
        image: "busybox".into(),
        command: args.iter().map(|arg| (*arg).to_owned()).collect(),
        log_path: "main/0.log".into(),
        ..ContainerConfig::default()
    }
}

pub fn shell(script: &str) -> ContainerConfig {
    busybox(&["/bin/sh", "-c", script])
}

/// Lines of a log without their times.
pub fn log(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

pub fn mounts_below(directory: &Path) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let below = |line: &&str| line.split(' ').nth(4).is_some_and(|place| Path::new(place).starts_with(directory));
    table.lines().filter(below).map(str::to_owned).collect()
}

/// Running shims with their state in a directory.
pub fn processes_of(directory: &Path) -> Vec<i32> {
    let named = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&*directory.to_string_lossy())
    };
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(named).collect()
}

/// Waits until a condition holds that no event announces.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(10), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
