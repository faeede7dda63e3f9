//! Keeps the legacy `Endpoints` of services with a selector.

use std::collections::BTreeMap;
use std::sync::Arc;

use k3s_client::Informer;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::endpointslice::{backend_pods, is_pod_ready, port_number, services_of};
use crate::queue::{Key, Queue};
use crate::{Context, Error, each_change, is_status};

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let informers = &context.informers;
    let queue: Queue<Key> = Queue::default();
    let (services, pods) = (informers.of::<Service>(), informers.of::<Pod>());
    let client = context.client.clone();
    let (of_service, of_pod) = (queue.clone(), queue.clone());
    tokio::join!(
        each_change(services.clone(), cancel.clone(), |service| of_service.add(Key::of(service))),
        each_change(pods.clone(), cancel.clone(), |pod| {
            services_of(pod, &services).into_iter().for_each(|key| of_pod.add(key));
        }),
        async {
            services.synced().await;
            pods.synced().await;
            queue
                .clone()
                .run("endpoint", 4, cancel.clone(), |key| sync(client.clone(), services.clone(), pods.clone(), key))
                .await;
        }
    );
}

async fn sync(client: Client, services: Informer<Service>, pods: Informer<Pod>, key: Key) -> Result<(), Error> {
    let api: Api<Endpoints> = Api::namespaced(client, &key.namespace);
    let Some(service) = services.get(Some(&key.namespace), &key.name) else {
        // Only what this controller made: endpoints without a service may be somebody's own.
        if api.get_opt(&key.name).await?.is_some_and(|it| it.labels().contains_key(MANAGED)) {
            let deleted = api.delete(&key.name, &DeleteParams::default()).await;
            if !is_status(&deleted, 404) {
                deleted?;
            }
        }
        return Ok(());
    };
    if service.spec.as_ref().is_none_or(|spec| spec.selector.as_ref().is_none_or(BTreeMap::is_empty)) {
        return Ok(());
    }
    let subsets = subsets(&service, &backend_pods(&service, &pods));
    let current = api.get_opt(&key.name).await?;
    let mut labels = service.labels().clone();
    labels.insert(MANAGED.to_owned(), "endpoint-controller".to_owned());
    let headless = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
    if headless {
        labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
    }
    let result = match current {
        Some(current) if current.subsets.clone().unwrap_or_default() == subsets && *current.labels() == labels => {
            return Ok(());
        }
        Some(mut current) => {
            current.subsets = Some(subsets);
            current.meta_mut().labels = Some(labels);
            api.replace(&key.name, &PostParams::default(), &current).await
        }
        None => {
            let mut endpoints = Endpoints { subsets: Some(subsets), ..Endpoints::default() };
            endpoints.metadata.name = Some(key.name.clone());
            endpoints.metadata.labels = Some(labels);
            api.create(&PostParams::default(), &endpoints).await
        }
    };
    // The namespace is going, or the cache is behind and its next change brings the key back.
    if [403, 404, 409].iter().any(|code| is_status(&result, *code)) {
        return Ok(());
    }
    result?;
    Ok(())
}

const MANAGED: &str = "endpoints.kubernetes.io/managed-by";

fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let publish_all = spec.publish_not_ready_addresses == Some(true);
    // Pods with the same port numbers share a subset.
    let mut by_ports: BTreeMap<Vec<(Option<String>, i32, String)>, EndpointSubset> = BTreeMap::new();
    for pod in pods {
        let Some(ip) = pod.status.as_ref().and_then(|status| status.pod_ip.clone()) else { continue };
        let ready = is_pod_ready(pod);
        if pod.metadata.deletion_timestamp.is_some() && !publish_all {
            continue;
        }
        let ports: Vec<_> = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
                Some((port.name.clone(), port_number(port, pod)?, protocol))
            })
            .collect();
        let address = EndpointAddress {
            ip,
            node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            target_ref: Some(pod.object_ref(&())).map(|reference| k8s_openapi::api::core::v1::ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: reference.namespace,
                name: reference.name,
                uid: reference.uid,
                ..Default::default()
            }),
            hostname: pod
                .spec
                .as_ref()
                .filter(|pod| pod.subdomain.as_deref() == service.metadata.name.as_deref())
                .and_then(|pod| pod.hostname.clone()),
        };
        let subset = by_ports.entry(ports).or_default();
        let list = if ready || publish_all { &mut subset.addresses } else { &mut subset.not_ready_addresses };
        list.get_or_insert_default().push(address);
    }
    let finish = |(ports, mut subset): (Vec<(Option<String>, i32, String)>, EndpointSubset)| {
        subset
            .addresses
            .iter_mut()
            .chain(&mut subset.not_ready_addresses)
            .for_each(|list| list.sort_by(|a, b| a.ip.cmp(&b.ip)));
        let port = |(name, port, protocol)| EndpointPort { name, port, protocol: Some(protocol), app_protocol: None };
        subset.ports = Some(ports.into_iter().map(port).collect());
        subset
    };
    by_ports.into_iter().map(finish).collect()
}
