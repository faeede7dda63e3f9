//! The two services of CRI v1.

use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::broadcast;

use crate::{
    ContainerConfig, ContainerEvent, ContainerStatus, Error, ExecRequest, FilesystemUsage, Image, Output,
    PodSandboxConfig, PodSandboxStatus, RegistryAuth, RuntimeStatus, Stats, Streams,
};

/// Both directions of a connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Sandboxes and containers (CRI `RuntimeService`). Every call may be repeated: stopping what is stopped and removing
/// what is gone succeed.
#[async_trait]
pub trait RuntimeService: Send + Sync + 'static {
    async fn status(&self) -> Result<RuntimeStatus, Error>;

    /// Makes and starts a sandbox, network included. Returns its id. On failure nothing is left.
    async fn run_pod_sandbox(&self, config: PodSandboxConfig) -> Result<String, Error>;
    /// Kills what still runs in it and takes its network back.
    async fn stop_pod_sandbox(&self, id: &str) -> Result<(), Error>;
    /// Removes it with its containers.
    async fn remove_pod_sandbox(&self, id: &str) -> Result<(), Error>;
    async fn list_pod_sandboxes(&self) -> Result<Vec<PodSandboxStatus>, Error>;

    /// Returns the container's id.
    async fn create_container(&self, sandbox_id: &str, config: ContainerConfig) -> Result<String, Error>;
    async fn start_container(&self, id: &str) -> Result<(), Error>;
    /// The stop signal of the image (SIGTERM), then SIGKILL after `grace`. Returns when the container has ended.
    async fn stop_container(&self, id: &str, grace: Duration) -> Result<(), Error>;
    /// Kills it if it runs.
    async fn remove_container(&self, id: &str) -> Result<(), Error>;
    async fn list_containers(&self) -> Result<Vec<ContainerStatus>, Error>;
    async fn container_status(&self, id: &str) -> Result<ContainerStatus, Error>;
    /// Closes the log file and opens `log_path` anew, after it has been moved away.
    async fn reopen_container_log(&self, id: &str) -> Result<(), Error>;

    /// Runs a command and collects its output; kills it after `timeout` ([`Error::Timeout`]).
    async fn exec_sync(&self, id: &str, command: Vec<String>, timeout: Duration) -> Result<Output, Error>;
    /// Runs a command with streams; returns its exit code. Dropping the future kills the command.
    async fn exec(&self, request: ExecRequest, streams: Streams) -> Result<i32, Error>;
    /// Connects to the container's first process; returns when it has ended or the caller's stdin and outputs are gone.
    async fn attach(&self, id: &str, streams: Streams) -> Result<(), Error>;
    /// A TCP connection to `port` on the sandbox's loopback address.
    async fn port_forward(&self, sandbox_id: &str, port: u16) -> Result<Box<dyn Duplex>, Error>;

    async fn container_stats(&self, id: &str) -> Result<Stats, Error>;
    /// What happens from now on. Lagging behind means: list again.
    fn events(&self) -> broadcast::Receiver<ContainerEvent>;
}

/// Images (CRI `ImageService`).
#[async_trait]
pub trait ImageService: Send + Sync + 'static {
    /// The image of that reference or id, if present.
    async fn image_status(&self, image: &str) -> Result<Option<Image>, Error>;
    async fn list_images(&self) -> Result<Vec<Image>, Error>;
    /// Asks the registry for the image and gets what is missing of it. Returns the id of the image, now present.
    /// `auth` comes before what the runtime itself knows of the registry.
    async fn pull_image(&self, image: &str, auth: Option<&RegistryAuth>) -> Result<String, Error>;
    /// Succeeds if there is none.
    async fn remove_image(&self, image: &str) -> Result<(), Error>;
    /// The file system that has the images and the layers of containers, and how much of it they use.
    async fn image_fs_info(&self) -> Result<FilesystemUsage, Error>;
}
