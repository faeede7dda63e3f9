//! `crictl runp`, `create`, `start`, `run`, `stop`, `rm`, `stopp` and `rmp`

use std::path::{Path, PathBuf};

use clap::Args;
use k8s_cri::v1::*;

use super::images::{Credentials, pull, status};
use crate::config_file;
use crate::connection::Connection;
use crate::error::Error;
use crate::output::line;

/// A pod's file; one without a uid gets one, as with cri-tools.
fn pod_config(path: &Path) -> Result<PodSandboxConfig, Error> {
    let mut config: PodSandboxConfig = config_file::read(path)?;
    let missing = |what: &str| Error::File { path: path.to_owned(), detail: format!("{what} is not set") };
    let metadata = config.metadata.as_mut().ok_or_else(|| missing("metadata"))?;
    if metadata.name.is_empty() || metadata.namespace.is_empty() {
        return Err(missing("the name or namespace in metadata"));
    }
    if metadata.uid.is_empty() {
        metadata.uid = uuid::Uuid::new_v4().to_string();
    }
    Ok(config)
}

fn container_config(path: &Path) -> Result<ContainerConfig, Error> {
    let config: ContainerConfig = config_file::read(path)?;
    let missing = |what: &str| Error::File { path: path.to_owned(), detail: format!("{what} is not set") };
    if config.metadata.as_ref().is_none_or(|metadata| metadata.name.is_empty()) {
        return Err(missing("the name in metadata"));
    }
    if config.image.as_ref().is_none_or(|image| image.image.is_empty()) {
        return Err(missing("image"));
    }
    Ok(config)
}

async fn run_pod(cri: &mut Connection, config: PodSandboxConfig, runtime_handler: String) -> Result<String, Error> {
    let request = RunPodSandboxRequest { config: Some(config), runtime_handler };
    let answer = cri.runtime.run_pod_sandbox(request).await.map_err(Error::call("run pod sandbox"))?;
    Ok(answer.into_inner().pod_sandbox_id)
}

/// Run a new pod
#[derive(Debug, Args)]
pub struct Runp {
    /// What the pod is: a PodSandboxConfig of CRI, as YAML or JSON
    #[arg(value_name = "pod-config.[json|yaml]")]
    pod: PathBuf,
    /// Runtime handler to use
    #[arg(short, long, default_value = "")]
    runtime: String,
}

impl Runp {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        line(run_pod(cri, pod_config(&self.pod)?, self.runtime).await?)
    }
}

/// Whether the image is pulled.
#[derive(Debug, Args)]
struct Pulling {
    /// Pull the image first
    #[arg(long, conflicts_with = "no_pull")]
    with_pull: bool,
    /// Do not pull the image, also where it is not present
    #[arg(long)]
    no_pull: bool,
    #[command(flatten)]
    credentials: Credentials,
}

async fn create(
    cri: &mut Connection,
    pod_sandbox_id: String,
    config: ContainerConfig,
    pod: PodSandboxConfig,
    pulling: &Pulling,
    by_default: bool,
) -> Result<String, Error> {
    let image = config.image.clone().unwrap_or_default();
    let wanted = (pulling.with_pull || by_default) && !pulling.no_pull;
    if wanted && (pulling.with_pull || status(cri, &image.image, false).await?.image.is_none()) {
        pull(cri, image, &pulling.credentials, Some(pod.clone())).await?;
    }
    let request = CreateContainerRequest { pod_sandbox_id, config: Some(config), sandbox_config: Some(pod) };
    let answer = cri.runtime.create_container(request).await.map_err(Error::call("creating container"))?;
    Ok(answer.into_inner().container_id)
}

/// Create a new container
#[derive(Debug, Args)]
pub struct Create {
    #[arg(value_name = "POD")]
    pod_id: String,
    /// What the container is: a ContainerConfig of CRI, as YAML or JSON
    #[arg(value_name = "container-config.[json|yaml]")]
    container: PathBuf,
    /// What the pod is
    #[arg(value_name = "pod-config.[json|yaml]")]
    pod: PathBuf,
    #[command(flatten)]
    pulling: Pulling,
}

impl Create {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let (container, pod) = (container_config(&self.container)?, pod_config(&self.pod)?);
        line(create(cri, self.pod_id, container, pod, &self.pulling, false).await?)
    }
}

async fn start(cri: &mut Connection, id: &str) -> Result<(), Error> {
    let request = StartContainerRequest { container_id: id.to_owned() };
    let started = cri.runtime.start_container(request).await;
    started.map(drop).map_err(Error::call(format!("starting the container {id:?}")))
}

/// Run a new container in a new pod
#[derive(Debug, Args)]
pub struct Run {
    #[arg(value_name = "container-config.[json|yaml]")]
    container: PathBuf,
    #[arg(value_name = "pod-config.[json|yaml]")]
    pod: PathBuf,
    /// Runtime handler to use
    #[arg(short, long, default_value = "")]
    runtime: String,
    #[command(flatten)]
    pulling: Pulling,
}

impl Run {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        let (container, pod) = (container_config(&self.container)?, pod_config(&self.pod)?);
        let pod_id = run_pod(cri, pod.clone(), self.runtime).await?;
        let id = create(cri, pod_id, container, pod, &self.pulling, true).await?;
        start(cri, &id).await?;
        line(id)
    }
}

/// Does something to each, tells those it could not be done to, and fails if there were any.
macro_rules! each {
    ($what:literal, $ids:expr, $one:expr) => {{
        let mut failed = false;
        for id in $ids {
            match $one(id.clone()).await {
                Ok(told) => line(told)?,
                Err(error) => {
                    let error: Error = error;
                    eprintln!("ERRO[0000] {error}");
                    failed = true;
                }
            }
        }
        if failed { Err(Error::Several(concat!("unable to ", $what).to_owned())) } else { Ok(()) }
    }};
}

/// Start one or more created containers
#[derive(Debug, Args)]
pub struct Start {
    #[arg(value_name = "CONTAINER-ID", required = true)]
    ids: Vec<String>,
}

impl Start {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        each!("start the container(s)", &self.ids, async |id: String| start(cri, &id).await.map(|()| id))
    }
}

/// Stop one or more running containers
#[derive(Debug, Args)]
pub struct Stop {
    #[arg(value_name = "CONTAINER-ID", required = true)]
    ids: Vec<String>,
    /// Seconds until the container is killed
    #[arg(short, long, default_value_t = 0)]
    timeout: i64,
}

async fn stop(cri: &mut Connection, id: &str, timeout: i64) -> Result<(), Error> {
    let request = StopContainerRequest { container_id: id.to_owned(), timeout };
    let stopped = cri.runtime.stop_container(request).await;
    stopped.map(drop).map_err(Error::call(format!("stopping the container {id:?}")))
}

impl Stop {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        each!("stop the container(s)", &self.ids, async |id: String| {
            stop(cri, &id, self.timeout).await.map(|()| id)
        })
    }
}

/// Remove one or more containers
#[derive(Debug, Args)]
pub struct Rm {
    #[arg(value_name = "CONTAINER-ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All containers
    #[arg(short, long)]
    all: bool,
    /// Those too that run
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub async fn run(mut self, cri: &mut Connection) -> Result<(), Error> {
        if self.all {
            let request = ListContainersRequest::default();
            let all = cri.runtime.list_containers(request).await.map_err(Error::call("list containers"))?;
            self.ids = all.into_inner().containers.into_iter().map(|container| container.id).collect();
        }
        let force = self.force;
        each!("remove container(s)", &self.ids, async |id: String| {
            let doing = format!("removing the container {id:?}");
            let request = ContainerStatusRequest { container_id: id.clone(), verbose: false };
            let found = cri.runtime.container_status(request).await.map_err(Error::call(doing.clone()))?;
            let status = found.into_inner().status.unwrap_or_default();
            if status.state() == ContainerState::ContainerRunning {
                if !force {
                    return Err(Error::Usage(format!("container {id:?} is running; stop it first, or use --force")));
                }
                stop(cri, &id, 0).await?;
            }
            let request = RemoveContainerRequest { container_id: id.clone() };
            cri.runtime.remove_container(request).await.map_err(Error::call(doing))?;
            Ok(id)
        })
    }
}

/// Stop one or more running pods
#[derive(Debug, Args)]
pub struct Stopp {
    #[arg(value_name = "POD-ID", required = true)]
    ids: Vec<String>,
}

async fn stop_pod(cri: &mut Connection, id: &str) -> Result<(), Error> {
    let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
    let stopped = cri.runtime.stop_pod_sandbox(request).await;
    stopped.map(drop).map_err(Error::call(format!("stopping the pod sandbox {id:?}")))
}

impl Stopp {
    pub async fn run(self, cri: &mut Connection) -> Result<(), Error> {
        each!("stop the pod(s)", &self.ids, async |id: String| {
            stop_pod(cri, &id).await.map(|()| format!("Stopped sandbox {id}"))
        })
    }
}

/// Remove one or more pods
#[derive(Debug, Args)]
pub struct Rmp {
    #[arg(value_name = "POD-ID", required_unless_present = "all")]
    ids: Vec<String>,
    /// All pods
    #[arg(short, long)]
    all: bool,
    /// Those too that run
    #[arg(short, long)]
    force: bool,
}

impl Rmp {
    pub async fn run(mut self, cri: &mut Connection) -> Result<(), Error> {
        if self.all {
            let request = ListPodSandboxRequest::default();
            let all = cri.runtime.list_pod_sandbox(request).await.map_err(Error::call("list pod sandboxes"))?;
            self.ids = all.into_inner().items.into_iter().map(|pod| pod.id).collect();
        }
        let force = self.force;
        each!("remove pod(s)", &self.ids, async |id: String| {
            let doing = format!("removing the pod sandbox {id:?}");
            let request = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
            let found = cri.runtime.pod_sandbox_status(request).await.map_err(Error::call(doing.clone()))?;
            let status = found.into_inner().status.unwrap_or_default();
            if status.state() == PodSandboxState::SandboxReady {
                if !force {
                    return Err(Error::Usage(format!("pod sandbox {id:?} is running; stop it first, or use --force")));
                }
                stop_pod(cri, &id).await?;
            }
            let request = RemovePodSandboxRequest { pod_sandbox_id: id.clone() };
            cri.runtime.remove_pod_sandbox(request).await.map_err(Error::call(doing))?;
            Ok(format!("Removed sandbox {id}"))
        })
    }
}
