//! Keeps the `EndpointSlice`s of services with a selector.

use std::collections::BTreeMap;
use std::sync::Arc;

use k3s_client::Informer;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::owner::controller_of;
use crate::queue::{Key, Queue};
use crate::{Context, Error, each_change, is_status};

/// Endpoints per slice, as in kube-controller-manager.
const MAX_ENDPOINTS: usize = 100;
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const CONTROLLER: &str = "endpointslice-controller.k8s.io";

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let informers = &context.informers;
    let queue: Queue<Key> = Queue::default();
    let (services, pods) = (informers.of::<Service>(), informers.of::<Pod>());
    let slices = informers.of::<EndpointSlice>();
    let client = context.client.clone();
    let (of_service, of_pod, of_slice) = (queue.clone(), queue.clone(), queue.clone());
    tokio::join!(
        each_change(services.clone(), cancel.clone(), |service| of_service.add(Key::of(service))),
        each_change(pods.clone(), cancel.clone(), |pod| {
            services_of(pod, &services).into_iter().for_each(|key| of_pod.add(key));
        }),
        each_change(slices.clone(), cancel.clone(), |slice| {
            if is_ours(slice)
                && let Some(service) = slice.labels().get(SERVICE_NAME)
            {
                of_slice.add(Key::beside(slice, service));
            }
        }),
        async {
            services.synced().await;
            pods.synced().await;
            slices.synced().await;
            queue
                .clone()
                .run("endpointslice", 4, cancel.clone(), |key| {
                    sync(client.clone(), services.clone(), pods.clone(), slices.clone(), key)
                })
                .await;
        }
    );
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|by| by == CONTROLLER)
}

/// The services whose selector picks a pod.
pub fn services_of(pod: &Pod, services: &Informer<Service>) -> Vec<Key> {
    let namespace = pod.namespace();
    let picks = |service: &Arc<Service>| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        service.namespace() == namespace
            && selector.is_some_and(|all| !all.is_empty() && all.iter().all(|(k, v)| pod.labels().get(k) == Some(v)))
    };
    services.list().iter().filter(|service| picks(service)).map(|service| Key::of(&**service)).collect()
}

/// The pods a service sends to, in order of their names: running ones with an address.
pub fn backend_pods(service: &Service, pods: &Informer<Pod>) -> Vec<Arc<Pod>> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    let namespace = service.namespace();
    let mut backends: Vec<_> = pods
        .list()
        .into_iter()
        .filter(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
            pod.namespace() == namespace
                && !matches!(phase, "Succeeded" | "Failed")
                && pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some())
                && selector.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
        })
        .collect();
    backends.sort_by_key(|pod| pod.name_any());
    backends
}

/// Whether a pod's Ready condition is true.
pub fn is_pod_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// The number of a service's target port in a pod; `None` if the pod has no port of that name.
pub fn port_number(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .flat_map(|container| container.ports.iter().flatten())
        .find(|it| it.name.as_ref() == Some(name) && it.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|it| it.container_port)
}

async fn sync(
    client: Client,
    services: Informer<Service>,
    pods: Informer<Pod>,
    slices: Informer<EndpointSlice>,
    key: Key,
) -> Result<(), Error> {
    let api: Api<EndpointSlice> = Api::namespaced(client, &key.namespace);
    let ours = |slice: &Arc<EndpointSlice>| {
        slice.namespace().as_deref() == Some(&key.namespace)
            && slice.labels().get(SERVICE_NAME) == Some(&key.name)
            && is_ours(slice)
    };
    let mut current: Vec<_> = slices.list().into_iter().filter(ours).collect();
    current.sort_by_key(|slice| slice.name_any());
    let service = services.get(Some(&key.namespace), &key.name).filter(|service| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|selector| !selector.is_empty())
    });
    let wanted = service.map(|service| slices_of(&service, &backend_pods(&service, &pods))).unwrap_or_default();
    let mut current = current.into_iter();
    for mut slice in wanted {
        let result = match current.next() {
            Some(have)
                if have.endpoints == slice.endpoints
                    && have.ports == slice.ports
                    && have.labels() == slice.labels() =>
            {
                continue;
            }
            Some(have) => {
                slice.metadata.name = have.metadata.name.clone();
                slice.metadata.generate_name = None;
                slice.metadata.resource_version = have.resource_version();
                api.replace(&have.name_any(), &PostParams::default(), &slice).await
            }
            None => api.create(&PostParams::default(), &slice).await,
        };
        // The namespace is going, or the cache is behind and its next change brings the key back.
        if [403, 404, 409].iter().any(|code| is_status(&result, *code)) {
            return Ok(());
        }
        result?;
    }
    for slice in current {
        let result = api.delete(&slice.name_any(), &DeleteParams::default()).await;
        if !is_status(&result, 404) {
            result?;
        }
    }
    Ok(())
}

fn slices_of(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSlice> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let mut labels = service.labels().clone();
    labels.insert(SERVICE_NAME.to_owned(), service.name_any());
    labels.insert(MANAGED_BY.to_owned(), CONTROLLER.to_owned());
    if spec.cluster_ip.as_deref() == Some("None") {
        labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    }
    // Pods where a named port has another number need slices of their own.
    let mut by_ports: BTreeMap<Vec<Option<i32>>, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        let numbers = spec.ports.iter().flatten().map(|port| port_number(port, pod)).collect();
        by_ports.entry(numbers).or_default().push(pod);
    }
    if by_ports.is_empty() {
        by_ports.insert(Vec::new(), Vec::new());
    }
    let mut slices = Vec::new();
    for (numbers, pods) in by_ports {
        let ports: Vec<EndpointPort> = spec
            .ports
            .iter()
            .flatten()
            .zip(numbers)
            .filter_map(|(port, number)| {
                Some(EndpointPort {
                    name: Some(port.name.clone().unwrap_or_default()),
                    port: Some(number?),
                    protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                    app_protocol: port.app_protocol.clone(),
                })
            })
            .collect();
        let chunks: Vec<&[&Arc<Pod>]> = if pods.is_empty() { vec![&[]] } else { pods.chunks(MAX_ENDPOINTS).collect() };
        for chunk in chunks {
            let mut slice = EndpointSlice {
                address_type: spec.ip_families.iter().flatten().next().cloned().unwrap_or_else(|| "IPv4".to_owned()),
                endpoints: Some(chunk.iter().map(|pod| endpoint(service, pod)).collect()),
                ports: Some(ports.clone()),
                ..EndpointSlice::default()
            };
            slice.metadata.generate_name = Some(format!("{}-", service.name_any()));
            slice.metadata.namespace = service.namespace();
            slice.metadata.labels = Some(labels.clone());
            slice.metadata.owner_references = Some(vec![controller_of(service)]);
            slices.push(slice);
        }
    }
    slices
}

fn endpoint(service: &Service, pod: &Pod) -> Endpoint {
    let publish_all = service.spec.as_ref().is_some_and(|spec| spec.publish_not_ready_addresses == Some(true));
    let serving = is_pod_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let spec = pod.spec.as_ref();
    Endpoint {
        addresses: pod.status.iter().filter_map(|status| status.pod_ip.clone()).collect(),
        conditions: Some(EndpointConditions {
            ready: Some(publish_all || serving && !terminating),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec
            .filter(|spec| spec.subdomain.as_deref() == service.metadata.name.as_deref())
            .and_then(|spec| spec.hostname.clone()),
        node_name: spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn named_ports_are_looked_up_in_each_pod() {
        let service: Service = from_value(json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "u"},
            "spec": {"selector": {"a": "b"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}
        }))
        .unwrap();
        let pod = |name: &str, port: i32, ready: &str| -> Arc<Pod> {
            from_value(json!({
                "metadata": {"name": name, "namespace": "n"},
                "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
                "status": {"podIP": "10.42.0.2", "conditions": [{"type": "Ready", "status": ready}]}
            }))
            .map(Arc::new)
            .unwrap()
        };
        let slices = slices_of(&service, &[pod("a", 8080, "True"), pod("b", 9090, "False"), pod("c", 8080, "True")]);
        assert_eq!(slices.len(), 2);
        let ports: Vec<_> = slices.iter().map(|slice| slice.ports.as_ref().unwrap()[0].port.unwrap()).collect();
        assert_eq!(ports, [8080, 9090]);
        assert_eq!(slices[0].endpoints.as_ref().unwrap().len(), 2);
        let conditions = slices[1].endpoints.as_ref().unwrap()[0].conditions.clone().unwrap();
        assert_eq!((conditions.ready, conditions.serving), (Some(false), Some(false)));
        assert_eq!(slices_of(&service, &[]).len(), 1);
    }
}
