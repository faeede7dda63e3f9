//! Containers that come, crash and go, while the runtime's process is killed again and again: afterwards nothing of them
//! is left. `K3S_SOAK=2000` makes it as long as one wishes; the default is short.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k3s_runtime::Runtime;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint, Uri};

use crate::archive;
use crate::node::{FakeNetwork, clear, mounts_below, options, processes_of, until};

/// Containers of a short run.
const SHORT: usize = 30;

/// The subcommand that is killed: a runtime with its state in a directory, served over CRI.
pub fn serve(directory: &Path) -> ExitCode {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    tokio.block_on(async {
        let options = options(directory, Arc::new(FakeNetwork::default()));
        let socket = options.root.join("containerd.sock");
        let runtime = Runtime::open(options).await.unwrap();
        for report in runtime.import_images().await {
            report.result.unwrap();
        }
        k3s_runtime::serve_cri(runtime, &socket, std::future::pending()).await.unwrap();
    });
    ExitCode::SUCCESS
}

/// The process that serves, and a client of it.
struct Server {
    directory: PathBuf,
    process: Child,
    client: RuntimeServiceClient<Channel>,
}

async fn start(directory: &Path) -> (Child, RuntimeServiceClient<Channel>) {
    let process = Command::new("/proc/self/exe").arg("serve").arg(directory).kill_on_drop(true).spawn().unwrap();
    let socket = directory.join("root/containerd.sock");
    let began = std::time::Instant::now();
    // A child of the process that was killed may still have its socket, until it becomes a shim: it is there, and answers
    // nobody.
    loop {
        if let Ok(channel) = connect(&socket).await {
            let mut client = RuntimeServiceClient::new(channel);
            if client.version(VersionRequest::default()).await.is_ok() {
                return (process, client);
            }
        }
        assert!(began.elapsed() < Duration::from_secs(40), "the runtime does not start");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn connect(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket = socket.to_owned();
    let connect = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(socket).await?)) }
    });
    Endpoint::from_static("http://cri").connect_with_connector(connect).await
}

impl Server {
    async fn new(directory: &Path) -> Self {
        let (process, client) = start(directory).await;
        Self { directory: directory.to_owned(), process, client }
    }

    async fn kill_and_start(&mut self) {
        self.process.kill().await.unwrap();
        (self.process, self.client) = start(&self.directory).await;
    }

    /// Open descriptors of the process.
    fn descriptors(&self) -> usize {
        let pid = self.process.id().unwrap();
        std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
    }
}

impl Drop for Server {
    /// Also a run that fails leaves nothing behind.
    fn drop(&mut self) {
        clear(&self.directory);
    }
}

/// A pod with a container that lives, crashes or ends at once, up to whichever step fails because the runtime is gone.
async fn live(mut client: RuntimeServiceClient<Channel>, logs: PathBuf, number: usize) -> Result<(), tonic::Status> {
    let name = format!("pod-{number}");
    let pod = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.clone(),
            uid: name.clone(),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: name.clone(),
        log_directory: logs.join(&name).display().to_string(),
        ..Default::default()
    };
    let request = RunPodSandboxRequest { config: Some(pod.clone()), runtime_handler: String::new() };
    let sandbox = client.run_pod_sandbox(request).await?.into_inner().pod_sandbox_id;
    let script = ["exec sleep 1000", "kill -9 $$", "exit 3", "sleep 1000 & sleep 1000 & exec sleep 1000"][number % 4];
    let config = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
        image: Some(ImageSpec { image: "busybox".into(), ..Default::default() }),
        command: ["/bin/sh", "-c", script].map(String::from).to_vec(),
        log_path: "main.log".into(),
        ..Default::default()
    };
    let request =
        CreateContainerRequest { pod_sandbox_id: sandbox.clone(), config: Some(config), sandbox_config: Some(pod) };
    let container_id = client.create_container(request).await?.into_inner().container_id;
    client.start_container(StartContainerRequest { container_id: container_id.clone() }).await?;
    match number % 5 {
        0 => {
            client.stop_container(StopContainerRequest { container_id: container_id.clone(), timeout: 0 }).await?;
            client.remove_container(RemoveContainerRequest { container_id }).await?;
        }
        1 => {
            let cmd = vec!["/bin/true".to_owned()];
            // One that has ended takes no command; that is no failure of the run.
            let _ = client.exec_sync(ExecSyncRequest { container_id, cmd, timeout: 10 }).await;
        }
        // Left as it is, for the end or the next start.
        2 => return Ok(()),
        _ => {}
    }
    client.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: sandbox }).await.map(drop)
}

pub async fn containers_come_and_go_and_nothing_is_left() {
    let count = std::env::var("K3S_SOAK").ok().and_then(|count| count.parse().ok()).unwrap_or(SHORT);
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let images = directory.path().join("images");
    std::fs::create_dir(&images).unwrap();
    archive::docker(&images.join("busybox.tar"), "busybox", &[archive::busybox_layer()], "");
    let mut server = Server::new(directory.path()).await;
    let logs = directory.path().join("logs");
    let mut failed = 0;
    for first in (0..count).step_by(6) {
        let work = (first..count.min(first + 6)).map(|number| live(server.client.clone(), logs.clone(), number));
        let working = tokio::spawn(futures::future::join_all(work.collect::<Vec<_>>()));
        // In the midst of one step or another; every third time not at all.
        if first % 3 != 0 || first % 4 == 0 {
            tokio::time::sleep(Duration::from_millis((first as u64 * 37) % 120)).await;
            server.kill_and_start().await;
        }
        failed += working.await.unwrap().iter().filter(|result| result.is_err()).count();
    }
    let pods = server.client.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap().into_inner().items;
    for pod in pods {
        let request = RemovePodSandboxRequest { pod_sandbox_id: pod.id };
        server.client.remove_pod_sandbox(request).await.unwrap();
    }
    println!("  {count} containers, of which {failed} met a runtime that was killed");
    let (state, root) = (directory.path().join("state"), directory.path().join("root"));
    let entries = |path: &Path| std::fs::read_dir(path).map_or(0, |entries| entries.count());
    until("every process's end", || processes_of(&state).is_empty()).await;
    assert_eq!(mounts_below(directory.path()), Vec::<String>::new());
    for left in [&state, &root.join("containers"), &root.join("sandboxes"), &root.join("images/ingest")] {
        assert_eq!(entries(left), 0, "{}", left.display());
    }
    // Those of busybox and of the built-in image.
    assert_eq!(entries(&root.join("snapshots")), 2);
    // The process that has served has no more open than one that has just started.
    let held = server.descriptors();
    server.kill_and_start().await;
    let fresh = server.descriptors();
    assert!(held <= fresh + 2, "{held} descriptors are open, {fresh} at a start");
    server.process.kill().await.unwrap();
}
