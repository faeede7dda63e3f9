//! What the API server is told when it starts.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use k3s_kine::Datastore;

use crate::encryption::Encryption;
use crate::{audit, authentication, authorization, relay};

/// Configuration of an [`crate::ApiServer`].
#[derive(Clone)]
pub struct Config {
    /// Where everything is kept.
    pub datastore: Arc<dyn Datastore>,
    /// What the datastore counts, to be shown at `/metrics`.
    pub datastore_metrics: Option<k3s_kine::Metrics>,
    /// What is encrypted there (`--encryption-provider-config`).
    pub encryption: Arc<Encryption>,
    /// Where the addresses of services come from (`--service-cidr`): one range, or one per family.
    pub service_cidrs: Vec<IpNet>,
    /// Where node ports come from (`--service-node-port-range`).
    pub node_ports: RangeInclusive<u16>,
    /// What other machines reach this server at: the endpoint of the `kubernetes` service.
    pub advertise_address: IpAddr,
    /// How kubelets are reached.
    pub relay: relay::Config,
    /// How users prove who they are.
    pub authentication: authentication::Config,
    /// Who decides what they may do.
    pub authorization: authorization::Config,
    /// TCP port at `advertise_address`.
    pub advertise_port: u16,
    /// Whether quotas are counted here, which is the controller manager's business: not if there is to be none.
    pub count_quotas: bool,
    /// Whether the status of policies tells what their expressions get wrong, which is the controller manager's business,
    /// too.
    pub check_policies: bool,
    /// What is written into the audit log; `None`: there is none.
    pub audit: Option<audit::Config>,
    /// Requests at a time that priority and fairness let run: `--max-requests-inflight` and
    /// `--max-mutating-requests-inflight` together.
    pub seats: u32,
    /// How long a request may take that is no stream (`--request-timeout`); a quarter of it may be spent in a queue.
    pub request_timeout: Duration,
}

impl Config {
    /// k3s's defaults over a datastore.
    pub fn new(datastore: Arc<dyn Datastore>, advertise_address: IpAddr) -> Self {
        Self {
            datastore,
            datastore_metrics: None,
            encryption: Arc::default(),
            service_cidrs: vec![IpNet::from(ipnet::Ipv4Net::new_assert([10, 43, 0, 0].into(), 16))],
            node_ports: 30000..=32767,
            advertise_address,
            advertise_port: 6443,
            authentication: authentication::Config::default(),
            authorization: authorization::Config::default(),
            relay: relay::Config::default(),
            count_quotas: true,
            check_policies: true,
            audit: None,
            seats: 400 + 200,
            request_timeout: Duration::from_secs(60),
        }
    }
}
