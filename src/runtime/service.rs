//! CRI's runtime service. What changes something runs in a task of its own, so that a caller that goes away leaves
//! nothing half done.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k3s_cri::{
    ContainerConfig, ContainerEvent, ContainerState, ContainerStatus, Duplex, Error, ExecRequest, Output,
    PodSandboxConfig, PodSandboxStatus, RuntimeService, RuntimeStatus, Stats, Streams,
};
use tokio::sync::broadcast;

use crate::runtime::Runtime;
use crate::shim::protocol::Request;

impl Runtime {
    async fn finish<T, F>(&self, work: impl FnOnce(Arc<Self>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let task = tokio::spawn(work(self.strong()?));
        task.await.unwrap_or_else(|error| {
            Err(Error::Internal { doing: "run the request".to_owned(), detail: error.to_string() })
        })
    }
}

#[async_trait]
impl RuntimeService for Runtime {
    async fn status(&self) -> Result<RuntimeStatus, Error> {
        Ok(RuntimeStatus {
            name: "k3s".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: Ok(()),
            network_ready: self.options.network.ready().await.map_err(|error| error.to_string()),
            handlers: self.handlers.names(),
            user_namespaces: self.user_namespaces(),
            controllers: self.cgroups.controllers.clone(),
            limits_unavailable: self.cgroups.unavailable.clone(),
        })
    }

    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String, Error> {
        self.finish(|runtime| runtime.run_sandbox(config)).await
    }

    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        match self.sandbox(id) {
            Ok(sandbox) => self.finish(|runtime| runtime.stop_sandbox(sandbox)).await,
            Err(_) => Ok(()),
        }
    }

    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error> {
        match self.sandbox(id) {
            Ok(sandbox) => self.finish(|runtime| runtime.remove_sandbox(sandbox)).await,
            Err(_) => Ok(()),
        }
    }

    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>, Error> {
        Ok(self.sandboxes.read().values().map(|sandbox| sandbox.record.lock().status()).collect())
    }

    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String, Error> {
        let sandbox = self.sandbox(sandbox_id)?;
        self.finish(|runtime| runtime.create(sandbox, config)).await
    }

    async fn start_container(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        self.finish(|runtime| runtime.start(container)).await
    }

    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error> {
        match self.container(id) {
            Ok(container) => self.finish(|runtime| runtime.stop(container, grace)).await,
            Err(_) => Ok(()),
        }
    }

    async fn remove_container(&self, id: &str) -> Result<(), Error> {
        match self.container(id) {
            Ok(container) => self.finish(|runtime| runtime.remove(container)).await,
            Err(_) => Ok(()),
        }
    }

    async fn list_containers(&self) -> Result<Vec<ContainerStatus>, Error> {
        Ok(self.containers.read().values().map(|container| container.record.lock().status()).collect())
    }

    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error> {
        Ok(self.container(id)?.record.lock().status())
    }

    async fn reopen_container_log(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        let shim = self.sandbox(&container.sandbox_id)?.shim()?;
        shim.call(Request::ReopenLog { container: id.to_owned() }, &[]).await.map(drop)
    }

    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<Output, Error> {
        self.run_exec_sync(id, command, timeout).await
    }

    async fn exec(&self, request: ExecRequest, streams: Streams) -> Result<i32, Error> {
        self.run_exec(request, streams).await
    }

    async fn attach(&self, id: &str, streams: Streams) -> Result<(), Error> {
        self.run_attach(id, streams).await
    }

    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>, Error> {
        self.connect(sandbox_id, port).await
    }

    async fn container_stats(&self, id: &str) -> Result<Stats, Error> {
        let container = self.container(id)?;
        if container.state() != ContainerState::Running {
            return Err(Error::FailedPrecondition { detail: format!("container {id} is not running") });
        }
        self.usage(container).await
    }

    fn events(&self) -> broadcast::Receiver<ContainerEvent> {
        self.subscribe()
    }
}
