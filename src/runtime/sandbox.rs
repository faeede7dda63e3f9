//! Sandboxes: making, taking up, stopping and removing them.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k3s_cri::{Attachment, DnsConfig, Error, PodSandboxConfig, SandboxState};
use parking_lot::Mutex;

use crate::cgroup;
use crate::container::Container;
use crate::image::blocking;
use crate::record::{self, NamedProcess, SandboxRecord};
use crate::runtime::Runtime;
use crate::shim::client::{self, ShimClient};
use crate::shim::clock;
use crate::shim::protocol::{Answer, Request, SandboxSetup};
use crate::spec::SandboxFiles;
use crate::{id, mount_table, snapshot};

/// A sandbox.
pub(crate) struct Sandbox {
    pub id: String,
    /// `<state>/<id>`
    pub directory: PathBuf,
    pub record: Mutex<SandboxRecord>,
    /// `None` once it has been stopped or its shim is gone.
    shim: Mutex<Option<Arc<ShimClient>>>,
    /// Held while it is stopped or a container of it made, so that these don't cross.
    pub changing: tokio::sync::Mutex<()>,
}

impl Sandbox {
    fn new(record: SandboxRecord, state: &Path) -> Self {
        Self {
            id: record.id.clone(),
            directory: state.join(&record.id),
            record: Mutex::new(record),
            shim: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
        }
    }

    /// The connection to its shim.
    pub(crate) fn shim(&self) -> Result<Arc<ShimClient>, Error> {
        self.shim
            .lock()
            .clone()
            .ok_or_else(|| Error::FailedPrecondition { detail: format!("sandbox {} is not ready", self.id) })
    }

    pub(crate) fn files(&self) -> SandboxFiles {
        let shm = if self.record.lock().config.namespaces.host_ipc {
            PathBuf::from("/dev/shm")
        } else {
            self.directory.join("shm")
        };
        SandboxFiles { hostname: self.directory.join("hostname"), resolv_conf: self.directory.join("resolv.conf"), shm }
    }

    /// A path of its network namespace that `setns` accepts: the shim lives in it.
    fn network_namespace(&self) -> Option<PathBuf> {
        let shim = self.shim.lock().clone()?;
        Some(PathBuf::from(format!("/proc/{}/ns/net", shim.pid)))
    }
}

fn internal(doing: &str, error: &std::io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => Error::NoSpace { doing: doing.to_owned() },
        _ => Error::Internal { doing: doing.to_owned(), detail: error.to_string() },
    }
}

/// How long a shim may take that sees that the runtime which started it is gone.
const SHIM_ENDS: std::time::Duration = std::time::Duration::from_millis(200);

impl Runtime {
    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Error> {
        let found = self.sandboxes.read().get(id).cloned();
        found.ok_or_else(|| Error::NotFound { what: format!("sandbox {id}") })
    }

    pub(crate) fn containers_of(&self, sandbox_id: &str) -> Vec<Arc<Container>> {
        let containers = self.containers.read();
        containers.values().filter(|container| container.sandbox_id == sandbox_id).cloned().collect()
    }

    fn sandbox_record_path(&self, id: &str) -> PathBuf {
        self.options.root.join("sandboxes").join(format!("{id}.json"))
    }

    pub(crate) fn save_sandbox(&self, sandbox: &Sandbox) -> Result<(), Error> {
        let record = sandbox.record.lock().clone();
        record::save(&self.sandbox_record_path(&sandbox.id), &record)
            .map_err(|error| internal(&format!("save sandbox {}", sandbox.id), &error))
    }

    /// Makes a sandbox. On failure nothing is left.
    pub(crate) async fn run_sandbox(self: Arc<Self>, config: PodSandboxConfig) -> Result<String, Error> {
        self.handlers.check(&config.runtime_handler)?;
        self.check_users(&config)?;
        let record = SandboxRecord {
            id: id::new(),
            config,
            state: SandboxState::NotReady,
            complete: false,
            created_at: clock::now(),
            ips: Vec::new(),
            shim: None,
        };
        let sandbox = Arc::new(Sandbox::new(record, &self.options.state));
        match self.make_sandbox(&sandbox).await {
            Ok(()) => {
                self.sandboxes.write().insert(sandbox.id.clone(), sandbox.clone());
                Ok(sandbox.id.clone())
            }
            Err(error) => {
                if let Err(cleaning) = self.clear_sandbox(&sandbox).await {
                    tracing::warn!(sandbox = %sandbox.id, error = %cleaning, "a failed sandbox is cleared at the next start");
                }
                Err(error)
            }
        }
    }

    async fn make_sandbox(&self, sandbox: &Sandbox) -> Result<(), Error> {
        // First of all the record: what is made after it can be found and cleared.
        self.save_sandbox(sandbox)?;
        let config = sandbox.record.lock().config.clone();
        self.make_files(sandbox, &config).map_err(|error| internal("make sandbox files", &error))?;
        let shim = ShimClient::start(
            &self.options.self_exe,
            &sandbox.directory,
            &self.setup(sandbox, &config),
            self.shim_events.clone(),
        )
        .await?;
        *sandbox.shim.lock() = Some(shim.clone());
        sandbox.record.lock().shim = Some(NamedProcess { pid: shim.pid, start_time: shim.start_time });
        self.save_sandbox(sandbox)?;
        // From the first request on a shim outlives the runtime; until then it ends with it, since nobody knows of it.
        shim.call(Request::State, &[]).await?;
        if !config.namespaces.host_network {
            let pod = sandbox.record.lock().pod();
            let namespace = sandbox.network_namespace().ok_or_else(|| shim.gone())?;
            let Attachment { ips } = self.options.network.add(&pod, &namespace, &config.port_mappings).await?;
            sandbox.record.lock().ips = ips;
        }
        {
            let mut record = sandbox.record.lock();
            record.complete = true;
            record.state = SandboxState::Ready;
        }
        self.save_sandbox(sandbox)
    }

    fn setup(&self, sandbox: &Sandbox, config: &PodSandboxConfig) -> SandboxSetup {
        let mut optional_sysctls = Vec::new();
        if !config.namespaces.host_network {
            // As k3s configures containerd: pods may use ports below 1024 and ping without a capability.
            let groups = match config.namespaces.user {
                Some(users) => format!("0 {}", users.gids.length.saturating_sub(1)),
                None if self.options.rootless => "0 65535".to_owned(),
                None => "0 2147483647".to_owned(),
            };
            let defaults =
                [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", groups.as_str())];
            for (name, value) in defaults {
                if !config.sysctls.contains_key(name) {
                    optional_sysctls.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        SandboxSetup {
            sandbox_id: sandbox.id.clone(),
            host_network: config.namespaces.host_network,
            host_ipc: config.namespaces.host_ipc,
            pid: config.namespaces.pid,
            user: config.namespaces.user,
            hostname: config.hostname.clone(),
            sysctls: config.sysctls.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            optional_sysctls,
        }
    }

    fn make_files(&self, sandbox: &Sandbox, config: &PodSandboxConfig) -> std::io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(&sandbox.directory)?;
        if !config.log_directory.as_os_str().is_empty() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(&config.log_directory)?;
        }
        let files = sandbox.files();
        let hostname = if config.hostname.is_empty() {
            rustix::system::uname().nodename().to_string_lossy().into_owned()
        } else {
            config.hostname.clone()
        };
        fs::write(&files.hostname, hostname + "\n")?;
        let resolv_conf = match &config.dns {
            Some(dns) => resolv_conf(dns),
            None => match fs::read_to_string("/etc/resolv.conf") {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
                content => content?,
            },
        };
        fs::write(&files.resolv_conf, resolv_conf)?;
        for path in [&files.hostname, &files.resolv_conf] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
        }
        if !config.namespaces.host_ipc {
            fs::create_dir(&files.shm)?;
            mount_table::mount_shared_memory(&files.shm)?;
        }
        Ok(())
    }

    /// Kills what runs in a sandbox and takes its network back.
    pub(crate) async fn stop_sandbox(self: Arc<Self>, sandbox: Arc<Sandbox>) -> Result<(), Error> {
        let _changing = sandbox.changing.lock().await;
        let record = sandbox.record.lock().clone();
        let shim = sandbox.shim.lock().clone();
        if let Some(shim) = shim {
            for container in self.containers_of(&sandbox.id) {
                self.kill_container(&container, &shim).await?;
            }
        }
        if !record.config.namespaces.host_network && record.state == SandboxState::Ready {
            let namespace = sandbox.network_namespace();
            self.options.network.del(&record.pod(), namespace).await?;
        }
        sandbox.record.lock().state = SandboxState::NotReady;
        self.save_sandbox(&sandbox)?;
        self.end_shim(&sandbox).await?;
        let shm = sandbox.directory.join("shm");
        mount_table::unmount(&shm).map_err(|error| internal(&format!("unmount {}", shm.display()), &error))
    }

    /// Ends the shim and with it everything in the sandbox that still runs.
    async fn end_shim(&self, sandbox: &Sandbox) -> Result<(), Error> {
        *sandbox.shim.lock() = None;
        let process = sandbox.record.lock().shim;
        let Some(process) = process else { return Ok(()) };
        process.kill().await.map_err(|error| internal(&format!("kill shim of sandbox {}", sandbox.id), &error))?;
        for container in self.containers_of(&sandbox.id) {
            self.container_lost(&container);
        }
        Ok(())
    }

    /// Removes a stopped sandbox with its containers.
    pub(crate) async fn remove_sandbox(self: Arc<Self>, sandbox: Arc<Sandbox>) -> Result<(), Error> {
        self.clone().stop_sandbox(sandbox.clone()).await?;
        for container in self.containers_of(&sandbox.id) {
            self.clone().remove(container).await?;
        }
        self.clear_sandbox(&sandbox).await?;
        self.sandboxes.write().remove(&sandbox.id);
        Ok(())
    }

    /// Takes away everything a sandbox is made of, however far it got. The record goes last.
    async fn clear_sandbox(&self, sandbox: &Sandbox) -> Result<(), Error> {
        let record = sandbox.record.lock().clone();
        if !record.config.namespaces.host_network {
            let namespace = sandbox.network_namespace();
            self.options.network.del(&record.pod(), namespace).await?;
        }
        self.end_shim(sandbox).await?;
        let (directory, path) = (sandbox.directory.clone(), self.sandbox_record_path(&sandbox.id));
        let cgroup = self.pod_cgroup(&record.config);
        blocking("clear sandbox", move || {
            mount_table::unmount(&directory.join("shm"))?;
            snapshot::remove_tree(&directory)?;
            if let Some(cgroup) = cgroup {
                remove_if_empty(&cgroup)?;
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        })
        .await
    }

    /// The pod's own cgroup, where there are cgroups.
    pub(crate) fn pod_cgroup(&self, config: &PodSandboxConfig) -> Option<PathBuf> {
        match &self.options.cgroup {
            cgroup::Cgroup::Delegated(root) if !config.cgroup_parent.is_empty() => {
                Some(root.join(config.cgroup_parent.trim_start_matches('/')))
            }
            _ => None,
        }
    }

    /// The connection to a shim broke: is it gone, or only the connection?
    pub(crate) async fn shim_disconnected(&self, sandbox_id: &str) {
        let Ok(sandbox) = self.sandbox(sandbox_id) else { return };
        // A stop that goes on ends the shim itself.
        let _changing = sandbox.changing.lock().await;
        let is_ours = sandbox.shim.lock().as_ref().is_some_and(|shim| shim.is_closed());
        if !is_ours {
            return;
        }
        if let Err(error) = self.take_up(&sandbox).await {
            tracing::error!(sandbox = sandbox_id, %error, "cannot take up sandbox");
        }
    }

    /// Connects to a sandbox's shim and brings the records up to date. Where there is none any more, what ran has ended.
    async fn take_up(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        if !sandbox.directory.exists() {
            // The machine was started anew: the pid is somebody else's, or will be.
            sandbox.record.lock().shim = None;
        }
        let process = sandbox.record.lock().shim;
        let connected = match process {
            Some(NamedProcess { pid, start_time }) => {
                let events = self.shim_events.clone();
                ShimClient::connect(&sandbox.id, &sandbox.directory, pid, start_time, events).ok()
            }
            None => None,
        };
        if let Some(shim) = connected
            && let Ok((Answer::State { containers: known }, _)) = shim.call(Request::State, &[]).await
        {
            *sandbox.shim.lock() = Some(shim);
            for container in self.containers_of(&sandbox.id) {
                match known.iter().find(|known| known.container == container.id) {
                    Some(known) => self.container_found(&container, known),
                    None => self.container_lost(&container),
                }
            }
            return Ok(());
        }
        tracing::warn!(sandbox = %sandbox.id, "the shim is gone; its containers have ended");
        let record = sandbox.record.lock().clone();
        sandbox.record.lock().state = SandboxState::NotReady;
        self.save_sandbox(sandbox)?;
        self.end_shim(sandbox).await?;
        for container in self.containers_of(&sandbox.id) {
            self.container_lost(&container);
        }
        if record.state == SandboxState::Ready && !record.config.namespaces.host_network {
            self.options.network.del(&record.pod(), None).await?;
        }
        let shm = sandbox.directory.join("shm");
        mount_table::unmount(&shm).map_err(|error| internal(&format!("unmount {}", shm.display()), &error))
    }

    /// Finds everything again, and clears what no one owns. What fails is logged and left for the next time: one
    /// broken sandbox must not keep a node down.
    pub(crate) async fn recover(self: &Arc<Self>) {
        let mut unfinished = Vec::new();
        for path in entries(&self.options.root.join("sandboxes")) {
            let record = record::load::<SandboxRecord>(&path);
            let Some(record) = record.filter(|record| path == self.sandbox_record_path(&record.id)) else {
                let _ = fs::remove_file(&path);
                continue;
            };
            let sandbox = Arc::new(Sandbox::new(record, &self.options.state));
            if sandbox.record.lock().complete {
                self.sandboxes.write().insert(sandbox.id.clone(), sandbox);
            } else {
                unfinished.push(sandbox);
            }
        }
        self.recover_containers();
        let sandboxes: Vec<_> = self.sandboxes.read().values().cloned().collect();
        let ready = |sandbox: &&Arc<Sandbox>| sandbox.record.lock().state == SandboxState::Ready;
        for sandbox in sandboxes.iter().filter(ready) {
            if let Err(error) = self.take_up(sandbox).await {
                tracing::error!(sandbox = %sandbox.id, %error, "cannot take up sandbox");
            }
        }
        for sandbox in unfinished {
            let mut cleared = self.clear_sandbox(&sandbox).await;
            if cleared.is_err() {
                // Its shim may be about to end, and have written into its directory just now.
                tokio::time::sleep(SHIM_ENDS).await;
                cleared = self.clear_sandbox(&sandbox).await;
            }
            if let Err(error) = cleared {
                tracing::error!(sandbox = %sandbox.id, %error, "cannot clear an unfinished sandbox");
            }
        }
        self.clear_unowned().await;
    }

    async fn clear_unowned(&self) {
        let known: HashSet<String> = self.sandboxes.read().keys().cloned().collect();
        for directory in entries(&self.options.state) {
            let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if known.contains(&name) {
                continue;
            }
            // A shim that never got to be recorded ends when asked by its socket.
            if let Ok(process) = client::process_behind(&directory)
                && let Err(error) = process.kill().await
            {
                tracing::error!(sandbox = %name, %error, "cannot kill a shim that no one owns");
            }
            let cleared = mount_table::unmount(&directory.join("shm")).and_then(|()| snapshot::remove_tree(&directory));
            if let Err(error) = cleared {
                tracing::error!(directory = %directory.display(), %error, "cannot clear what no one owns");
            }
        }
        let ready = |sandbox: &&Arc<Sandbox>| sandbox.record.lock().state == SandboxState::Ready;
        let alive: Vec<String> =
            self.sandboxes.read().values().filter(ready).map(|sandbox| sandbox.id.clone()).collect();
        if let Err(error) = self.options.network.gc(&alive).await {
            tracing::error!(%error, "cannot clear the network of pods that are gone");
        }
    }
}

/// Paths in a directory; none if it can't be read.
pub(crate) fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn remove_if_empty(cgroup: &Path) -> std::io::Result<()> {
    match fs::remove_dir(cgroup) {
        // Another sandbox of the pod, or nothing at all.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY | libc::ENOENT)) => Ok(()),
        result => result,
    }
}

fn resolv_conf(dns: &DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text += &format!("search {}\n", dns.searches.join(" "));
    }
    for server in &dns.servers {
        text += &format!("nameserver {server}\n");
    }
    if !dns.options.is_empty() {
        text += &format!("options {}\n", dns.options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_has_searches_servers_and_options() {
        let dns = DnsConfig {
            servers: vec!["10.43.0.10".into()],
            searches: vec!["default.svc.cluster.local".into(), "svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        };
        let want = "search default.svc.cluster.local svc.cluster.local\nnameserver 10.43.0.10\noptions ndots:5\n";
        assert_eq!(resolv_conf(&dns), want);
    }
}
