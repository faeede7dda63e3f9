//! Fills cluster roles with an aggregation rule (`admin`, `edit`, `view`) with the rules of the roles they select.

use std::sync::Arc;

use k3s_client::Informer;
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use tokio_util::sync::CancellationToken;

use crate::owner::selects;
use crate::queue::Queue;
use crate::{Context, Error, each_change, is_status};

pub async fn run(context: Arc<Context>, cancel: CancellationToken) {
    let queue: Queue<String> = Queue::default();
    let roles = context.informers.of::<ClusterRole>();
    let client = context.client.clone();
    let adder = queue.clone();
    tokio::join!(
        each_change(roles.clone(), cancel.clone(), |_| {
            // Any role may be part of any other; there are few with a rule.
            let aggregated = roles.list().into_iter().filter(|role| role.aggregation_rule.is_some());
            aggregated.for_each(|role| adder.add(role.name_any()));
        }),
        async {
            roles.synced().await;
            queue
                .clone()
                .run("clusterroleaggregation", 1, cancel.clone(), |name| fill(client.clone(), roles.clone(), name))
                .await;
        }
    );
}

async fn fill(client: Client, roles: Informer<ClusterRole>, name: String) -> Result<(), Error> {
    let Some(role) = roles.get(None, &name) else { return Ok(()) };
    let rules = aggregate(&role, &roles.list());
    if role.rules.clone().unwrap_or_default() == rules {
        return Ok(());
    }
    let api: Api<ClusterRole> = Api::all(client);
    let patch = serde_json::json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules,
    });
    let params = PatchParams::apply("clusterrole-aggregation-controller").force();
    let patched = api.patch(&name, &params, &Patch::Apply(&patch)).await;
    if is_status(&patched, 404) {
        return Ok(());
    }
    patched?;
    Ok(())
}

/// The rules of all selected roles, in order of their names, each once.
fn aggregate(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<PolicyRule> {
    let selectors = role.aggregation_rule.iter().flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    let selectors: Vec<_> = selectors.collect();
    let other = |one: &&Arc<ClusterRole>| {
        one.metadata.name != role.metadata.name && selectors.iter().any(|selector| selects(selector, &***one))
    };
    let mut selected: Vec<_> = all.iter().filter(other).collect();
    selected.sort_by_key(|role| role.name_any());
    let mut rules: Vec<PolicyRule> = Vec::new();
    for rule in selected.into_iter().flat_map(|role| role.rules.iter().flatten()) {
        if !rules.contains(rule) {
            rules.push(rule.clone());
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    #[test]
    fn rules_of_selected_roles_are_joined_once() {
        let role = |name: &str, label: &str, resource: &str| -> Arc<ClusterRole> {
            from_value(json!({"metadata": {"name": name, "labels": {"to": label}},
                "rules": [{"apiGroups": [""], "resources": [resource], "verbs": ["get"]}]}))
            .map(Arc::new)
            .unwrap()
        };
        let view: ClusterRole = from_value(json!({"metadata": {"name": "view"},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}]}}))
        .unwrap();
        let all = [
            role("b", "view", "pods"),
            role("a", "view", "services"),
            role("c", "other", "secrets"),
            role("d", "view", "pods"),
        ];
        let resources: Vec<_> =
            aggregate(&view, &all).into_iter().map(|rule| rule.resources.unwrap()[0].clone()).collect();
        assert_eq!(resources, ["services", "pods"]);
    }
}
