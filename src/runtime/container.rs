//! Containers: creating, starting, stopping and removing them.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k3s_cri::{ContainerConfig, ContainerEventKind, ContainerState, Error, LinuxResources, SandboxState};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::image::{BINARY, StoredImage, blocking};
use crate::record::{self, ContainerRecord};
use crate::runtime::Runtime;
use crate::sandbox::{Sandbox, entries};
use crate::shim::client::ShimClient;
use crate::shim::protocol::{Answer, Exit, KnownContainer, Request, StartContainer, Started};
use crate::shim::{clock, pod_processes};
use crate::stats::CpuRate;
use crate::{cgroup, executor, id, snapshot, spec, users};

/// A container.
pub(crate) struct Container {
    pub id: String,
    pub sandbox_id: String,
    pub record: Mutex<ContainerRecord>,
    pub(crate) cpu_rate: Mutex<CpuRate>,
    /// Follows `record.state`.
    state: watch::Sender<ContainerState>,
    /// Held while it is started or removed.
    changing: tokio::sync::Mutex<()>,
}

/// Exit code of a container whose command never began, as containerd has it.
const START_ERROR: i32 = 128;
/// Exit code of a container whose end nobody saw, as containerd has it.
const UNKNOWN: i32 = 255;

impl Container {
    fn new(record: ContainerRecord) -> Arc<Self> {
        Arc::new(Self {
            id: record.id.clone(),
            sandbox_id: record.sandbox_id.clone(),
            cpu_rate: Mutex::default(),
            state: watch::Sender::new(record.state),
            record: Mutex::new(record),
            changing: tokio::sync::Mutex::default(),
        })
    }

    pub(crate) fn state(&self) -> ContainerState {
        self.record.lock().state
    }

    pub(crate) async fn has_exited(&self) {
        // The sender is part of `self` and can't be gone.
        let _ = self.state.subscribe().wait_for(|state| *state == ContainerState::Exited).await;
    }
}

impl Runtime {
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>, Error> {
        let found = self.containers.read().get(id).cloned();
        found.ok_or_else(|| Error::NotFound { what: format!("container {id}") })
    }

    pub(crate) fn container_directory(&self, id: &str) -> PathBuf {
        self.options.root.join("containers").join(id)
    }

    /// Changes a container's record, on disk and here.
    fn update(&self, container: &Container, change: impl FnOnce(&mut ContainerRecord)) {
        let record = {
            let mut record = container.record.lock();
            change(&mut record);
            record.clone()
        };
        let path = self.container_directory(&container.id).join("record.json");
        if let Err(error) = record::save(&path, &record) {
            // What is in memory is right; after a restart the shim and its exit files tell it again.
            tracing::error!(container = %container.id, %error, "cannot save container");
        }
        container.state.send_replace(record.state);
    }

    pub(crate) async fn create(
        self: Arc<Self>,
        sandbox: Arc<Sandbox>,
        config: ContainerConfig,
    ) -> Result<String, Error> {
        let _changing = sandbox.changing.lock().await;
        if sandbox.record.lock().state != SandboxState::Ready {
            return Err(Error::FailedPrecondition { detail: format!("sandbox {} is not ready", sandbox.id) });
        }
        let image = self
            .images
            .get(&config.image_id)
            .ok_or_else(|| Error::NotFound { what: format!("image {}", config.image_id) })?;
        let id = id::new();
        let (runtime, directory) = (self.clone(), self.container_directory(&id));
        let made = {
            let (sandbox, id) = (sandbox.clone(), id.clone());
            blocking("create container", move || Ok::<_, String>(runtime.make(&sandbox, &id, config, &image))).await?
        };
        let record = match made {
            Ok(record) => record,
            Err(error) => {
                // The error is what matters; what can't be removed now is removed at the next start.
                let _ = snapshot::remove_tree(&directory);
                return Err(error);
            }
        };
        self.containers.write().insert(id.clone(), Container::new(record));
        self.publish(ContainerEventKind::Created, &id, &sandbox);
        Ok(id)
    }

    fn make(
        &self,
        sandbox: &Sandbox,
        id: &str,
        config: ContainerConfig,
        image: &StoredImage,
    ) -> Result<ContainerRecord, Error> {
        let pod = sandbox.record.lock().config.clone();
        if let Some(mount) = config.mounts.iter().find(|mount| !mount.container_path.is_absolute()) {
            let detail = format!("mount path {:?} is not absolute", mount.container_path.display().to_string());
            return Err(Error::InvalidArgument { detail });
        }
        if let Some(target) = &config.target {
            self.check_target(sandbox, target)?;
        }
        let users = pod.namespaces.user.as_ref();
        for mount in &config.mounts {
            if let Some(given) = &mount.id_mappings {
                users::check_mapping(given, users, &mount.container_path)?;
            }
        }
        for mount in config.mounts.iter().filter(|mount| mount.image.is_none() && !mount.host_path.exists()) {
            // As containerd: a hostPath without a type need not be there.
            let path = &mount.host_path;
            fs::create_dir_all(path).map_err(|error| Error::InvalidArgument {
                detail: format!("failed to mkdir {:?}: {error}", path.display().to_string()),
            })?;
        }
        let directory = self.container_directory(id);
        let internal = |error: std::io::Error| match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => Error::NoSpace { doing: format!("create container {id}") },
            _ => Error::Internal { doing: format!("create container {id}"), detail: error.to_string() },
        };
        fs::DirBuilder::new().mode(0o711).create(&directory).map_err(internal)?;
        let volumes = self.image_volumes(&pod, id, &config)?;
        let spec = spec::build(&pod, &sandbox.files(), &config, &image.config, &volumes)?;
        let binary = image.builtin.then(|| PathBuf::from(BINARY));
        let devices = config.security.privileged;
        let owner = users.and_then(|users| users.uids.on_host(0).zip(users.gids.on_host(0)));
        let layout = self
            .snapshots
            .prepare(&Path::new("containers").join(id), &image.diff_ids, devices, binary, owner)
            .map_err(|error| Error::Internal { doing: format!("create container {id}"), detail: error.to_string() })?;
        record::save(&directory.join("config.json"), &spec).map_err(internal)?;
        record::save(&directory.join("rootfs.json"), &layout).map_err(internal)?;
        let log_path = self.log_path(&pod.log_directory, &config, &directory).map_err(internal)?;
        let image_config = image.config.config().clone().unwrap_or_default();
        let given = match &config.stop_signal {
            Some(name) => Some(
                spec::signal(name)
                    .ok_or_else(|| Error::InvalidArgument { detail: format!("unknown stop signal {name:?}") })?,
            ),
            None => None,
        };
        let of_image = || image_config.stop_signal().as_deref().and_then(spec::signal);
        let stop_signal = given.or_else(of_image).unwrap_or(libc::SIGTERM);
        let record = ContainerRecord {
            id: id.to_owned(),
            sandbox_id: sandbox.id.clone(),
            state: ContainerState::Created,
            created_at: clock::now(),
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
            image_id: image.id.clone(),
            image_ref: image.reference(),
            layers: image.diff_ids.clone(),
            volume_layers: volumes.into_values().flat_map(|volume| volume.layers).collect(),
            builtin: image.builtin,
            stop_signal,
            log_path,
            cgroup: None,
            user: None,
            pid: 0,
            root_process: None,
            config,
        };
        record::save(&directory.join("record.json"), &record).map_err(internal)?;
        Ok(record)
    }

    /// Where the log goes; a container without a log path gets one that goes with it.
    fn log_path(&self, logs: &Path, config: &ContainerConfig, directory: &Path) -> std::io::Result<PathBuf> {
        if logs.as_os_str().is_empty() || config.log_path.as_os_str().is_empty() {
            return Ok(directory.join("log"));
        }
        let path = logs.join(&config.log_path);
        if let Some(parent) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        Ok(path)
    }

    pub(crate) async fn start(self: Arc<Self>, container: Arc<Container>) -> Result<(), Error> {
        let _changing = container.changing.lock().await;
        let record = container.record.lock().clone();
        if record.state != ContainerState::Created {
            let detail = format!("container {} is not created but {:?}", container.id, record.state);
            return Err(Error::FailedPrecondition { detail });
        }
        let sandbox = self.sandbox(&container.sandbox_id)?;
        match self.start_process(&sandbox, &container, &record).await {
            Ok(started) => {
                self.note_started(&container, started);
                self.publish(ContainerEventKind::Started, &container.id, &sandbox);
                Ok(())
            }
            Err(error) => {
                if let (Error::Timeout { .. }, Ok(shim)) = (&error, sandbox.shim()) {
                    // It hangs in its set-up (a mount of a server that does not answer).
                    shim.notify(Request::Signal { container: container.id.clone(), signal: libc::SIGKILL });
                }
                self.update(&container, |record| {
                    record.state = ContainerState::Exited;
                    record.finished_at = clock::now();
                    record.exit_code = START_ERROR;
                    record.reason = "StartError".to_owned();
                    record.message = error.to_string();
                });
                self.publish(ContainerEventKind::Stopped, &container.id, &sandbox);
                Err(error)
            }
        }
    }

    async fn start_process(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        record: &ContainerRecord,
    ) -> Result<Started, Error> {
        let shim = sandbox.shim()?;
        let pod = sandbox.record.lock().config.clone();
        let doing = || format!("start container {}", container.id);
        let internal = |error: std::io::Error| Error::Internal { doing: doing(), detail: error.to_string() };
        let relative = Path::new(pod.cgroup_parent.trim_start_matches('/')).join(&container.id);
        let cgroup = self.cgroups.create(&relative, &record.config.resources).map_err(internal)?;
        if let (Some(_), Some(parent)) = (&cgroup, self.pod_cgroup(&pod)) {
            // What the pod's containers may take together.
            self.cgroups.limit(&parent, &pod.resources).map_err(internal)?;
        }
        if cgroup.is_some() {
            self.update(container, |record| record.cgroup = cgroup.clone());
        }
        // Taken away again at the end of this.
        let root = self.serve_root(container).await?;
        if let Some(root) = &root {
            self.update(container, |record| record.root_process = Some(root.process()));
        }
        // Cloned anew for each container: a detached mount can be attached only once.
        let binary = if record.builtin {
            Some(executor::clone_tree(&self.options.self_exe, false).map_err(internal)?)
        } else {
            None
        };
        let request = Request::Start(StartContainer {
            container: container.id.clone(),
            bundle: self.container_directory(&container.id),
            log: record.log_path.clone(),
            terminal: record.config.tty,
            stdin: record.config.stdin,
            stdin_once: record.config.stdin_once,
            pid: pod.namespaces.pid,
            cgroup,
            runtime: self.handlers.runtime(&pod.runtime_handler, &sandbox.directory.join("runtime"))?,
            target: record.config.target.clone(),
        });
        let descriptors: Vec<_> = binary.iter().map(AsFd::as_fd).collect();
        match shim.call(request, &descriptors).await? {
            (Answer::Started(started), _) => Ok(started),
            (answer, _) => Err(Error::Internal { doing: doing(), detail: format!("unexpected answer {answer:?}") }),
        }
    }

    /// Notes for people what is about to end a container.
    pub(crate) fn note(&self, container: &Container, message: String) {
        self.update(container, |record| record.message = message);
    }

    fn note_started(&self, container: &Container, started: Started) {
        self.update(container, |record| {
            record.started_at = started.started_at;
            record.user = started.user;
            record.pid = started.pid;
            // Its end may have been told before the answer was worked on.
            if record.state == ContainerState::Created {
                record.state = ContainerState::Running;
            }
        });
    }

    /// A shim told that a container has ended.
    pub(crate) fn container_exited(&self, id: &str, exit: Exit) {
        let Ok(container) = self.container(id) else { return };
        if container.state() == ContainerState::Exited {
            return;
        }
        self.update(&container, |record| {
            record.state = ContainerState::Exited;
            record.exit_code = exit.exit_code;
            record.finished_at = exit.finished_at;
            record.pid = 0;
            record.reason = match exit {
                Exit { oom_killed: true, .. } => "OOMKilled",
                Exit { exit_code: 0, .. } => "Completed",
                _ => "Error",
            }
            .to_owned();
        });
        if let Ok(sandbox) = self.sandbox(&container.sandbox_id) {
            self.publish(ContainerEventKind::Stopped, id, &sandbox);
        }
    }

    /// A shim that was taken up knows the container.
    pub(crate) fn container_found(&self, container: &Container, known: &KnownContainer) {
        if let Some(started) = &known.started
            && container.state() == ContainerState::Created
        {
            self.note_started(container, started.clone());
        }
        if let Some(exit) = known.exit {
            self.container_exited(&container.id, exit);
        }
        self.take_up_root(container);
    }

    /// A container that nobody runs any more: its exit file may still tell how it ended.
    pub(crate) fn container_lost(&self, container: &Container) {
        if container.state() != ContainerState::Running {
            return;
        }
        // A container in the node's pid namespace does not end with its shim.
        pod_processes::kill_container(&container.id);
        let path = self.options.state.join(&container.sandbox_id).join(format!("{}.exit", container.id));
        let exit = path.exists().then(|| record::load::<Exit>(&path)).flatten();
        if let Some(exit) = exit {
            return self.container_exited(&container.id, exit);
        }
        self.update(container, |record| {
            record.state = ContainerState::Exited;
            record.exit_code = UNKNOWN;
            record.finished_at = clock::now();
            record.pid = 0;
            record.reason = "Unknown".to_owned();
            record.message = "the container's shim is gone, and the container with it".to_owned();
        });
        if let Ok(sandbox) = self.sandbox(&container.sandbox_id) {
            self.publish(ContainerEventKind::Stopped, &container.id, &sandbox);
        }
    }

    /// Changes the limits of a container; what is zero or empty stays as it is.
    pub(crate) async fn update_resources(&self, id: &str, change: LinuxResources) -> Result<(), Error> {
        let container = self.container(id)?;
        let _changing = container.changing.lock().await;
        let record = container.record.lock().clone();
        let limits = merge(record.config.resources, change);
        match (record.state, &record.cgroup) {
            (ContainerState::Running, Some(cgroup)) => {
                self.cgroups.limit(cgroup, &limits).map_err(|error| Error::Internal {
                    doing: format!("change limits of container {id}"),
                    detail: error.to_string(),
                })?;
            }
            (ContainerState::Running, None) => {
                let reason = self.cgroups.unavailable.clone().unwrap_or_else(|| "it has no cgroup".to_owned());
                return Err(Error::FailedPrecondition { detail: format!("limits are not enforced: {reason}") });
            }
            // They hold from its start on.
            (ContainerState::Created, _) => {}
            (ContainerState::Exited | ContainerState::Unknown, _) => {
                return Err(Error::FailedPrecondition { detail: format!("container {id} has exited") });
            }
        }
        self.update(&container, |record| record.config.resources = limits);
        Ok(())
    }

    /// Stops with the image's signal, then kills.
    pub(crate) async fn stop(self: Arc<Self>, container: Arc<Container>, grace: Duration) -> Result<(), Error> {
        if container.state() != ContainerState::Running {
            return Ok(());
        }
        let sandbox = self.sandbox(&container.sandbox_id)?;
        let shim = sandbox.shim()?;
        let signal = container.record.lock().stop_signal;
        if !grace.is_zero() {
            let request = Request::Signal { container: container.id.clone(), signal };
            match shim.call(request, &[]).await {
                // It has ended meanwhile.
                Ok(_) | Err(Error::FailedPrecondition { .. }) => {}
                Err(error) => return Err(error),
            }
            if tokio::time::timeout(grace, container.has_exited()).await.is_ok() {
                return Ok(());
            }
        }
        self.kill_container(&container, &shim).await
    }

    /// Kills a container, if it runs, and waits for its end.
    pub(crate) async fn kill_container(&self, container: &Container, shim: &ShimClient) -> Result<(), Error> {
        if container.state() != ContainerState::Running {
            return Ok(());
        }
        let request = Request::Signal { container: container.id.clone(), signal: libc::SIGKILL };
        match shim.call(request, &[]).await {
            Ok(_) | Err(Error::FailedPrecondition { .. }) => {}
            Err(error) => return Err(error),
        }
        // A process in uninterruptible sleep can take its time; the caller tries again.
        tokio::time::timeout(Duration::from_secs(60), container.has_exited())
            .await
            .map_err(|_| Error::Timeout { doing: format!("kill container {}", container.id) })
    }

    /// Removes a container, killing it if it runs.
    pub(crate) async fn remove(self: Arc<Self>, container: Arc<Container>) -> Result<(), Error> {
        let _changing = container.changing.lock().await;
        let sandbox = self.sandbox(&container.sandbox_id).ok();
        if let Some(shim) = sandbox.as_ref().and_then(|sandbox| sandbox.shim().ok()) {
            self.kill_container(&container, &shim).await?;
            // A shim that is gone has forgotten already.
            let _ = shim.call(Request::Remove { container: container.id.clone() }, &[]).await;
        }
        let directory = self.container_directory(&container.id);
        let exit = self.options.state.join(&container.sandbox_id).join(format!("{}.exit", container.id));
        let (cgroup, root_process) = {
            let record = container.record.lock();
            (record.cgroup.clone(), record.root_process)
        };
        self.disk.forget(&snapshot::writable(&directory));
        blocking("remove container", move || clear(&directory, &exit, cgroup.as_deref())).await?;
        if let Some(process) = root_process {
            // It has ended with the container's mount namespace, if it could.
            process.kill().await.map_err(|error| Error::Internal {
                doing: format!("end the root file system of container {}", container.id),
                detail: error.to_string(),
            })?;
        }
        self.containers.write().remove(&container.id);
        if let Some(sandbox) = sandbox {
            self.publish(ContainerEventKind::Deleted, &container.id, &sandbox);
        }
        Ok(())
    }

    /// Finds the containers of known sandboxes; clears the others.
    pub(crate) fn recover_containers(&self) {
        for directory in entries(&self.options.root.join("containers")) {
            // What k3s was killed in the midst of: the container that was being started has its own by now, or never will.
            if let Err(error) = snapshot::unmount(&directory) {
                tracing::error!(directory = %directory.display(), %error, "cannot unmount what no one needs");
            }
            let path = directory.join("record.json");
            let record = path.exists().then(|| record::load::<ContainerRecord>(&path)).flatten();
            let known = record.filter(|record| self.sandboxes.read().contains_key(&record.sandbox_id));
            match known {
                Some(record) => {
                    let container = Container::new(record);
                    if self
                        .sandbox(&container.sandbox_id)
                        .is_ok_and(|sandbox| sandbox.record.lock().state == SandboxState::NotReady)
                    {
                        self.container_lost(&container);
                    }
                    self.containers.write().insert(container.id.clone(), container);
                }
                None => {
                    if let Err(error) = snapshot::remove_tree(&directory) {
                        tracing::error!(directory = %directory.display(), %error, "cannot clear what no one owns");
                    }
                }
            }
        }
    }
}

fn merge(mut limits: LinuxResources, change: LinuxResources) -> LinuxResources {
    let keep = |known: &mut u64, new: u64| *known = if new == 0 { *known } else { new };
    keep(&mut limits.cpu_period, change.cpu_period);
    keep(&mut limits.cpu_shares, change.cpu_shares);
    let keep = |known: &mut i64, new: i64| *known = if new == 0 { *known } else { new };
    keep(&mut limits.cpu_quota, change.cpu_quota);
    keep(&mut limits.memory_limit, change.memory_limit);
    keep(&mut limits.memory_swap_limit, change.memory_swap_limit);
    keep(&mut limits.oom_score_adj, change.oom_score_adj);
    keep(&mut limits.pids_limit, change.pids_limit);
    let keep = |known: &mut String, new: String| *known = if new.is_empty() { std::mem::take(known) } else { new };
    keep(&mut limits.cpuset_cpus, change.cpuset_cpus);
    keep(&mut limits.cpuset_mems, change.cpuset_mems);
    limits.hugepage_limits.extend(change.hugepage_limits);
    limits.unified.extend(change.unified);
    limits
}

/// Takes away everything a container is made of. The directory has the record in it, so it is the last to go.
fn clear(directory: &Path, exit: &Path, cgroup: Option<&Path>) -> std::io::Result<()> {
    if let Some(cgroup) = cgroup {
        cgroup::remove(cgroup)?;
    }
    match fs::remove_file(exit) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    snapshot::unmount(directory)?;
    snapshot::remove_tree(directory)
}
