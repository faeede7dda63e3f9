//! A runtime whose containers run until they are told to end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use k3s_cri::{
    ContainerConfig, ContainerEvent, ContainerEventKind, ContainerState, ContainerStatus, Duplex, Error, ExecRequest,
    FilesystemUsage, Image, ImageService, Output, PodSandboxConfig, PodSandboxStatus, RegistryAuth, RuntimeService,
    RuntimeStatus, SandboxState, Stats, Streams,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{broadcast, watch};

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, PodSandboxStatus>,
    log_directories: BTreeMap<String, PathBuf>,
    containers: BTreeMap<String, ContainerStatus>,
    configs: BTreeMap<String, ContainerConfig>,
    started: Vec<String>,
    /// First ids of sandboxes' user namespaces.
    users: BTreeSet<u32>,
    next: u32,
}

pub struct Runtime {
    state: Mutex<State>,
    events: broadcast::Sender<ContainerEvent>,
    changed: watch::Sender<u64>,
}

fn now() -> i64 {
    Timestamp::now().as_nanosecond() as i64
}

fn missing(id: &str) -> Error {
    Error::NotFound { what: id.to_owned() }
}

impl Runtime {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), events: broadcast::channel(64).0, changed: watch::channel(0).0 })
    }

    fn tell(&self, kind: ContainerEventKind, id: &str) {
        let container = self.state.lock().containers.get(id).cloned();
        if let Some(container) = container {
            let pod_uid = container.labels["io.kubernetes.pod.uid"].clone();
            let (container_id, sandbox_id) = (id.to_owned(), container.sandbox_id);
            let _ = self.events.send(ContainerEvent { kind, container_id, sandbox_id, pod_uid });
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// Names of containers in the order they were started.
    pub fn started(&self) -> Vec<String> {
        self.state.lock().started.clone()
    }

    pub fn config(&self, name: &str) -> ContainerConfig {
        let state = self.state.lock();
        let newest = state.containers.values().filter(|c| c.name == name).max_by_key(|c| c.attempt).unwrap();
        state.configs[&newest.id].clone()
    }

    /// First ids of the user namespaces that sandboxes were asked for with, in order.
    pub fn users(&self) -> Vec<u32> {
        self.state.lock().users.iter().copied().collect()
    }

    pub fn is_empty(&self) -> bool {
        let state = self.state.lock();
        state.sandboxes.is_empty() && state.containers.is_empty()
    }

    /// Waits until a container of that name has been started so many times, and runs.
    pub async fn wait_started(&self, name: &str, times: usize) {
        let mut changed = self.changed.subscribe();
        let seen = async {
            while self.started().iter().filter(|started| *started == name).count() < times {
                changed.changed().await.unwrap();
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), seen).await;
        waited.unwrap_or_else(|_| panic!("{name} was not started {times} times: {:?}", self.started()));
    }

    /// Ends the running container of that name.
    pub fn exit(&self, name: &str, code: i32) {
        let id = {
            let mut state = self.state.lock();
            let running = state.containers.values_mut().find(|c| c.name == name && c.state == ContainerState::Running);
            let container = running.unwrap();
            end(container, code);
            container.id.clone()
        };
        self.tell(ContainerEventKind::Stopped, &id);
    }
}

fn end(container: &mut ContainerStatus, code: i32) {
    container.state = ContainerState::Exited;
    container.exit_code = code;
    container.finished_at = now();
}

#[async_trait]
impl RuntimeService for Runtime {
    async fn status(&self) -> Result<RuntimeStatus, Error> {
        Ok(RuntimeStatus {
            handlers: Vec::new(),
            name: "fake".into(),
            version: "1".into(),
            ready: Ok(()),
            network_ready: Ok(()),
            user_namespaces: Ok(()),
            controllers: vec![],
            limits_unavailable: None,
        })
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String, Error> {
        let mut state = self.state.lock();
        state.next += 1;
        let id = format!("sandbox-{}", state.next);
        let status = PodSandboxStatus {
            runtime_handler: config.runtime_handler.clone(),
            id: id.clone(),
            name: config.name,
            namespace: config.namespace,
            uid: config.uid,
            attempt: config.attempt,
            state: SandboxState::Ready,
            created_at: now(),
            ips: vec!["127.0.0.1".parse().unwrap()],
            labels: config.labels,
            annotations: config.annotations,
        };
        state.users.extend(config.namespaces.user.map(|users| users.uids.host_id));
        state.log_directories.insert(id.clone(), config.log_directory);
        state.sandboxes.insert(id.clone(), status);
        Ok(id)
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        if let Some(sandbox) = state.sandboxes.get_mut(id) {
            sandbox.state = SandboxState::NotReady;
        }
        let own = state.containers.values_mut().filter(|c| c.sandbox_id == id && c.state == ContainerState::Running);
        own.for_each(|container| end(container, 137));
        Ok(())
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        let mut state = self.state.lock();
        state.sandboxes.remove(id);
        state.containers.retain(|_, container| container.sandbox_id != id);
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>, Error> {
        Ok(self.state.lock().sandboxes.values().cloned().collect())
    }

    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String, Error> {
        let id = {
            let mut state = self.state.lock();
            state.next += 1;
            let id = format!("container-{}", state.next);
            let log_path =
                state.log_directories.get(sandbox_id).ok_or_else(|| missing(sandbox_id))?.join(&config.log_path);
            let status = ContainerStatus {
                id: id.clone(),
                sandbox_id: sandbox_id.to_owned(),
                name: config.name.clone(),
                attempt: config.attempt,
                state: ContainerState::Created,
                created_at: now(),
                started_at: 0,
                finished_at: 0,
                exit_code: 0,
                reason: String::new(),
                message: String::new(),
                image: config.image.clone(),
                image_id: config.image_id.clone(),
                image_ref: config.image_id.clone(),
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
                log_path,
                user: None,
                resources: None,
            };
            state.containers.insert(id.clone(), status);
            state.configs.insert(id.clone(), config);
            id
        };
        self.tell(ContainerEventKind::Created, &id);
        Ok(id)
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        {
            let mut state = self.state.lock();
            let container = state.containers.get_mut(id).ok_or_else(|| missing(id))?;
            container.state = ContainerState::Running;
            container.started_at = now();
            let name = container.name.clone();
            std::fs::create_dir_all(container.log_path.parent().unwrap()).unwrap();
            let line = format!("{} stdout F hello from {name}\n", Timestamp::now());
            std::fs::write(&container.log_path, line).unwrap();
            state.started.push(name);
        }
        self.tell(ContainerEventKind::Started, id);
        Ok(())
    }

    async fn stop_container(&self, id: &str, _grace: Duration) -> Result<(), Error> {
        if let Some(container) = self.state.lock().containers.get_mut(id)
            && container.state == ContainerState::Running
        {
            end(container, 143);
        }
        self.tell(ContainerEventKind::Stopped, id);
        Ok(())
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        self.state.lock().containers.remove(id);
        Ok(())
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>, Error> {
        Ok(self.state.lock().containers.values().cloned().collect())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error> {
        self.state.lock().containers.get(id).cloned().ok_or_else(|| missing(id))
    }

    async fn reopen_container_log(&self, _id: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn exec_sync(&self, _id: &str, command: Vec<String>, _timeout: Duration) -> Result<Output, Error> {
        Ok(Output { stdout: command.join(" ").into_bytes(), stderr: vec![], exit_code: 0 })
    }

    /// Echoes its input, and ends with the code that its last word is.
    async fn exec(&self, request: ExecRequest, streams: Streams) -> Result<i32, Error> {
        let Streams { stdin, mut stdout, mut stderr, .. } = streams;
        if let Some(stderr) = &mut stderr {
            stderr.write_all(b"to stderr").await.unwrap();
        }
        if let Some(mut stdin) = stdin {
            let mut input = Vec::new();
            while stdin.read_buf(&mut input).await.unwrap() > 0 {
                if let Some(stdout) = &mut stdout {
                    stdout.write_all(&input).await.unwrap();
                }
                input.clear();
            }
        }
        Ok(request.command.last().and_then(|word| word.parse().ok()).unwrap_or(0))
    }

    async fn attach(&self, _id: &str, _streams: Streams) -> Result<(), Error> {
        Ok(())
    }

    /// A port that echoes.
    async fn port_forward(&self, _sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>, Error> {
        if port == 1 {
            return Err(Error::Internal { doing: "connecting".into(), detail: "connection refused".into() });
        }
        let (near, far) = tokio::io::duplex(1024);
        let (mut from, mut to) = tokio::io::split(far);
        tokio::spawn(async move {
            let _ = tokio::io::copy(&mut from, &mut to).await;
            let _ = to.shutdown().await;
        });
        Ok(Box::new(near))
    }

    async fn container_stats(&self, _id: &str) -> Result<Stats, Error> {
        Ok(Stats::default())
    }

    fn events(&self) -> broadcast::Receiver<ContainerEvent> {
        self.events.subscribe()
    }
}

#[async_trait]
impl ImageService for Runtime {
    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error> {
        Ok((!image.starts_with("missing")).then(|| Image {
            id: "sha256:image".into(),
            repo_tags: vec![image.to_owned()],
            repo_digests: vec![],
            size: 1,
            uid: None,
            username: String::new(),
            pinned: false,
        }))
    }

    async fn list_images(&self) -> Result<Vec<Image>, Error> {
        Ok(Vec::new())
    }

    async fn pull_image(&self, image: &str, _auth: Option<&RegistryAuth>) -> Result<String, Error> {
        Err(Error::Pull { image: image.to_owned(), detail: "not found".into() })
    }

    async fn remove_image(&self, _image: &str) -> Result<(), Error> {
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<FilesystemUsage, Error> {
        Ok(FilesystemUsage { timestamp: 0, mountpoint: "/".into(), used_bytes: 0, inodes_used: 0 })
    }
}
