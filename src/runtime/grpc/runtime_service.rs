//! CRI's RuntimeService.

use std::collections::HashMap;
use std::pin::Pin;

use futures::stream::{self, Stream};
use k3s_cri::{ContainerEvent, ContainerStatus, Error, PodSandboxStatus, RuntimeService as _, SandboxState, Stats};
use k8s_cri::v1;
use k8s_cri::v1::runtime_service_server::RuntimeService;
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use super::{Service, filter, metrics, request, response, status};
use crate::shim::clock;
use crate::stats::PodUsage;

/// Containers with their usage.
type Usage = Vec<(ContainerStatus, Stats)>;

fn missing<T>(what: &str) -> Result<T, Status> {
    Err(status::of(Error::InvalidArgument { detail: format!("the request has no {what}") }))
}

impl Service {
    fn sandbox_id(&self, given: &str) -> String {
        filter::resolve(given, self.0.sandboxes.read().keys())
    }

    fn container_id(&self, given: &str) -> String {
        filter::resolve(given, self.0.containers.read().keys())
    }

    fn sandbox_status_of(&self, id: &str) -> Result<v1::PodSandboxStatus, Error> {
        let record = self.0.sandbox(id)?.record.lock().clone();
        Ok(response::sandbox_status(&record.status(), &record.config))
    }

    fn container_statuses_of(&self, sandbox_id: &str) -> Vec<v1::ContainerStatus> {
        let containers = self.0.containers_of(sandbox_id);
        let status = |container: &std::sync::Arc<crate::container::Container>| {
            let record = container.record.lock().clone();
            response::container_status(&record.status(), &record.config)
        };
        containers.iter().map(status).collect()
    }

    /// Running containers, of one sandbox if it is named, with their usage. One that ends meanwhile is left out.
    async fn usage(&self, sandbox_id: Option<&str>, wanted: impl Fn(&ContainerStatus) -> bool) -> Usage {
        let mut usage = Vec::new();
        for container in self.0.running_containers(sandbox_id) {
            let status = container.record.lock().status();
            if wanted(&status)
                && let Ok(stats) = self.0.usage(container).await
            {
                usage.push((status, stats));
            }
        }
        usage
    }

    async fn sandbox_stats(&self, sandbox: &PodSandboxStatus) -> Result<v1::PodSandboxStats, Status> {
        let (usage, containers) = self.pod_usage(sandbox).await?;
        Ok(response::sandbox_stats(sandbox, &usage, &containers))
    }

    async fn pod_usage(&self, sandbox: &PodSandboxStatus) -> Result<(PodUsage, Usage), Status> {
        let containers = self.usage(Some(&sandbox.id), |_| true).await;
        let stats: Vec<Stats> = containers.iter().map(|(_, stats)| stats.clone()).collect();
        Ok((self.0.pod_usage(&sandbox.id, &stats).await.map_err(status::of)?, containers))
    }

    /// Ready sandboxes that a filter takes.
    fn ready_sandboxes(&self, id: &str, labels: &HashMap<String, String>) -> Vec<PodSandboxStatus> {
        let all = self.0.sandboxes.read();
        let statuses = all.values().map(|sandbox| sandbox.record.lock().status());
        let wanted = |sandbox: &PodSandboxStatus| {
            sandbox.state == SandboxState::Ready
                && filter::id(id, &sandbox.id)
                && filter::labels(labels, &sandbox.labels)
        };
        statuses.filter(wanted).collect()
    }

    fn event(&self, event: &ContainerEvent) -> v1::ContainerEventResponse {
        v1::ContainerEventResponse {
            container_id: event.container_id.clone(),
            container_event_type: response::event_type(event.kind).into(),
            created_at: clock::now(),
            // Gone already, where the sandbox was removed.
            pod_sandbox_status: self.sandbox_status_of(&event.sandbox_id).ok(),
            containers_statuses: self.container_statuses_of(&event.sandbox_id),
        }
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<v1::ContainerEventResponse, Status>> + Send>>;

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Result<Response<v1::VersionResponse>, Status> {
        let runtime = self.0.status().await.map_err(status::of)?;
        Ok(Response::new(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: runtime.name,
            runtime_version: runtime.version,
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Result<Response<v1::RunPodSandboxResponse>, Status> {
        let request = request.into_inner();
        let Some(config) = request.config else { return missing("config") };
        let config = request::sandbox(config, request.runtime_handler).map_err(status::of)?;
        let pod_sandbox_id = self.0.run_pod_sandbox(config).await.map_err(status::of)?;
        Ok(Response::new(v1::RunPodSandboxResponse { pod_sandbox_id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Result<Response<v1::StopPodSandboxResponse>, Status> {
        let id = self.sandbox_id(&request.into_inner().pod_sandbox_id);
        self.0.stop_pod_sandbox(&id).await.map_err(status::of)?;
        Ok(Response::new(v1::StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Result<Response<v1::RemovePodSandboxResponse>, Status> {
        let id = self.sandbox_id(&request.into_inner().pod_sandbox_id);
        self.0.remove_pod_sandbox(&id).await.map_err(status::of)?;
        Ok(Response::new(v1::RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Result<Response<v1::PodSandboxStatusResponse>, Status> {
        let request = request.into_inner();
        let id = self.sandbox_id(&request.pod_sandbox_id);
        let sandbox = self.sandbox_status_of(&id).map_err(status::of)?;
        let mut info = HashMap::new();
        if request.verbose {
            let record = self.0.sandbox(&id).map_err(status::of)?.record.lock().clone();
            let pid = record.shim.map_or(0, |shim| shim.pid);
            info.insert("info".to_owned(), serde_json::json!({"pid": pid, "config": record.config}).to_string());
        }
        Ok(Response::new(v1::PodSandboxStatusResponse {
            status: Some(sandbox),
            info,
            containers_statuses: self.container_statuses_of(&id),
            timestamp: clock::now(),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Result<Response<v1::ListPodSandboxResponse>, Status> {
        let wanted = request.into_inner().filter.unwrap_or_default();
        let all = self.0.list_pod_sandboxes().await.map_err(status::of)?;
        let items = all
            .iter()
            .filter(|sandbox| {
                let state = i32::from(response::sandbox_state(sandbox.state));
                filter::id(&wanted.id, &sandbox.id)
                    && wanted.state.as_ref().is_none_or(|wanted| wanted.state == state)
                    && filter::labels(&wanted.label_selector, &sandbox.labels)
            })
            .map(response::sandbox)
            .collect();
        Ok(Response::new(v1::ListPodSandboxResponse { items }))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Result<Response<v1::CreateContainerResponse>, Status> {
        let request = request.into_inner();
        let Some(config) = request.config else { return missing("config") };
        let config = request::container(config).map_err(status::of)?;
        let sandbox_id = self.sandbox_id(&request.pod_sandbox_id);
        let container_id = self.0.create_container(&sandbox_id, config).await.map_err(status::of)?;
        Ok(Response::new(v1::CreateContainerResponse { container_id }))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Result<Response<v1::StartContainerResponse>, Status> {
        let id = self.container_id(&request.into_inner().container_id);
        self.0.start_container(&id).await.map_err(status::of)?;
        Ok(Response::new(v1::StartContainerResponse {}))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Result<Response<v1::StopContainerResponse>, Status> {
        let request = request.into_inner();
        let id = self.container_id(&request.container_id);
        self.0.stop_container(&id, request::seconds(request.timeout)).await.map_err(status::of)?;
        Ok(Response::new(v1::StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Result<Response<v1::RemoveContainerResponse>, Status> {
        let id = self.container_id(&request.into_inner().container_id);
        self.0.remove_container(&id).await.map_err(status::of)?;
        Ok(Response::new(v1::RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Result<Response<v1::ListContainersResponse>, Status> {
        let wanted = request.into_inner().filter.unwrap_or_default();
        let all = self.0.list_containers().await.map_err(status::of)?;
        let containers = all
            .iter()
            .filter(|container| {
                let state = i32::from(response::container_state(container.state));
                filter::id(&wanted.id, &container.id)
                    && filter::id(&wanted.pod_sandbox_id, &container.sandbox_id)
                    && wanted.state.as_ref().is_none_or(|wanted| wanted.state == state)
                    && filter::labels(&wanted.label_selector, &container.labels)
            })
            .map(response::container)
            .collect();
        Ok(Response::new(v1::ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Result<Response<v1::ContainerStatusResponse>, Status> {
        let request = request.into_inner();
        let container = self.0.container(&self.container_id(&request.container_id)).map_err(status::of)?;
        let record = container.record.lock().clone();
        let mut info = HashMap::new();
        if request.verbose {
            let text = serde_json::json!({"sandboxID": record.sandbox_id, "pid": record.pid, "config": record.config});
            info.insert("info".to_owned(), text.to_string());
        }
        let status = Some(response::container_status(&record.status(), &record.config));
        Ok(Response::new(v1::ContainerStatusResponse { status, info }))
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Result<Response<v1::UpdateContainerResourcesResponse>, Status> {
        let request = request.into_inner();
        let Some(linux) = request.linux else { return missing("linux resources") };
        let limits = request::resources(linux).map_err(status::of)?;
        self.0.update_resources(&self.container_id(&request.container_id), limits).await.map_err(status::of)?;
        Ok(Response::new(v1::UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Result<Response<v1::ReopenContainerLogResponse>, Status> {
        let id = self.container_id(&request.into_inner().container_id);
        self.0.reopen_container_log(&id).await.map_err(status::of)?;
        Ok(Response::new(v1::ReopenContainerLogResponse {}))
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Result<Response<v1::ExecSyncResponse>, Status> {
        let request = request.into_inner();
        let id = self.container_id(&request.container_id);
        let timeout = request::seconds(request.timeout);
        let output = self.0.exec_sync(&id, request.cmd, timeout).await.map_err(status::of)?;
        Ok(Response::new(v1::ExecSyncResponse {
            stdout: output.stdout,
            stderr: output.stderr,
            exit_code: output.exit_code,
        }))
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Result<Response<v1::ExecResponse>, Status> {
        let request = request.into_inner();
        let url = self.1.exec(self.container_id(&request.container_id), request).map_err(status::of)?;
        Ok(Response::new(v1::ExecResponse { url }))
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<v1::AttachResponse>, Status> {
        let request = request.into_inner();
        let url = self.1.attach(self.container_id(&request.container_id), &request).map_err(status::of)?;
        Ok(Response::new(v1::AttachResponse { url }))
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Result<Response<v1::PortForwardResponse>, Status> {
        let request = request.into_inner();
        let sandbox = self.sandbox_id(&request.pod_sandbox_id);
        let url = self.1.port_forward(sandbox, &request.port).map_err(status::of)?;
        Ok(Response::new(v1::PortForwardResponse { url }))
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Result<Response<v1::ContainerStatsResponse>, Status> {
        let id = self.container_id(&request.into_inner().container_id);
        let container = self.0.container_status(&id).await.map_err(status::of)?;
        let stats = self.0.container_stats(&id).await.map_err(status::of)?;
        let stats = Some(response::container_stats(&container, &stats));
        Ok(Response::new(v1::ContainerStatsResponse { stats }))
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Result<Response<v1::ListContainerStatsResponse>, Status> {
        let wanted = request.into_inner().filter.unwrap_or_default();
        let usage = self
            .usage(None, |container| {
                filter::id(&wanted.id, &container.id)
                    && filter::id(&wanted.pod_sandbox_id, &container.sandbox_id)
                    && filter::labels(&wanted.label_selector, &container.labels)
            })
            .await;
        let stats = usage.iter().map(|(container, stats)| response::container_stats(container, stats)).collect();
        Ok(Response::new(v1::ListContainerStatsResponse { stats }))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Result<Response<v1::PodSandboxStatsResponse>, Status> {
        let id = self.sandbox_id(&request.into_inner().pod_sandbox_id);
        let sandbox = self.0.sandbox(&id).map_err(status::of)?.record.lock().status();
        let stats = Some(self.sandbox_stats(&sandbox).await?);
        Ok(Response::new(v1::PodSandboxStatsResponse { stats }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Result<Response<v1::ListPodSandboxStatsResponse>, Status> {
        let wanted = request.into_inner().filter.unwrap_or_default();
        let mut stats = Vec::new();
        for sandbox in self.ready_sandboxes(&wanted.id, &wanted.label_selector) {
            // One that is removed meanwhile is left out.
            stats.extend(self.sandbox_stats(&sandbox).await);
        }
        Ok(Response::new(v1::ListPodSandboxStatsResponse { stats }))
    }

    /// The pod network is configured by the API, so there is nothing to do.
    async fn update_runtime_config(
        &self,
        _: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Result<Response<v1::UpdateRuntimeConfigResponse>, Status> {
        Ok(Response::new(v1::UpdateRuntimeConfigResponse {}))
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        let runtime = self.0.status().await.map_err(status::of)?;
        let condition = |kind: &str, ready: &Result<(), String>, reason: &str| v1::RuntimeCondition {
            r#type: kind.to_owned(),
            status: ready.is_ok(),
            reason: if ready.is_ok() { String::new() } else { reason.to_owned() },
            message: ready.clone().err().unwrap_or_default(),
        };
        let conditions = vec![
            condition("RuntimeReady", &runtime.ready, "RuntimeNotReady"),
            condition("NetworkReady", &runtime.network_ready, "NetworkPluginNotReady"),
        ];
        let mut info = HashMap::new();
        if request.into_inner().verbose {
            let text = serde_json::json!({
                "controllers": runtime.controllers,
                "limitsUnavailable": runtime.limits_unavailable,
                "userNamespacesUnavailable": runtime.user_namespaces.as_ref().err(),
                "root": self.0.options.root,
                "rootless": self.0.options.rootless,
            });
            info.insert("config".to_owned(), text.to_string());
        }
        Ok(Response::new(v1::StatusResponse {
            status: Some(v1::RuntimeStatus { conditions }),
            info,
            runtime_handlers: handlers(&runtime.handlers, runtime.user_namespaces.is_ok()),
            features: Some(v1::RuntimeFeatures { supplemental_groups_policy: true }),
        }))
    }

    async fn checkpoint_container(
        &self,
        _: Request<v1::CheckpointContainerRequest>,
    ) -> Result<Response<v1::CheckpointContainerResponse>, Status> {
        Err(status::of(Error::Unimplemented { detail: "containers can't be checkpointed".to_owned() }))
    }

    type GetContainerEventsStream = Events;

    async fn get_container_events(&self, _: Request<v1::GetEventsRequest>) -> Result<Response<Events>, Status> {
        let state = (self.clone(), self.0.events());
        let events = stream::unfold(state, |(service, mut events)| async move {
            match events.recv().await {
                Ok(event) => Some((Ok(service.event(&event)), (service, events))),
                // The client lists anew, as after every gap.
                Err(RecvError::Lagged(missed)) => {
                    Some((Err(Status::data_loss(format!("{missed} events were missed"))), (service, events)))
                }
                Err(RecvError::Closed) => None,
            }
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Result<Response<v1::ListMetricDescriptorsResponse>, Status> {
        Ok(Response::new(v1::ListMetricDescriptorsResponse { descriptors: metrics::descriptors() }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Result<Response<v1::ListPodSandboxMetricsResponse>, Status> {
        let mut pod_metrics = Vec::new();
        for sandbox in self.ready_sandboxes("", &HashMap::new()) {
            // One that is removed meanwhile is left out.
            let Ok((usage, containers)) = self.pod_usage(&sandbox).await else { continue };
            pod_metrics.push(metrics::of_pod(&sandbox, &usage, &containers));
        }
        Ok(Response::new(v1::ListPodSandboxMetricsResponse { pod_metrics }))
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Result<Response<v1::RuntimeConfigResponse>, Status> {
        let linux = v1::LinuxRuntimeConfiguration { cgroup_driver: v1::CgroupDriver::Cgroupfs.into() };
        Ok(Response::new(v1::RuntimeConfigResponse { linux: Some(linux) }))
    }
}

/// The default one, which has no name, and those of RuntimeClasses.
fn handlers(names: &[String], user_namespaces: bool) -> Vec<v1::RuntimeHandler> {
    let handler = |name: &str| v1::RuntimeHandler {
        name: name.to_owned(),
        features: Some(v1::RuntimeHandlerFeatures {
            recursive_read_only_mounts: true,
            user_namespaces: user_namespaces && name.is_empty(),
        }),
    };
    std::iter::once("").chain(names.iter().map(String::as_str)).map(handler).collect()
}
