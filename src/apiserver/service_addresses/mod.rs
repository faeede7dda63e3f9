//! What services get from the server: IP families, cluster addresses and node ports.
//!
//! A cluster address belongs to who creates the `IPAddress` object of that name: the datastore's compare-and-swap
//! decides, so two servers on one datastore can't give out the same one. A node port belongs to the service that has
//! it; one lock in this process covers choosing ports until the service is stored and the cache has seen it. A crash
//! between an address and its service leaves an `IPAddress` without a service, which the next start removes.

mod families;
mod pool;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::Timestamp;
use k3s_api::object::{self, at, section_mut, text};
use k3s_api::status::Status;
use k3s_api::validation::{FieldError, Path, Verbatim};
use k3s_kine::Revision;
use serde_json::{Value, json};
use tokio::sync::OwnedMutexGuard;

use crate::call::Call;
use crate::registry::{self, Entry, Outcome, Registry, Row, known};
use pool::Ports;

/// Gives out addresses and ports.
pub(crate) struct ServiceAddresses {
    ranges: Vec<IpNet>,
    ports: Arc<tokio::sync::Mutex<Ports>>,
}

/// What a service has been given but not been stored with yet. Dropped without [`Reserved::keep`], ports are free again;
/// addresses are given back by [`ServiceAddresses`] when it next finds them unused.
#[derive(Default)]
pub(crate) struct Reserved {
    ports: Option<OwnedMutexGuard<Ports>>,
    chosen: Vec<u16>,
    addresses: Option<Addresses>,
}

/// Addresses that are given back unless the service is stored.
struct Addresses {
    registry: Arc<Registry>,
    taken: Vec<IpAddr>,
}

impl Drop for Addresses {
    fn drop(&mut self) {
        let (registry, taken) = (Arc::clone(&self.registry), std::mem::take(&mut self.taken));
        if taken.is_empty() {
            return;
        }
        tokio::spawn(async move {
            for address in taken {
                if let Err(error) = give_back(&registry, address).await {
                    tracing::warn!(%error, %address, "cannot give an unused service address back");
                }
            }
        });
    }
}

impl Reserved {
    /// The service is stored, at that revision.
    pub fn keep(mut self, revision: Revision) {
        if let Some(ports) = &mut self.ports {
            ports.keep(&self.chosen, revision);
        }
        if let Some(addresses) = &mut self.addresses {
            addresses.taken.clear();
        }
    }
}

fn refuse(service: &Value, error: FieldError) -> Status {
    Status::invalid("", "Service", object::name(service), vec![error.into()])
}

fn type_of(service: &Value) -> &str {
    text(service, &["spec", "type"]).unwrap_or("ClusterIP")
}

fn needs_cluster_ip(service: &Value) -> bool {
    matches!(type_of(service), "ClusterIP" | "NodePort" | "LoadBalancer")
}

fn needs_node_ports(service: &Value) -> bool {
    let load_balancer =
        || at(service, &["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool).unwrap_or(true);
    match type_of(service) {
        "NodePort" => true,
        "LoadBalancer" => load_balancer(),
        _ => false,
    }
}

fn needs_health_check_port(service: &Value) -> bool {
    type_of(service) == "LoadBalancer" && text(service, &["spec", "externalTrafficPolicy"]) == Some("Local")
}

fn is_service(row: &Row) -> bool {
    row.group.is_empty() && row.plural == "services"
}

impl ServiceAddresses {
    pub fn new(ranges: &[IpNet], ports: std::ops::RangeInclusive<u16>) -> Self {
        Self { ranges: ranges.to_vec(), ports: Arc::new(tokio::sync::Mutex::new(Ports::new(ports))) }
    }

    /// Gives a service what it lacks, and takes what it asks for by name. Does nothing for other resources.
    ///
    /// # Errors
    /// 422 if what it asks for is taken or cannot be had.
    pub async fn reserve(
        &self,
        call: &Call,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Reserved, Status> {
        if !is_service(&call.row) || !call.info.subresource.is_empty() {
            return Ok(Reserved::default());
        }
        families::settle(service, old, &self.ranges)?;
        let mut reserved = Reserved::default();
        if needs_cluster_ip(service) && text(service, &["spec", "clusterIP"]) != Some("None") {
            let had = old.filter(|old| needs_cluster_ip(old)).map(cluster_ips).unwrap_or_default();
            self.take_addresses(call, service, &had, dry_run, &mut reserved).await?;
        }
        if text(service, &["spec", "clusterIP"]) == Some("None") {
            section_mut(service, "spec").insert("clusterIPs".to_owned(), json!(["None"]));
        }
        if needs_node_ports(service) || needs_health_check_port(service) {
            self.take_ports(call, service, old, dry_run, &mut reserved).await?;
        }
        Ok(reserved)
    }

    /// Takes back what a service had that is gone.
    pub async fn release(&self, call: &Call, entry: &Entry) -> Result<(), Status> {
        if is_service(&call.row) {
            for address in cluster_ips(&*entry.value()?) {
                give_back(call.registry(), address).await?;
            }
        }
        Ok(())
    }

    /// Takes back what a service had before an update and no longer has.
    pub async fn release_unused(&self, call: &Call, old: &Value, new: &Value) -> Result<(), Status> {
        if is_service(&call.row) {
            let kept = cluster_ips(new);
            for address in cluster_ips(old).into_iter().filter(|address| !kept.contains(address)) {
                give_back(call.registry(), address).await?;
            }
        }
        Ok(())
    }

    async fn take_addresses(
        &self,
        call: &Call,
        service: &mut Value,
        had: &[IpAddr],
        dry_run: bool,
        reserved: &mut Reserved,
    ) -> Result<(), Status> {
        let families = families::of(service);
        let mut wanted: Vec<String> = texts(at(service, &["spec", "clusterIPs"]));
        if wanted.is_empty() {
            wanted.extend(text(service, &["spec", "clusterIP"]).filter(|ip| !ip.is_empty()).map(str::to_owned));
        }
        let guard = reserved
            .addresses
            .get_or_insert_with(|| Addresses { registry: call.server.shared_registry(), taken: Vec::new() });
        let mut addresses = Vec::new();
        for (index, family) in families.iter().enumerate() {
            let Some(range) = self.ranges.iter().find(|range| families::name(range) == family) else { continue };
            let address = match wanted.get(index) {
                Some(given) => match given.parse() {
                    Ok(address) if had.contains(&address) => address,
                    Ok(address) => {
                        take_this(call, service, range, address, dry_run, &mut guard.taken).await.map_err(|why| {
                            let shown = Verbatim(json!(wanted).to_string());
                            let spec = Path::new("spec");
                            why.into_status(|why| {
                                let detail = format!("failed to allocate IP {given}: {why}");
                                refuse(service, FieldError::invalid(&spec.child("clusterIPs"), shown, detail))
                            })
                        })?;
                        address
                    }
                    // Validation has seen it.
                    Err(_) => continue,
                },
                None => take_any(call, service, range, dry_run, &mut guard.taken).await?,
            };
            addresses.push(address.to_string());
        }
        let spec = section_mut(service, "spec");
        if let Some(first) = addresses.first() {
            spec.insert("clusterIP".to_owned(), first.clone().into());
        }
        spec.insert("clusterIPs".to_owned(), json!(addresses));
        Ok(())
    }

    async fn take_ports(
        &self,
        call: &Call,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
        reserved: &mut Reserved,
    ) -> Result<(), Status> {
        let mut ports = Arc::clone(&self.ports).lock_owned().await;
        let listing = call.registry().list(known::services(), "").await?;
        ports.refresh(&listing)?;
        let own: BTreeSet<u16> = old.map(node_ports).unwrap_or_default().into_iter().collect();
        let mut chosen = Vec::new();
        let spec_path = Path::new("spec");
        if needs_node_ports(service) {
            let list = at(service, &["spec", "ports"]).and_then(Value::as_array).cloned().unwrap_or_default();
            let number = |port: &Value, field: &str| port.get(field).and_then(Value::as_i64).unwrap_or_default();
            let mut result = list.clone();
            for (index, port) in list.iter().enumerate() {
                let given = u16::try_from(number(port, "nodePort")).unwrap_or_default();
                if given != 0 {
                    let shared = result[..index].iter().any(|other| number(other, "nodePort") == i64::from(given));
                    if !own.contains(&given) && !shared {
                        let all = spec_path.child("ports");
                        let at = all.index(index);
                        ports.check(given).map_err(|why| {
                            refuse(service, FieldError::invalid(&at.child("nodePort"), i64::from(given), why))
                        })?;
                        chosen.push(given);
                    }
                }
            }
            for index in 0..result.len() {
                if number(&result[index], "nodePort") != 0 {
                    continue;
                }
                // One port number over several protocols is one node port.
                let same = result[..index].iter().find(|other| {
                    number(other, "port") == number(&result[index], "port")
                        && other.get("protocol") != result[index].get("protocol")
                });
                let port = match same.map(|other| number(other, "nodePort")) {
                    Some(port) if port != 0 => port,
                    _ => {
                        let port = ports.any(&chosen).ok_or_else(|| Status::internal("range is full"))?;
                        chosen.push(port);
                        i64::from(port)
                    }
                };
                result[index]["nodePort"] = port.into();
            }
            section_mut(service, "spec").insert("ports".to_owned(), result.into());
        }
        if needs_health_check_port(service) {
            let given = at(service, &["spec", "healthCheckNodePort"]).and_then(Value::as_i64).unwrap_or_default();
            let given = u16::try_from(given).unwrap_or_default();
            if given == 0 {
                let port = ports.any(&chosen).ok_or_else(|| Status::internal("range is full"))?;
                chosen.push(port);
                section_mut(service, "spec").insert("healthCheckNodePort".to_owned(), port.into());
            } else if !own.contains(&given) {
                ports.check(given).map_err(|why| {
                    let why = format!("failed to allocate requested HealthCheck NodePort {given}: {why}");
                    Status::internal(why)
                })?;
                chosen.push(given);
            }
        }
        if !dry_run {
            reserved.chosen = chosen;
            reserved.ports = Some(ports);
        }
        Ok(())
    }
}

/// Removes the `IPAddress` objects of services that are no longer there.
pub(crate) async fn repair(registry: &Registry) -> Result<(), registry::Error> {
    let services = registry.list(known::services(), "").await?;
    let mut used = BTreeSet::new();
    for entry in &services.entries {
        used.extend(cluster_ips(&*entry.value()?));
    }
    for entry in registry.list(known::ip_addresses(), "").await?.entries {
        let ours = object::label(&*entry.value()?, MANAGED_BY) == Some(MANAGER);
        if ours && entry.name().parse().is_ok_and(|address: IpAddr| !used.contains(&address)) {
            tracing::info!(address = entry.name(), "a service address without a service is free again");
            registry.delete(known::ip_addresses(), &entry).await?;
        }
    }
    Ok(())
}

const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

/// Why an address could not be had.
enum Taken {
    Refused(&'static str),
    Failed(Status),
}

impl Taken {
    fn into_status(self, refuse: impl FnOnce(&str) -> Status) -> Status {
        match self {
            Self::Refused(why) => refuse(why),
            Self::Failed(status) => status,
        }
    }
}

async fn take_this(
    call: &Call,
    service: &Value,
    range: &IpNet,
    address: IpAddr,
    dry_run: bool,
    taken: &mut Vec<IpAddr>,
) -> Result<(), Taken> {
    if !range.contains(&address) {
        return Err(Taken::Refused("the provided network does not match the current range"));
    }
    if address == range.network() || address == range.broadcast() {
        return Err(Taken::Refused("the provided IP is not in the valid range"));
    }
    match take(call, service, address, dry_run).await.map_err(Taken::Failed)? {
        true => taken.push(address),
        false => return Err(Taken::Refused("provided IP is already allocated")),
    }
    Ok(())
}

/// How many random addresses are tried before all are looked through.
const RANDOM_ATTEMPTS: usize = 16;

async fn take_any(
    call: &Call,
    service: &Value,
    range: &IpNet,
    dry_run: bool,
    taken: &mut Vec<IpAddr>,
) -> Result<IpAddr, Status> {
    let random = (0..RANDOM_ATTEMPTS).map(|_| pool::random_host(range));
    for address in random.chain(range.hosts()) {
        let known = call.registry().cache(known::ip_addresses()).await?.get(&address.to_string()).is_some();
        if !known && take(call, service, address, dry_run).await? {
            if !dry_run {
                taken.push(address);
            }
            return Ok(address);
        }
    }
    Err(Status::internal("failed to allocate a serviceIP: range is full"))
}

/// Creates the `IPAddress` of that name; false if it is there already.
async fn take(call: &Call, service: &Value, address: IpAddr, dry_run: bool) -> Result<bool, Status> {
    let row = known::ip_addresses();
    if dry_run {
        return Ok(call.registry().get(row, "", &address.to_string()).await?.is_none());
    }
    let mut value = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {
            "name": address.to_string(),
            "uid": object::new_uid(),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": if address.is_ipv4() { "IPv4" } else { "IPv6" },
                MANAGED_BY: MANAGER,
            },
        },
        "spec": {"parentRef": {
            "group": "", "resource": "services", "namespace": call.namespace(), "name": object::name(service),
        }},
    });
    object::set_metadata_time(&mut value, "creationTimestamp", Timestamp::now());
    if row.strategy.generation {
        object::metadata_mut(&mut value).insert("generation".to_owned(), 1.into());
    }
    let created = call.registry().create(row, &address.to_string(), object::encode(&value), 0).await?;
    Ok(matches!(created, Outcome::Done(_)))
}

async fn give_back(registry: &Registry, address: IpAddr) -> Result<(), registry::Error> {
    let row = known::ip_addresses();
    let Some(entry) = registry.get(row, "", &address.to_string()).await? else { return Ok(()) };
    registry.delete(row, &entry).await.map(drop)
}

fn texts(list: Option<&Value>) -> Vec<String> {
    let list = list.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn cluster_ips(service: &Value) -> Vec<IpAddr> {
    let mut addresses = texts(at(service, &["spec", "clusterIPs"]));
    addresses.extend(text(service, &["spec", "clusterIP"]).map(str::to_owned));
    let mut addresses: Vec<IpAddr> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// All node ports of a service, that for health checks too.
fn node_ports(service: &Value) -> Vec<u16> {
    let ports = at(service, &["spec", "ports"]).and_then(Value::as_array);
    let ports = ports.into_iter().flatten().filter_map(|port| port.get("nodePort"));
    let health = at(service, &["spec", "healthCheckNodePort"]);
    ports.chain(health).filter_map(Value::as_u64).filter_map(|p| u16::try_from(p).ok()).filter(|p| *p != 0).collect()
}
