//! Pods by CRI, and when their containers began.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use tonic::transport::Channel;

use crate::runtimes::{Server, now};

/// A pod of the host's network.
pub fn pod(directory: &Path, name: &str) -> PodSandboxConfig {
    let options = NamespaceOption { network: NamespaceMode::Node.into(), ..Default::default() };
    let security = LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid: name.to_owned(),
            namespace: "bench".into(),
            attempt: 0,
        }),
        log_directory: directory.join("logs").join(name).display().to_string(),
        linux: Some(LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() }),
        ..Default::default()
    }
}

/// A container that runs this program's `now`.
fn container(shared: &Path, name: &str) -> ContainerConfig {
    let mount = |host: PathBuf, container: &str, readonly| Mount {
        container_path: container.to_owned(),
        host_path: host.display().to_string(),
        readonly,
        ..Default::default()
    };
    let own = std::env::current_exe().expect("this program's path");
    let options = NamespaceOption {
        network: NamespaceMode::Node.into(),
        pid: NamespaceMode::Container.into(),
        ..Default::default()
    };
    let security = LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
        image: Some(ImageSpec { image: "docker.io/library/busybox:latest".into(), ..Default::default() }),
        command: vec!["/now".into(), "now".into(), format!("/shared/{name}")],
        mounts: vec![mount(own, "/now", true), mount(shared.to_owned(), "/shared", false)],
        log_path: "main.log".into(),
        linux: Some(LinuxContainerConfig { security_context: Some(security), resources: None }),
        ..Default::default()
    }
}

/// Starts a pod with its container and returns when the container began, in nanoseconds of the monotonic clock.
pub async fn start(mut runtime: RuntimeServiceClient<Channel>, directory: PathBuf, name: String) -> (String, i128) {
    let shared = directory.join("shared");
    std::fs::create_dir_all(&shared).expect("a folder");
    let pod = pod(&directory, &name);
    let request = RunPodSandboxRequest { config: Some(pod.clone()), runtime_handler: String::new() };
    let id = runtime.run_pod_sandbox(request).await.expect("a sandbox").into_inner().pod_sandbox_id;
    let request = CreateContainerRequest {
        pod_sandbox_id: id.clone(),
        config: Some(container(&shared, &name)),
        sandbox_config: Some(pod),
    };
    let container_id = runtime.create_container(request).await.expect("a container").into_inner().container_id;
    runtime.start_container(StartContainerRequest { container_id }).await.expect("a started container");
    let path = shared.join(&name);
    let began = Instant::now();
    loop {
        if let Ok(text) = std::fs::read_to_string(&path) {
            std::fs::remove_file(&path).expect("a removed file");
            return (id, text.parse().expect("a time"));
        }
        assert!(began.elapsed() < Duration::from_secs(60), "the container of {name} does not run");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Removes a pod.
pub async fn remove(mut runtime: RuntimeServiceClient<Channel>, id: String) {
    let request = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
    runtime.stop_pod_sandbox(request).await.expect("a stopped sandbox");
    runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id }).await.expect("a removed sandbox");
}

fn since(begin: i128, end: i128) -> Duration {
    Duration::from_nanos(u64::try_from(end - begin).unwrap_or_default())
}

/// One pod after the other.
pub async fn alone(server: &Server, rounds: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for round in 0..=rounds {
        let begin = now();
        let (id, end) = start(server.runtime.clone(), server.directory.clone(), format!("alone-{round}")).await;
        // The first also reads everything from the disk.
        if round > 0 {
            times.push(since(begin, end));
        }
        remove(server.runtime.clone(), id).await;
    }
    times
}

/// Many pods at once: until the last one's container begins.
pub async fn together(server: &Server, pods: usize) -> Duration {
    let begin = now();
    let starting = (0..pods)
        .map(|pod| tokio::spawn(start(server.runtime.clone(), server.directory.clone(), format!("together-{pod}"))));
    let started = futures::future::join_all(starting.collect::<Vec<_>>()).await;
    let started: Vec<_> = started.into_iter().map(|started| started.expect("a pod")).collect();
    let end = started.iter().map(|(_, end)| *end).max().unwrap_or(begin);
    for (id, _) in started {
        remove(server.runtime.clone(), id).await;
    }
    since(begin, end)
}
