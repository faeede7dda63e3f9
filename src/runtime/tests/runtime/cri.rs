//! CRI over gRPC, by a client that was generated from its definition.

use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use tonic::Code;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::node::{Node, until};

/// A node whose runtime is served, and a client.
struct Served {
    node: Node,
    socket: PathBuf,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    stop: tokio::sync::oneshot::Sender<()>,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

impl Served {
    async fn new() -> Self {
        let node = Node::new().await;
        let socket = node.path("root/containerd.sock");
        // What a crash left is no hindrance.
        std::fs::write(&socket, "").unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (runtime, path) = (node.runtime.clone(), socket.clone());
        let server = tokio::spawn(async move {
            k3s_runtime::serve_cri(runtime, &path, async {
                let _ = stopped.await;
            })
            .await
        });
        until("the socket", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
        let path = socket.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(path).await?)) }
        });
        let channel = Endpoint::from_static("http://cri").connect_with_connector(connect).await.unwrap();
        let (runtime, images) = (RuntimeServiceClient::new(channel.clone()), ImageServiceClient::new(channel));
        Self { node, socket, server, stop, runtime, images }
    }

    async fn end(self) {
        drop((self.runtime, self.images));
        self.stop.send(()).unwrap();
        self.server.await.unwrap().unwrap();
        assert!(!self.socket.exists());
        self.node.end().await;
    }

    fn pod(&self) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "web".into(),
                uid: "uid".into(),
                namespace: "default".into(),
                attempt: 1,
            }),
            hostname: "web".into(),
            log_directory: self.node.path("logs").display().to_string(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ..Default::default()
        }
    }

    async fn container(&mut self, sandbox: &str, script: &str) -> Result<String, tonic::Status> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
            image: Some(image("busybox")),
            command: ["/bin/sh", "-c", script].map(String::from).to_vec(),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            log_path: "main/0.log".into(),
            ..Default::default()
        };
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(self.pod()),
        };
        Ok(self.runtime.create_container(request).await?.into_inner().container_id)
    }
}

fn image(name: &str) -> ImageSpec {
    ImageSpec { image: name.into(), ..Default::default() }
}

pub async fn a_client_makes_a_pod_and_takes_it_away() {
    let mut served = Served::new().await;
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&served.socket).unwrap().permissions().mode() & 0o777, 0o600);
    let version = served.runtime.version(VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!((version.runtime_name.as_str(), version.runtime_api_version.as_str()), ("k3s", "v1"));
    let status = served.runtime.status(StatusRequest { verbose: true }).await.unwrap().into_inner();
    assert!(status.info["config"].contains("limitsUnavailable"));
    let conditions: Vec<_> = status.status.unwrap().conditions.into_iter().map(|it| (it.r#type, it.status)).collect();
    assert_eq!(conditions, [("RuntimeReady".to_owned(), true), ("NetworkReady".to_owned(), true)]);
    let mut events = served.runtime.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();

    let request = RunPodSandboxRequest { config: Some(served.pod()), runtime_handler: String::new() };
    let pod = served.runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id;
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod[..12].into(), verbose: true };
    let described = served.runtime.pod_sandbox_status(request).await.unwrap().into_inner();
    let status = described.status.unwrap();
    assert_eq!((status.id, status.network.unwrap().ip.as_str()), (pod.clone(), "10.42.0.7"));
    assert!(described.info["info"].contains("\"pid\""));
    let by = |label: &str| PodSandboxFilter {
        label_selector: [("app".to_owned(), label.to_owned())].into(),
        ..Default::default()
    };
    for (label, count) in [("web", 1), ("db", 0)] {
        let request = ListPodSandboxRequest { filter: Some(by(label)) };
        assert_eq!(served.runtime.list_pod_sandbox(request).await.unwrap().into_inner().items.len(), count);
    }

    let id = served.container(&pod, "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done").await.unwrap();
    let request = StartContainerRequest { container_id: id.clone() };
    served.runtime.start_container(request).await.unwrap();
    for kind in [ContainerEventType::ContainerCreatedEvent, ContainerEventType::ContainerStartedEvent] {
        let event = events.message().await.unwrap().unwrap();
        assert_eq!((event.container_event_type(), event.container_id.as_str()), (kind, id.as_str()));
        assert_eq!(event.pod_sandbox_status.unwrap().id, pod);
    }
    let state = ContainerStateValue { state: ContainerState::ContainerRunning.into() };
    let filter = ContainerFilter { pod_sandbox_id: pod.clone(), state: Some(state), ..Default::default() };
    let request = ListContainersRequest { filter: Some(filter) };
    let listed = served.runtime.list_containers(request).await.unwrap().into_inner().containers;
    assert_eq!(listed.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);

    let cmd = ["/bin/sh", "-c", "echo out; echo err >&2; exit 7"].map(String::from).to_vec();
    let request = ExecSyncRequest { container_id: id.clone(), cmd, timeout: 5 };
    let output = served.runtime.exec_sync(request).await.unwrap().into_inner();
    assert_eq!((&output.stdout[..], &output.stderr[..], output.exit_code), (&b"out\n"[..], &b"err\n"[..], 7));
    let cmd = ["/bin/sleep", "100"].map(String::from).to_vec();
    let request = ExecSyncRequest { container_id: id.clone(), cmd, timeout: 1 };
    assert_eq!(served.runtime.exec_sync(request).await.unwrap_err().code(), Code::DeadlineExceeded);

    let log = served.node.path("logs/main/0.log");
    until("output", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("up"))).await;
    std::fs::rename(&log, log.with_extension("old")).unwrap();
    let request = ReopenContainerLogRequest { container_id: id.clone() };
    served.runtime.reopen_container_log(request).await.unwrap();
    assert!(log.exists());

    let request = ContainerStatsRequest { container_id: id.clone() };
    let stats = served.runtime.container_stats(request).await.unwrap().into_inner().stats.unwrap();
    assert!(stats.memory.unwrap().working_set_bytes.unwrap().value > 0);
    let list = served.runtime.list_container_stats(ListContainerStatsRequest::default()).await.unwrap();
    assert_eq!(list.into_inner().stats.len(), 1);
    let request = PodSandboxStatsRequest { pod_sandbox_id: pod.clone() };
    let stats = served.runtime.pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
    assert!(stats.linux.unwrap().process.unwrap().process_count.unwrap().value >= 1);
    let list = served.runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await.unwrap();
    assert_eq!(list.into_inner().stats.len(), 1);

    let request = StopContainerRequest { container_id: id.clone(), timeout: 10 };
    served.runtime.stop_container(request).await.unwrap();
    let request = ContainerStatusRequest { container_id: id.clone(), verbose: true };
    let ended = served.runtime.container_status(request).await.unwrap().into_inner();
    assert!(ended.info["info"].contains(&pod));
    let status = ended.status.unwrap();
    assert_eq!(
        (status.state(), status.exit_code, status.reason.as_str()),
        (ContainerState::ContainerExited, 3, "Error")
    );
    served.runtime.remove_container(RemoveContainerRequest { container_id: id }).await.unwrap();
    served.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: pod.clone() }).await.unwrap();
    served.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod.clone() }).await.unwrap();
    // Once more, as kubelets do.
    served.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: pod }).await.unwrap();
    drop(events);
    served.end().await;
}

pub async fn a_client_works_with_images() {
    let mut served = Served::new().await;
    let all = served.images.list_images(ListImagesRequest::default()).await.unwrap().into_inner().images;
    assert_eq!(all.len(), 2, "busybox and the built-in one");
    let filter = ImageFilter { image: Some(image("busybox")) };
    let some = served.images.list_images(ListImagesRequest { filter: Some(filter) }).await.unwrap();
    let found = some.into_inner().images;
    assert_eq!(found[0].repo_tags, ["docker.io/library/busybox:latest"]);
    let request = ImageStatusRequest { image: Some(image("busybox")), verbose: true };
    let status = served.images.image_status(request).await.unwrap().into_inner();
    assert_eq!(status.image.unwrap().id, found[0].id);
    assert!(status.info["info"].contains("diff_ids"));
    let request = ImageStatusRequest { image: Some(image("absent")), verbose: false };
    assert!(served.images.image_status(request).await.unwrap().into_inner().image.is_none());
    let space = served.images.image_fs_info(ImageFsInfoRequest {}).await.unwrap().into_inner();
    assert!(space.image_filesystems[0].used_bytes.unwrap().value > 0);
    let registry = crate::registry::Registry::start(Default::default()).await;
    let absent = format!("{}/absent:v1", registry.host());
    let request = |name: &str| PullImageRequest { image: Some(image(name)), ..Default::default() };
    let error = served.images.pull_image(request(&absent)).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().ends_with(&format!("{absent}: not found")), "{error}");
    let layer = crate::archive::busybox_layer();
    registry.image("app", "v1", &[("application/vnd.oci.image.layer.v1.tar", layer.clone(), layer)]);
    let name = format!("{}/app:v1", registry.host());
    let pulled = served.images.pull_image(request(&name)).await.unwrap().into_inner().image_ref;
    let request = RemoveImageRequest { image: Some(image(&pulled)) };
    served.images.remove_image(request).await.unwrap();
    let request = ImageStatusRequest { image: Some(image(&name)), verbose: false };
    assert!(served.images.image_status(request).await.unwrap().into_inner().image.is_none());
    served.end().await;
}

pub async fn what_can_not_be_done_has_the_code_that_clients_expect() {
    let mut served = Served::new().await;
    let runtime = &mut served.runtime;
    let absent = || "absent".to_owned();
    let codes = [
        runtime.start_container(StartContainerRequest { container_id: absent() }).await.map(drop),
        runtime.container_status(ContainerStatusRequest { container_id: absent(), verbose: false }).await.map(drop),
        runtime
            .pod_sandbox_status(PodSandboxStatusRequest { pod_sandbox_id: absent(), verbose: false })
            .await
            .map(drop),
        runtime.container_stats(ContainerStatsRequest { container_id: absent() }).await.map(drop),
        runtime
            .update_container_resources(UpdateContainerResourcesRequest {
                container_id: absent(),
                linux: Some(LinuxContainerResources::default()),
                ..Default::default()
            })
            .await
            .map(drop),
    ];
    assert!(codes.iter().all(|result| result.as_ref().unwrap_err().code() == Code::NotFound), "{codes:?}");
    let codes = [
        runtime.exec(ExecRequest::default()).await.map(drop),
        runtime.attach(AttachRequest::default()).await.map(drop),
        runtime.port_forward(PortForwardRequest::default()).await.map(drop),
        runtime.checkpoint_container(CheckpointContainerRequest::default()).await.map(drop),
    ];
    assert!(codes.iter().all(|result| result.as_ref().unwrap_err().code() == Code::Unimplemented), "{codes:?}");
    let request = RunPodSandboxRequest { config: Some(PodSandboxConfig::default()), runtime_handler: String::new() };
    assert_eq!(runtime.run_pod_sandbox(request).await.unwrap_err().code(), Code::InvalidArgument);
    runtime.update_runtime_config(UpdateRuntimeConfigRequest::default()).await.unwrap();
    runtime.list_metric_descriptors(ListMetricDescriptorsRequest {}).await.unwrap();
    runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await.unwrap();
    let config = runtime.runtime_config(RuntimeConfigRequest {}).await.unwrap().into_inner();
    assert_eq!(config.linux.unwrap().cgroup_driver(), CgroupDriver::Cgroupfs);
    served.end().await;
}
