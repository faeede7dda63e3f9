//! The answers of the cluster's zone.

use std::net::IpAddr;

use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::records::{EndpointRecord, Kind, Records, ServiceKey};

/// Seconds an answer about the cluster may be kept, as CoreDNS has it.
const TTL: u32 = 5;
/// Version of the specification that `dns-version` tells.
const VERSION: &str = "1.1.0";

/// What is said to a question about the cluster.
#[derive(Debug, Default, PartialEq)]
pub struct Answer {
    pub answers: Vec<Record>,
    pub additionals: Vec<Record>,
    /// The name exists, if perhaps not with this type. False is NXDOMAIN.
    pub exists: bool,
    /// A name outside that the answer leads to and that has to be resolved.
    pub follow: Option<Name>,
}

/// The zone of a cluster.
pub struct Zone {
    domain: Name,
    records: Records,
}

impl Zone {
    /// The zone of `domain`, such as `cluster.local.`.
    pub fn new(domain: Name, records: Records) -> Self {
        Self { domain, records }
    }

    /// Whether a name is for this zone to answer.
    pub fn has(&self, name: &Name) -> bool {
        self.domain.zone_of(name)
    }

    /// The zone's start of authority, which goes with every denial.
    pub fn soa(&self) -> Record {
        let below = |label: &str| Name::from_ascii(label).and_then(|it| it.append_domain(&self.domain));
        let server = below("ns.dns").unwrap_or_else(|_| self.domain.clone());
        let mail = below("hostmaster").unwrap_or_else(|_| self.domain.clone());
        let soa = SOA::new(server, mail, 1, 7200, 1800, 86400, TTL);
        Record::from_rdata(self.domain.clone(), TTL, RData::SOA(soa))
    }

    /// The answer to a question for a name of this zone.
    pub fn lookup(&self, name: &Name, kind: RecordType) -> Answer {
        let depth = usize::from(name.num_labels()).saturating_sub(usize::from(self.domain.num_labels()));
        let labels: Vec<String> =
            name.iter().take(depth).map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
        // From the zone outwards: svc, namespace, service, …
        let path: Vec<&str> = labels.iter().rev().map(String::as_str).collect();
        match path.as_slice() {
            [] => self.apex(name, kind),
            ["dns-version"] => typed(name, kind, [RData::TXT(TXT::new(vec![VERSION.to_owned()]))]),
            ["svc" | "pod"] => exists(),
            ["svc" | "pod", namespace] if self.records.has_namespace(namespace) => exists(),
            ["svc", namespace, service, rest @ ..] => {
                self.service(name, kind, &((*namespace).to_owned(), (*service).to_owned()), rest)
            }
            ["pod", namespace, address] if self.records.has_namespace(namespace) => {
                address_of(address).map(|it| typed(name, kind, [address_data(it)])).unwrap_or_default()
            }
            _ => Answer::default(),
        }
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Answer {
        match kind {
            RecordType::SOA => Answer { answers: vec![self.soa()], exists: true, ..Answer::default() },
            RecordType::NS => {
                let RData::SOA(soa) = self.soa().data else { return exists() };
                typed(name, kind, [RData::NS(NS(soa.mname))])
            }
            _ => exists(),
        }
    }

    fn service(&self, name: &Name, kind: RecordType, key: &ServiceKey, rest: &[&str]) -> Answer {
        let Some(service) = self.records.service(key) else { return Answer::default() };
        let headless = matches!(service.kind, Kind::Headless { .. });
        let endpoints: Vec<EndpointRecord> = match service.kind {
            Kind::Headless { not_ready_too } => {
                let all = self.records.endpoints(key).into_iter();
                all.filter(|endpoint| endpoint.ready || not_ready_too).collect()
            }
            _ => Vec::new(),
        };
        match (rest, &service.kind) {
            ([], Kind::ExternalName(target)) => {
                let Ok(mut target) = Name::from_ascii(target) else { return exists() };
                target.set_fqdn(true);
                let answers = vec![Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())))];
                Answer { answers, exists: true, follow: Some(target), ..Answer::default() }
            }
            ([], Kind::Addresses(_)) if kind == RecordType::SRV => {
                let ports = service.ports.iter().map(|port| (port.number, name.clone()));
                self.srv(name, ports.collect(), &service_addresses(&service.kind, name))
            }
            ([], Kind::Headless { .. }) if kind == RecordType::SRV => {
                self.headless_srv(name, key, &endpoints, |_| true)
            }
            ([], Kind::Addresses(addresses)) => typed(name, kind, addresses.iter().copied().map(address_data)),
            ([], Kind::Headless { .. }) => {
                // A headless service without endpoints does exist.
                let mut addresses: Vec<IpAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
                addresses.sort();
                addresses.dedup();
                typed(name, kind, addresses.into_iter().map(address_data))
            }
            ([protocol, port], _) if protocol.starts_with('_') && port.starts_with('_') => {
                let wanted = (&protocol[1..], &port[1..]);
                if headless {
                    return self
                        .headless_srv(name, key, &endpoints, |it| (it.protocol.as_str(), it.name.as_str()) == wanted);
                }
                let Some(target) = self.name_of(key, None) else { return Answer::default() };
                let ports = service.ports.iter().filter(|it| (it.protocol.as_str(), it.name.as_str()) == wanted);
                let found: Vec<_> = ports.map(|port| (port.number, target.clone())).collect();
                if found.is_empty() {
                    return Answer::default();
                }
                match kind {
                    RecordType::SRV => self.srv(name, found, &service_addresses(&service.kind, &target)),
                    _ => exists(),
                }
            }
            ([host], Kind::Headless { .. }) => {
                let matching = endpoints.iter().filter(|endpoint| endpoint.host == *host);
                let addresses: Vec<_> = matching.map(|endpoint| address_data(endpoint.address)).collect();
                if addresses.is_empty() { Answer::default() } else { typed(name, kind, addresses) }
            }
            _ => Answer::default(),
        }
    }

    /// `service.namespace.svc.DOMAIN`, or with a host in front.
    fn name_of(&self, (namespace, service): &ServiceKey, host: Option<&str>) -> Option<Name> {
        let host = host.map(|host| format!("{host}.")).unwrap_or_default();
        Name::from_ascii(format!("{host}{service}.{namespace}.svc")).ok()?.append_domain(&self.domain).ok()
    }

    fn headless_srv(
        &self,
        name: &Name,
        key: &ServiceKey,
        endpoints: &[EndpointRecord],
        wanted: impl Fn(&super::records::Port) -> bool,
    ) -> Answer {
        let mut targets = Vec::new();
        let mut additionals = Vec::new();
        for endpoint in endpoints {
            let Some(target) = self.name_of(key, Some(&endpoint.host)) else { continue };
            for port in endpoint.ports.iter().filter(|port| wanted(port)) {
                targets.push((port.number, target.clone()));
                let record = Record::from_rdata(target.clone(), TTL, address_data(endpoint.address));
                if !additionals.contains(&record) {
                    additionals.push(record);
                }
            }
        }
        self.srv(name, targets, &additionals)
    }

    fn srv(&self, name: &Name, targets: Vec<(u16, Name)>, additionals: &[Record]) -> Answer {
        // All alike: the weights share out a hundred.
        let weight = 100 / u16::try_from(targets.len().max(1)).unwrap_or(100).min(100);
        let record =
            |(port, target)| Record::from_rdata(name.clone(), TTL, RData::SRV(SRV::new(0, weight, port, target)));
        let answers = targets.into_iter().map(record).collect();
        Answer { answers, additionals: additionals.to_vec(), exists: true, follow: None }
    }

    /// The names of a cluster address; empty if the cluster does not know it.
    pub fn reverse(&self, name: &Name, address: IpAddr) -> Vec<Record> {
        let (services, nodes) = self.records.names_of(address);
        let below = |text: &String| Name::from_ascii(format!("{text}.svc")).ok()?.append_domain(&self.domain).ok();
        let host = |text: &String| Name::from_ascii(format!("{text}.")).ok();
        let targets = services.iter().filter_map(below).chain(nodes.iter().filter_map(host));
        targets.map(|target| Record::from_rdata(name.clone(), TTL, RData::PTR(PTR(target)))).collect()
    }

    /// The answer for the plain name of a node.
    pub fn node(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        let text = name.to_ascii();
        let addresses = self.records.node(text.trim_end_matches('.'))?;
        Some(typed(name, kind, addresses.into_iter().map(address_data)))
    }
}

fn exists() -> Answer {
    Answer { exists: true, ..Answer::default() }
}

/// The records of the type asked for; the name exists whether there are any.
fn typed(name: &Name, kind: RecordType, data: impl IntoIterator<Item = RData>) -> Answer {
    let wanted = data.into_iter().filter(|data| data.record_type() == kind || kind == RecordType::ANY);
    let answers = wanted.map(|data| Record::from_rdata(name.clone(), TTL, data)).collect();
    Answer { answers, exists: true, ..Answer::default() }
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(address.into()),
        IpAddr::V6(address) => RData::AAAA(address.into()),
    }
}

fn service_addresses(kind: &Kind, name: &Name) -> Vec<Record> {
    let Kind::Addresses(addresses) = kind else { return Vec::new() };
    addresses.iter().map(|address| Record::from_rdata(name.clone(), TTL, address_data(*address))).collect()
}

/// `10-42-0-3` as an address.
fn address_of(label: &str) -> Option<IpAddr> {
    label.replace('-', ".").parse().ok().or_else(|| label.replace('-', ":").parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn zone() -> Zone {
        let records = Records::of(
            json!([
                {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"clusterIP": "10.43.0.7",
                    "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}},
                {"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "None"}},
                {"metadata": {"name": "empty", "namespace": "shop"}, "spec": {"clusterIP": "None"}},
                {"metadata": {"name": "far", "namespace": "shop"}, "spec": {"type": "ExternalName", "externalName": "example.org"}}
            ]),
            json!([{"metadata": {"name": "db-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.42.0.3"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.42.0.4"], "conditions": {"ready": true}},
                {"addresses": ["10.42.0.5"], "conditions": {"ready": false}}
            ]}]),
        );
        Zone::new(Name::from_ascii("cluster.local.").unwrap(), records)
    }

    fn ask(name: &str, kind: RecordType) -> (Vec<String>, bool) {
        let answer = zone().lookup(&Name::from_ascii(format!("{name}.cluster.local.")).unwrap(), kind);
        (answer.answers.iter().map(|record| record.data.to_string()).collect(), answer.exists)
    }

    #[test]
    fn services_answer_with_their_address() {
        assert_eq!(ask("web.shop.svc", RecordType::A), (vec!["10.43.0.7".into()], true));
        assert_eq!(ask("WEB.shop.svc", RecordType::A).0.len(), 1);
        assert_eq!(ask("web.shop.svc", RecordType::AAAA), (vec![], true));
        assert_eq!(ask("none.shop.svc", RecordType::A), (vec![], false));
        assert_eq!(ask("shop.svc", RecordType::A), (vec![], true));
        assert_eq!(ask("nowhere.svc", RecordType::A), (vec![], false));
    }

    #[test]
    fn headless_services_answer_with_their_ready_endpoints() {
        assert_eq!(ask("db.shop.svc", RecordType::A), (vec!["10.42.0.3".into(), "10.42.0.4".into()], true));
        assert_eq!(ask("db-0.db.shop.svc", RecordType::A).0, ["10.42.0.3"]);
        assert_eq!(ask("10-42-0-4.db.shop.svc", RecordType::A).0, ["10.42.0.4"]);
        assert_eq!(ask("db-9.db.shop.svc", RecordType::A), (vec![], false));
        assert_eq!(ask("empty.shop.svc", RecordType::A), (vec![], true));
        let srv = ask("_sql._tcp.db.shop.svc", RecordType::SRV).0;
        assert_eq!(
            srv,
            ["0 50 5432 db-0.db.shop.svc.cluster.local.", "0 50 5432 10-42-0-4.db.shop.svc.cluster.local."]
        );
    }

    #[test]
    fn ports_pods_externals_and_the_version_have_names() {
        assert_eq!(ask("_http._tcp.web.shop.svc", RecordType::SRV).0, ["0 100 80 web.shop.svc.cluster.local."]);
        assert_eq!(ask("_ftp._tcp.web.shop.svc", RecordType::SRV), (vec![], false));
        assert_eq!(ask("10-42-0-9.shop.pod", RecordType::A).0, ["10.42.0.9"]);
        assert_eq!(ask("far.shop.svc", RecordType::A).0, ["example.org."]);
        assert_eq!(ask("dns-version", RecordType::TXT).0.len(), 1);
    }

    #[test]
    fn addresses_lead_back_to_names() {
        let names = |address: &str| -> Vec<String> {
            zone().reverse(&Name::root(), address.parse().unwrap()).iter().map(|it| it.data.to_string()).collect()
        };
        assert_eq!(names("10.43.0.7"), ["web.shop.svc.cluster.local."]);
        assert_eq!(names("10.42.0.3"), ["db-0.db.shop.svc.cluster.local."]);
        assert!(names("10.42.9.9").is_empty());
    }
}
