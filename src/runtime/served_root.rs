//! Containers whose root file system a program serves (fuse-overlayfs): mounted for their start, watched until their end.

use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use k3s_cri::{ContainerState, Error};

use crate::container::Container;
use crate::descriptor;
use crate::image::blocking;
use crate::record::NamedProcess;
use crate::runtime::Runtime;
use crate::shim::pod_processes;
use crate::snapshot;

/// How long a container's end may take to be known after its root has gone with it.
const END_KNOWN: Duration = Duration::from_secs(2);

/// A root that is mounted in the node's mount namespace, until this is dropped.
pub(crate) struct ServedRoot<'a> {
    runtime: &'a Runtime,
    container: &'a str,
    process: NamedProcess,
}

impl Drop for ServedRoot<'_> {
    fn drop(&mut self) {
        if let Err(error) = snapshot::unmount(&self.runtime.container_directory(self.container)) {
            tracing::error!(container = self.container, %error, "the mount for a container's start stays until the next start of k3s");
        }
    }
}

impl ServedRoot<'_> {
    pub(crate) fn process(&self) -> NamedProcess {
        self.process
    }
}

impl Runtime {
    /// Mounts a container's root for its start, where a program serves it.
    pub(crate) async fn serve_root<'a>(&'a self, container: &'a Container) -> Result<Option<ServedRoot<'a>>, Error> {
        let directory = Path::new("containers").join(&container.id);
        let layers = container.record.lock().layers.clone();
        let snapshots = self.snapshots.clone();
        let serving = blocking("mount a root file system", move || snapshots.serve(&directory, &layers)).await?;
        let Some(child) = serving else { return Ok(None) };
        let pid = child.id().cast_signed();
        let mut root =
            ServedRoot { runtime: self, container: &container.id, process: NamedProcess { pid, start_time: 0 } };
        let internal = |error: std::io::Error| Error::Internal {
            doing: format!("watch the root file system of container {}", container.id),
            detail: error.to_string(),
        };
        root.process.start_time = pod_processes::start_time(&pid.to_string()).map_err(internal)?;
        let process = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::NONBLOCK)
            .map_err(|error| internal(error.into()))?;
        self.watch_root(container.id.clone(), pidfd, Some(child));
        Ok(Some(root))
    }

    /// As [`Runtime::serve_root`], for a container that an earlier k3s started.
    pub(crate) fn take_up_root(&self, container: &Container) {
        let (process, state) = {
            let record = container.record.lock();
            (record.root_process, record.state)
        };
        let Some(process) = process.filter(|_| state == ContainerState::Running) else { return };
        match process.open() {
            Ok(Some(pidfd)) => self.watch_root(container.id.clone(), pidfd, None),
            // It was killed meanwhile.
            Ok(None) => self.root_ended_soon(container.id.clone()),
            Err(error) => tracing::error!(container = container.id, %error, "cannot watch a container's root"),
        }
    }

    fn watch_root(&self, container: String, pidfd: std::os::fd::OwnedFd, child: Option<Child>) {
        let Ok(runtime) = self.strong() else { return };
        let runtime = Arc::downgrade(&runtime);
        tokio::spawn(async move {
            // An error here means that nobody can tell; the container's own errors will.
            if let Ok(pidfd) = descriptor::register(pidfd)
                && let Ok(mut ended) = pidfd.readable().await
            {
                ended.retain_ready();
            }
            // It has ended, so this does not wait.
            let crashed = child.is_some_and(|mut child| child.wait().is_ok_and(|status| !status.success()));
            if let Some(runtime) = runtime.upgrade() {
                runtime.root_ended(&container, crashed).await;
            }
        });
    }

    fn root_ended_soon(&self, container: String) {
        let Ok(runtime) = self.strong() else { return };
        tokio::spawn(async move { runtime.root_ended(&container, true).await });
    }

    /// A program that served a container's root has ended. Mostly because the container has; else the container can't go
    /// on (it may end at once, by a page of its program that can't be read any more), and whoever wants it makes a new one.
    async fn root_ended(&self, id: &str, crashed: bool) {
        let Ok(container) = self.container(id) else { return };
        if crashed {
            self.note_root(&container);
        }
        if container.state() != ContainerState::Running
            || tokio::time::timeout(END_KNOWN, container.has_exited()).await.is_ok()
        {
            return;
        }
        self.note_root(&container);
        let Ok(shim) = self.sandbox(&container.sandbox_id).and_then(|sandbox| sandbox.shim()) else { return };
        if let Err(error) = self.kill_container(&container, &shim).await {
            tracing::error!(container = id, %error, "cannot kill a container whose root is gone");
        }
    }

    /// Tells people why the container has ended or is about to.
    fn note_root(&self, container: &Container) {
        let said = snapshot::last_words(&self.container_directory(&container.id));
        tracing::error!(container = container.id, said, "the program that serves a container's root has ended");
        self.note(
            container,
            format!("fuse-overlayfs, which served the container's root file system, has ended: {said}"),
        );
    }
}
