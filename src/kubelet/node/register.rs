//! Making the Node object, or taking up the one that is there.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, NodeSpec, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::{Retry, facts, status};
use crate::context::Context;
use crate::events::Severity;

/// Registers the node; returns when it is there.
pub(super) async fn run(ctx: &Context) {
    let api: Api<Node> = Api::all(ctx.client.clone());
    let mut retry = Retry::new();
    loop {
        match register(ctx, &api).await {
            Ok(node) => {
                tracing::info!(node = ctx.config.node_name, "node registered");
                ctx.recorder.node(&node, Severity::Normal, "Starting", "Starting kubelet.");
                return;
            }
            Err(error) => {
                tracing::warn!(%error, node = ctx.config.node_name, "cannot register node; it is tried again");
                retry.pause().await;
            }
        }
    }
}

async fn register(ctx: &Context, api: &Api<Node>) -> Result<Node, kube::Error> {
    let name = &ctx.config.node_name;
    let Some(existing) = api.get_opt(name).await? else {
        let node = Node {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(labels(ctx)),
                annotations: Some(annotations(ctx)),
                ..Default::default()
            },
            spec: Some(NodeSpec {
                provider_id: Some(provider_id(ctx)),
                taints: Some(taints(ctx)).filter(|taints| !taints.is_empty()),
                ..Default::default()
            }),
            status: Some(status::of(ctx, None, &status::observe(ctx).await)),
        };
        return api.create(&PostParams::default(), &node).await;
    };
    // What the node was registered with before may have changed with the configuration; what others have set stays.
    let missing = |wanted: BTreeMap<String, String>, present: Option<&BTreeMap<String, String>>| {
        let absent = |(key, value): &(String, String)| present.and_then(|map| map.get(key)) != Some(value);
        wanted.into_iter().filter(absent).collect::<BTreeMap<_, _>>()
    };
    let labels = missing(labels(ctx), existing.metadata.labels.as_ref());
    let annotations = missing(annotations(ctx), existing.metadata.annotations.as_ref());
    let mut patch = json!({});
    if !labels.is_empty() || !annotations.is_empty() {
        patch["metadata"] = json!({ "labels": labels, "annotations": annotations });
    }
    if existing.spec.as_ref().and_then(|spec| spec.provider_id.as_ref()).is_none() {
        patch["spec"] = json!({ "providerID": provider_id(ctx) });
    }
    if patch == json!({}) {
        return Ok(existing);
    }
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await
}

fn provider_id(ctx: &Context) -> String {
    format!("k3s://{}", ctx.config.node_name)
}

fn taints(ctx: &Context) -> Vec<Taint> {
    ctx.config.taints.clone()
}

fn labels(ctx: &Context) -> BTreeMap<String, String> {
    let arch = facts::architecture();
    let mut labels = BTreeMap::from(
        [
            ("beta.kubernetes.io/arch", arch),
            ("beta.kubernetes.io/instance-type", "k3s"),
            ("beta.kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch),
            ("kubernetes.io/hostname", ctx.config.hostname.as_str()),
            ("kubernetes.io/os", "linux"),
            ("node.kubernetes.io/instance-type", "k3s"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned())),
    );
    labels.extend(ctx.config.labels.clone());
    labels
}

fn annotations(ctx: &Context) -> BTreeMap<String, String> {
    let ips: Vec<String> = ctx.config.node_ips.iter().map(ToString::to_string).collect();
    let mut annotations = BTreeMap::from([
        ("alpha.kubernetes.io/provided-node-ip".to_owned(), ips.join(",")),
        ("k3s.io/hostname".to_owned(), ctx.config.hostname.clone()),
        ("k3s.io/internal-ip".to_owned(), ips.join(",")),
        ("volumes.kubernetes.io/controller-managed-attach-detach".to_owned(), "true".to_owned()),
    ]);
    if !ctx.config.external_ips.is_empty() {
        let ips: Vec<String> = ctx.config.external_ips.iter().map(ToString::to_string).collect();
        annotations.insert("k3s.io/external-ip".to_owned(), ips.join(","));
    }
    annotations.extend(ctx.config.annotations.clone());
    annotations
}
