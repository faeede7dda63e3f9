//! What the cluster's names are made of: services, their endpoints and the nodes, by name.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k3s_client::{Change, Changes, Informer, Informers, Resource};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

/// Namespace and name.
pub type ServiceKey = (String, String);

/// A named port; the name may be empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    pub name: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    pub number: u16,
}

/// How a service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Addresses(Vec<IpAddr>),
    Headless { not_ready_too: bool },
    ExternalName(String),
}

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRecord {
    pub kind: Kind,
    pub ports: Vec<Port>,
}

/// An address behind a headless service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointRecord {
    pub address: IpAddr,
    /// The pod's host name, or the address with dashes.
    pub host: String,
    pub ready: bool,
    pub ports: Vec<Port>,
}

#[derive(Default)]
struct Tables {
    services: HashMap<ServiceKey, ServiceRecord>,
    /// By service, then by slice.
    endpoints: HashMap<ServiceKey, BTreeMap<String, Vec<EndpointRecord>>>,
    nodes: HashMap<String, Vec<IpAddr>>,
}

/// The records, kept up to date. Clones share them.
#[derive(Clone, Default)]
pub struct Records {
    tables: Arc<RwLock<Tables>>,
    /// Kinds whose first list is in.
    complete: Arc<AtomicUsize>,
}

const KINDS: usize = 3;

impl Records {
    /// Records that follow the cluster until cancelled.
    pub fn follow(informers: &Informers, cancel: CancellationToken) -> Self {
        let records = Self::default();
        records.spawn(informers.of::<Service>(), &cancel, Tables::set_service, Tables::drop_service);
        records.spawn(informers.of::<EndpointSlice>(), &cancel, Tables::set_slice, Tables::drop_slice);
        records.spawn(informers.of::<Node>(), &cancel, Tables::set_node, Tables::drop_node);
        records
    }

    /// Whether all kinds have been listed.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed) == KINDS
    }

    fn spawn<K: Resource>(
        &self,
        informer: Informer<K>,
        cancel: &CancellationToken,
        set: fn(&mut Tables, &K),
        remove: fn(&mut Tables, &K),
    ) {
        let (records, cancel) = (self.clone(), cancel.clone());
        let mut changes: Changes<K> = informer.subscribe();
        tokio::spawn(async move {
            informer.synced().await;
            let mut known: HashMap<String, Arc<K>> = HashMap::new();
            records.relist(&informer, &mut known, set, remove);
            records.complete.fetch_add(1, Ordering::Relaxed);
            loop {
                let change = tokio::select! {
                    () = cancel.cancelled() => return,
                    change = changes.next() => change,
                };
                match change {
                    Some(Change::Applied(object)) => {
                        set(&mut records.tables.write(), &object);
                        known.insert(object.uid().unwrap_or_default(), object);
                    }
                    Some(Change::Deleted(object)) => {
                        remove(&mut records.tables.write(), &object);
                        known.remove(&object.uid().unwrap_or_default());
                    }
                    Some(Change::Relisted) => records.relist(&informer, &mut known, set, remove),
                    None => return,
                }
            }
        });
    }

    fn relist<K: Resource>(
        &self,
        informer: &Informer<K>,
        known: &mut HashMap<String, Arc<K>>,
        set: fn(&mut Tables, &K),
        remove: fn(&mut Tables, &K),
    ) {
        let mut tables = self.tables.write();
        known.values().for_each(|object| remove(&mut tables, object));
        known.clear();
        for object in informer.list() {
            set(&mut tables, &object);
            known.insert(object.uid().unwrap_or_default(), object);
        }
    }

    /// A service.
    pub fn service(&self, key: &ServiceKey) -> Option<ServiceRecord> {
        self.tables.read().services.get(key).cloned()
    }

    /// The endpoints of a service, by slice and in the slice's order.
    pub fn endpoints(&self, key: &ServiceKey) -> Vec<EndpointRecord> {
        self.tables
            .read()
            .endpoints
            .get(key)
            .into_iter()
            .flat_map(|slices| slices.values().flatten().cloned())
            .collect()
    }

    /// Whether anything has that namespace.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.tables.read().services.keys().any(|(have, _)| have == namespace)
    }

    /// The addresses of a node of that name.
    pub fn node(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.tables.read().nodes.get(name).cloned()
    }

    /// The names that an address has below `svc`: `service.namespace` or `host.service.namespace`; and nodes.
    pub fn names_of(&self, address: IpAddr) -> (Vec<String>, Vec<String>) {
        let tables = self.tables.read();
        let of_service = tables.services.iter().filter_map(|((namespace, name), service)| match &service.kind {
            Kind::Addresses(addresses) if addresses.contains(&address) => Some(format!("{name}.{namespace}")),
            _ => None,
        });
        let of_endpoint = tables.endpoints.iter().flat_map(|((namespace, name), slices)| {
            let headless = tables
                .services
                .get(&(namespace.clone(), name.clone()))
                .is_some_and(|service| matches!(service.kind, Kind::Headless { .. }));
            let matching = slices.values().flatten().filter(move |endpoint| headless && endpoint.address == address);
            matching.map(move |endpoint| format!("{}.{name}.{namespace}", endpoint.host))
        });
        let nodes = tables.nodes.iter().filter(|(_, addresses)| addresses.contains(&address));
        (of_service.chain(of_endpoint).collect(), nodes.map(|(name, _)| name.clone()).collect())
    }
}

fn key<K: ResourceExt>(object: &K) -> ServiceKey {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn port(name: Option<&String>, protocol: Option<&String>, number: Option<i32>) -> Option<Port> {
    Some(Port {
        name: name.cloned().unwrap_or_default(),
        protocol: protocol.map_or("tcp".to_owned(), |protocol| protocol.to_ascii_lowercase()),
        number: u16::try_from(number?).ok()?,
    })
}

fn slice_key(slice: &EndpointSlice) -> Option<ServiceKey> {
    Some((slice.namespace()?, slice.labels().get("kubernetes.io/service-name")?.clone()))
}

impl Tables {
    fn set_service(&mut self, service: &Service) {
        let Some(spec) = &service.spec else { return };
        let kind = match (spec.type_.as_deref(), spec.cluster_ip.as_deref()) {
            (Some("ExternalName"), _) => Kind::ExternalName(spec.external_name.clone().unwrap_or_default()),
            (_, Some("None")) => Kind::Headless { not_ready_too: spec.publish_not_ready_addresses == Some(true) },
            _ => {
                let all = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
                let mut addresses: Vec<IpAddr> = all.filter_map(|text| text.parse().ok()).collect();
                addresses.dedup();
                Kind::Addresses(addresses)
            }
        };
        let ports = spec.ports.iter().flatten();
        let ports = ports.filter_map(|it| port(it.name.as_ref(), it.protocol.as_ref(), Some(it.port))).collect();
        self.services.insert(key(service), ServiceRecord { kind, ports });
    }

    fn drop_service(&mut self, service: &Service) {
        self.services.remove(&key(service));
    }

    fn set_slice(&mut self, slice: &EndpointSlice) {
        let Some(key) = slice_key(slice) else { return };
        let ports: Vec<Port> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|it| port(it.name.as_ref(), it.protocol.as_ref(), it.port))
            .collect();
        let records = slice.endpoints.iter().flatten().flat_map(|endpoint| {
            let ready = endpoint.conditions.as_ref().and_then(|it| it.ready).unwrap_or(true);
            let ports = ports.clone();
            endpoint.addresses.iter().filter_map(move |text| {
                let address: IpAddr = text.parse().ok()?;
                let host = endpoint.hostname.clone().unwrap_or_else(|| text.replace(['.', ':'], "-"));
                Some(EndpointRecord { address, host, ready, ports: ports.clone() })
            })
        });
        let records = records.collect();
        self.endpoints.entry(key).or_default().insert(slice.name_any(), records);
    }

    fn drop_slice(&mut self, slice: &EndpointSlice) {
        let Some(key) = slice_key(slice) else { return };
        if let Some(slices) = self.endpoints.get_mut(&key) {
            slices.remove(&slice.name_any());
            if slices.is_empty() {
                self.endpoints.remove(&key);
            }
        }
    }

    fn set_node(&mut self, node: &Node) {
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let internal = addresses.filter(|address| address.type_ == "InternalIP");
        self.nodes.insert(node.name_any(), internal.filter_map(|it| it.address.parse().ok()).collect());
    }

    fn drop_node(&mut self, node: &Node) {
        self.nodes.remove(&node.name_any());
    }
}

#[cfg(test)]
impl Records {
    pub fn of(services: serde_json::Value, slices: serde_json::Value) -> Self {
        let records = Self::default();
        let services: Vec<Service> = serde_json::from_value(services).unwrap();
        let slices: Vec<EndpointSlice> = serde_json::from_value(slices).unwrap();
        services.iter().for_each(|it| records.tables.write().set_service(it));
        slices.iter().for_each(|it| records.tables.write().set_slice(it));
        records
    }
}
