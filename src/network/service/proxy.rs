//! Leads the kernel's table to the ruleset of the moment.

use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;

use super::conntrack::{self, Targets};
use super::host_port::HostPort;
use super::port::{ServicePort, service_ports};
use super::rules::{Surroundings, ruleset};
use crate::Error;
use crate::nft::{Ruleset, Socket, Transaction};

/// The one table, of family `ip`.
pub(crate) const TABLE: &str = "k3s";

/// Keeps the table. What the kernel holds is known from the last commit.
pub(crate) struct Proxy {
    node: String,
    around: Surroundings,
    socket: Arc<Mutex<Socket>>,
    /// `None`: unknown, so that the table is made anew.
    applied: Option<Ruleset>,
    udp: Targets,
}

impl Proxy {
    pub(crate) fn new(node: String, around: Surroundings, socket: Socket) -> Self {
        Self { node, around, socket: Arc::new(Mutex::new(socket)), applied: None, udp: Targets::new() }
    }

    /// Makes the table say what these objects say; gives the service ports they have.
    pub(crate) async fn sync(
        &mut self,
        services: &[Arc<Service>],
        slices: &[Arc<EndpointSlice>],
        host_ports: &[HostPort],
    ) -> Result<Vec<ServicePort>, Error> {
        let started = Instant::now();
        let ports = service_ports(services, slices, &self.node);
        let wanted = ruleset(&self.around, &ports, host_ports);
        let whole = self.applied.is_none();
        let transaction = match self.applied.take() {
            Some(applied) => wanted.update(&applied, TABLE),
            None => wanted.replacement(TABLE),
        };
        if !transaction.is_empty() {
            // If it is refused nothing is known about the table, and the next attempt makes it anew.
            self.commit(transaction).await?;
            tracing::debug!(services = ports.len(), whole, took = ?started.elapsed(), "services synced");
        }
        self.applied = Some(wanted);
        self.forget_udp(conntrack::targets(&ports, host_ports)).await;
        Ok(ports)
    }

    async fn commit(&self, transaction: Transaction) -> Result<(), Error> {
        let socket = self.socket.clone();
        blocking(move || socket.lock().commit(&transaction)).await
    }

    /// What stays of an old connection is a nuisance, not a failure: it ends by its timeout.
    async fn forget_udp(&mut self, now: Targets) {
        let changed = conntrack::changed(&self.udp, &now);
        self.udp = now;
        if changed.is_empty() {
            return;
        }
        let socket = self.socket.clone();
        match blocking(move || conntrack::forget(&mut socket.lock(), &changed)).await {
            Ok(0) => {}
            Ok(connections) => tracing::debug!(connections, "forgot UDP connections to former endpoints"),
            Err(error) => tracing::warn!(%error, "UDP connections to former endpoints stay until they time out"),
        }
    }
}

/// Removes the table, if it is there.
pub(crate) async fn remove_table() -> Result<(), Error> {
    blocking(|| Socket::open()?.commit(&Transaction::removal(TABLE))).await
}

/// Runs what the kernel does in the caller's time on a thread that may wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let doing = || "wait for a netlink thread".to_owned();
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Netfilter { doing: doing(), source: std::io::Error::other(error) })?
}
