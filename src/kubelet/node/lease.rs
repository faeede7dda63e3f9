//! The node's heartbeat: its Lease in kube-node-lease.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::PostParams;

use crate::context::Context;

const NAMESPACE: &str = "kube-node-lease";
const DURATION_SECONDS: i32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// Renews the lease for ever.
pub(super) async fn run(ctx: &Context) {
    let api: Api<Lease> = Api::namespaced(ctx.client.clone(), NAMESPACE);
    let mut held: Option<Lease> = None;
    let mut retry = super::Retry::new();
    loop {
        match renew(ctx, &api, held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                retry = super::Retry::new();
                tokio::time::sleep(RENEW_EVERY).await;
            }
            Err(error) => {
                // Forgetting what was held reads the lease anew, which resolves a conflict.
                tracing::debug!(%error, "node lease not renewed; it is tried again");
                retry.pause().await;
            }
        }
    }
}

async fn renew(ctx: &Context, api: &Api<Lease>, held: Option<Lease>) -> Result<Lease, kube::Error> {
    let name = &ctx.config.node_name;
    let current = match held {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(DURATION_SECONDS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..Default::default()
    };
    match current {
        Some(mut lease) => {
            lease.spec = Some(spec);
            if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) {
                lease.metadata.owner_references = owner(ctx).await?.map(|owner| vec![owner]);
            }
            api.replace(name, &PostParams::default(), &lease).await
        }
        None => {
            let metadata = ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(NAMESPACE.into()),
                owner_references: owner(ctx).await?.map(|owner| vec![owner]),
                ..Default::default()
            };
            api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await
        }
    }
}

/// The lease goes with its node.
async fn owner(ctx: &Context) -> Result<Option<OwnerReference>, kube::Error> {
    let node = Api::<Node>::all(ctx.client.clone()).get_opt(&ctx.config.node_name).await?;
    Ok(node.map(|node| OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: ctx.config.node_name.clone(),
        uid: node.metadata.uid.unwrap_or_default(),
        ..Default::default()
    }))
}
