//! Status and conditions of a deployment.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};

use super::{Sets, replicas};
use crate::queue::{Key, Queue};
use crate::{Error, is_status};

/// Writes the status if it changed, and comes back when the progress deadline may have passed.
pub async fn update(client: &Client, queue: &Queue<Key>, deployment: &Deployment, sets: &Sets) -> Result<(), Error> {
    let status = compute(deployment, sets);
    let deadline = deployment.spec.as_ref().and_then(|spec| spec.progress_deadline_seconds).unwrap_or(600);
    let progressing = status.conditions.iter().flatten().find(|it| it.type_ == "Progressing");
    if progressing.is_some_and(|it| it.status == "True" && it.reason.as_deref() != Some("NewReplicaSetAvailable")) {
        queue.add_after(Key::of(deployment), Duration::from_secs(u64::try_from(deadline).unwrap_or(600) + 1));
    }
    if deployment.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let mut updated = deployment.clone();
    updated.status = Some(status);
    let api: Api<Deployment> = Api::namespaced(client.clone(), &deployment.namespace().unwrap_or_default());
    let result = api.replace_status(&deployment.name_any(), &PostParams::default(), &updated).await;
    // The cache is behind; the newer version brings the key back.
    if is_status(&result, 409) || is_status(&result, 404) {
        return Ok(());
    }
    result?;
    Ok(())
}

fn compute(deployment: &Deployment, sets: &Sets) -> DeploymentStatus {
    let old = deployment.status.clone().unwrap_or_default();
    let count = |of: &dyn Fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
        sets.all().filter_map(|set| set.status.as_ref()).map(of).sum()
    };
    let total = count(&|status| status.replicas);
    let ready = count(&|status| status.ready_replicas.unwrap_or(0));
    let available = count(&|status| status.available_replicas.unwrap_or(0));
    let updated = sets.new.as_ref().and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas);
    let all: i32 = sets.all().map(|set| replicas(set)).sum();
    let some = |number: i32| (number != 0).then_some(number);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: some(total),
        updated_replicas: some(updated),
        ready_replicas: some(ready),
        available_replicas: some(available),
        unavailable_replicas: some((all - available).max(0)),
        collision_count: old.collision_count,
        terminating_replicas: old.terminating_replicas,
        conditions: old.conditions.clone(),
    };
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let conditions = status.conditions.get_or_insert_default();
    let failure = sets
        .all()
        .filter_map(|set| set.status.as_ref()?.conditions.as_ref())
        .flatten()
        .find(|it| it.type_ == "ReplicaFailure");
    conditions.retain(|condition| condition.type_ != "ReplicaFailure" || failure.is_some());
    if let Some(failure) = failure {
        let message = failure.message.clone().unwrap_or_default();
        set(conditions, "ReplicaFailure", "True", failure.reason.as_deref().unwrap_or_default(), &message, false);
    }
    if available >= wanted - missing_allowed(deployment, wanted) {
        let message = "Deployment has minimum availability.";
        set(conditions, "Available", "True", "MinimumReplicasAvailable", message, false);
    } else {
        let message = "Deployment does not have minimum availability.";
        set(conditions, "Available", "False", "MinimumReplicasUnavailable", message, false);
    }
    progressing(deployment, sets, &old, conditions, (total, updated, ready, available, wanted));
    status
}

fn missing_allowed(deployment: &Deployment, wanted: i32) -> i32 {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    match strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.max_unavailable.as_ref()) {
        Some(IntOrString::Int(number)) => (*number).min(wanted),
        Some(IntOrString::String(percent)) => {
            percent.trim_end_matches('%').parse().map_or(0, |it: i32| it * wanted / 100)
        }
        None => 0,
    }
}

fn progressing(
    deployment: &Deployment,
    sets: &Sets,
    old: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    (total, updated, ready, available, wanted): (i32, i32, i32, i32, i32),
) {
    let spec = deployment.spec.as_ref();
    let Some(deadline) = spec.map(|spec| spec.progress_deadline_seconds.unwrap_or(600)) else { return };
    let name = sets.new.as_ref().map(|set| set.name_any()).unwrap_or_default();
    let complete = sets.new.is_some() && updated == wanted && total == wanted && available == wanted;
    let progressed = old.updated_replicas.unwrap_or(0) < updated
        || old.replicas.unwrap_or(0) - old.updated_replicas.unwrap_or(0) > total - updated
        || old.ready_replicas.unwrap_or(0) < ready
        || old.available_replicas.unwrap_or(0) < available;
    let current = conditions.iter().find(|condition| condition.type_ == "Progressing").cloned();
    if spec.is_some_and(|spec| spec.paused == Some(true)) {
        if current.as_ref().and_then(|it| it.reason.as_deref()) != Some("DeploymentPaused") {
            set(conditions, "Progressing", "Unknown", "DeploymentPaused", "Deployment is paused", false);
        }
    } else if complete {
        let message = format!("ReplicaSet {name:?} has successfully progressed.");
        set(conditions, "Progressing", "True", "NewReplicaSetAvailable", &message, false);
    } else if progressed || current.is_none() {
        let reason = if current.is_none() { "NewReplicaSetCreated" } else { "ReplicaSetUpdated" };
        let message = match reason {
            "NewReplicaSetCreated" => format!("Created new replica set {name:?}"),
            _ => format!("ReplicaSet {name:?} is progressing."),
        };
        set(conditions, "Progressing", "True", reason, &message, true);
    } else if let Some(current) = current {
        let done = current.reason.as_deref() == Some("NewReplicaSetAvailable");
        let since = current.last_update_time.as_ref().map_or_else(Timestamp::now, |time| time.0);
        if done || current.reason.as_deref() == Some("DeploymentPaused") {
            // A new rollout begins: its deadline counts from now.
            let message = format!("ReplicaSet {name:?} is progressing.");
            set(conditions, "Progressing", "True", "ReplicaSetUpdated", &message, true);
        } else if Timestamp::now().duration_since(since).as_secs() >= i64::from(deadline) {
            let message = format!("ReplicaSet {name:?} has timed out progressing.");
            set(conditions, "Progressing", "False", "ProgressDeadlineExceeded", &message, false);
        }
    }
}

/// Sets a condition. Nothing changes if status, reason and message are the same, unless `touch` moves the update time.
fn set(conditions: &mut Vec<DeploymentCondition>, kind: &str, status: &str, reason: &str, message: &str, touch: bool) {
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default());
    let old = conditions.iter().position(|condition| condition.type_ == kind).map(|index| conditions.remove(index));
    if let Some(old) = &old
        && old.status == status
        && old.reason.as_deref() == Some(reason)
        && old.message.as_deref() == Some(message)
        && !touch
    {
        conditions.push(old.clone());
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        return;
    }
    let transition = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time);
    conditions.push(DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: Some(now.clone()),
        last_transition_time: transition.or(Some(now)),
    });
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};
    use std::sync::Arc;

    fn sets(replicas: i32, ready: i32) -> Sets {
        let new = from_value(json!({"metadata": {"name": "d-1"}, "spec": {"replicas": replicas, "selector": {}},
            "status": {"replicas": replicas, "readyReplicas": ready, "availableReplicas": ready}}))
        .unwrap();
        Sets { new: Some(Arc::new(new)), old: Vec::new() }
    }

    fn reason(status: &DeploymentStatus, kind: &str) -> String {
        let condition = status.conditions.iter().flatten().find(|it| it.type_ == kind).unwrap();
        format!("{}/{}", condition.status, condition.reason.clone().unwrap())
    }

    #[test]
    fn conditions_tell_how_far_a_rollout_is() {
        let mut deployment: Deployment = from_value(json!({"metadata": {"name": "d", "generation": 1},
            "spec": {"replicas": 2, "selector": {}, "template": {}, "progressDeadlineSeconds": 600}}))
        .unwrap();
        let first = compute(&deployment, &sets(2, 0));
        assert_eq!(reason(&first, "Progressing"), "True/NewReplicaSetCreated");
        assert_eq!(reason(&first, "Available"), "False/MinimumReplicasUnavailable");
        assert_eq!(first.unavailable_replicas, Some(2));
        deployment.status = Some(first);
        let second = compute(&deployment, &sets(2, 1));
        assert_eq!(reason(&second, "Progressing"), "True/ReplicaSetUpdated");
        deployment.status = Some(second);
        let third = compute(&deployment, &sets(2, 2));
        assert_eq!(reason(&third, "Progressing"), "True/NewReplicaSetAvailable");
        assert_eq!(reason(&third, "Available"), "True/MinimumReplicasAvailable");
        deployment.status = Some(third.clone());
        assert_eq!(compute(&deployment, &sets(2, 2)), third);
    }
}
