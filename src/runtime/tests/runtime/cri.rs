//! CRI over gRPC, by a client that was generated from its definition.

use k8s_cri::v1::*;
use tonic::Code;

use crate::node::until;
use crate::served::{Served, image};

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
    let layer = stats.writable_layer.unwrap();
    assert!(layer.inodes_used.unwrap().value >= 1, "the directory itself at least");
    assert!(layer.fs_id.unwrap().mountpoint.ends_with("/root"));
    let list = served.runtime.list_container_stats(ListContainerStatsRequest::default()).await.unwrap();
    assert_eq!(list.into_inner().stats.len(), 1);
    let request = PodSandboxStatsRequest { pod_sandbox_id: pod.clone() };
    let stats = served.runtime.pod_sandbox_stats(request).await.unwrap().into_inner().stats.unwrap();
    assert!(stats.linux.unwrap().process.unwrap().process_count.unwrap().value >= 1);
    let list = served.runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await.unwrap();
    assert_eq!(list.into_inner().stats.len(), 1);

    let described = served.runtime.list_metric_descriptors(ListMetricDescriptorsRequest {}).await.unwrap();
    let described: std::collections::BTreeMap<String, usize> =
        described.into_inner().descriptors.into_iter().map(|it| (it.name, it.label_keys.len())).collect();
    let metrics = served.runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await.unwrap().into_inner();
    let of_pod = &metrics.pod_metrics[0];
    let of_container = &of_pod.container_metrics[0];
    assert_eq!(of_container.container_id, id);
    let mut told = std::collections::BTreeSet::new();
    for metric in of_container.metrics.iter().chain(&of_pod.metrics) {
        assert_eq!(described.get(&metric.name), Some(&metric.label_values.len()), "{}", metric.name);
        told.insert(metric.name.as_str());
    }
    // A pod of this test's network has no interface but its loopback.
    let untold = described.keys().filter(|name| !told.contains(name.as_str()));
    assert!(untold.clone().all(|name| name.starts_with("container_network_")), "{:?}", untold.collect::<Vec<_>>());
    let memory = of_container.metrics.iter().find(|it| it.name == "container_memory_working_set_bytes").unwrap();
    assert!(memory.value.as_ref().unwrap().value > 0);

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
    let request = RunPodSandboxRequest { config: Some(PodSandboxConfig::default()), runtime_handler: String::new() };
    assert_eq!(runtime.run_pod_sandbox(request).await.unwrap_err().code(), Code::InvalidArgument);
    runtime.update_runtime_config(UpdateRuntimeConfigRequest::default()).await.unwrap();
    let config = runtime.runtime_config(RuntimeConfigRequest {}).await.unwrap().into_inner();
    assert_eq!(config.linux.unwrap().cgroup_driver(), CgroupDriver::Cgroupfs);
    served.end().await;
}

/// Every call of the definition, without what it needs: only what says so can't be done.
pub async fn every_call_of_the_definition_is_answered() {
    let mut served = Served::new().await;
    let mut unimplemented = Vec::new();
    macro_rules! call {
        ($client:ident: $($method:ident($request:ident)),* $(,)?) => {$(
            let answer = served.$client.$method($request::default()).await.map(drop);
            if answer.is_err_and(|error| error.code() == Code::Unimplemented) {
                unimplemented.push(stringify!($method));
            }
        )*};
    }
    call!(runtime:
        version(VersionRequest), run_pod_sandbox(RunPodSandboxRequest), stop_pod_sandbox(StopPodSandboxRequest),
        remove_pod_sandbox(RemovePodSandboxRequest), pod_sandbox_status(PodSandboxStatusRequest),
        list_pod_sandbox(ListPodSandboxRequest), create_container(CreateContainerRequest),
        start_container(StartContainerRequest), stop_container(StopContainerRequest),
        remove_container(RemoveContainerRequest), list_containers(ListContainersRequest),
        container_status(ContainerStatusRequest), update_container_resources(UpdateContainerResourcesRequest),
        reopen_container_log(ReopenContainerLogRequest), exec_sync(ExecSyncRequest), exec(ExecRequest),
        attach(AttachRequest), port_forward(PortForwardRequest), container_stats(ContainerStatsRequest),
        list_container_stats(ListContainerStatsRequest), pod_sandbox_stats(PodSandboxStatsRequest),
        list_pod_sandbox_stats(ListPodSandboxStatsRequest), update_runtime_config(UpdateRuntimeConfigRequest),
        status(StatusRequest), checkpoint_container(CheckpointContainerRequest),
        get_container_events(GetEventsRequest), list_metric_descriptors(ListMetricDescriptorsRequest),
        list_pod_sandbox_metrics(ListPodSandboxMetricsRequest), runtime_config(RuntimeConfigRequest),
    );
    call!(images:
        list_images(ListImagesRequest), image_status(ImageStatusRequest), pull_image(PullImageRequest),
        remove_image(RemoveImageRequest), image_fs_info(ImageFsInfoRequest),
    );
    assert_eq!(unimplemented, ["checkpoint_container"]);
    served.end().await;
}
