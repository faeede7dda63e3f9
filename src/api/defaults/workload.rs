//! Deployments, ReplicaSets, DaemonSets, StatefulSets, ReplicationControllers, Jobs and CronJobs.

use serde_json::Value;

use super::{at, field, fill, items, object, pod, text, volume};

pub fn deployment(deployment: &mut Value) {
    pod::template(deployment);
    let Some(spec) = field(deployment, "spec") else { return };
    fill!(spec, "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600);
    let strategy = object(spec, "strategy");
    fill!(strategy, "type": "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        fill!(object(strategy, "rollingUpdate"), "maxUnavailable": "25%", "maxSurge": "25%");
    }
}

pub fn replica_set(set: &mut Value) {
    pod::template(set);
    if let Some(spec) = field(set, "spec") {
        fill!(spec, "replicas": 1);
    }
}

pub fn daemon_set(set: &mut Value) {
    pod::template(set);
    let Some(spec) = field(set, "spec") else { return };
    fill!(spec, "revisionHistoryLimit": 10);
    let strategy = object(spec, "updateStrategy");
    fill!(strategy, "type": "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        fill!(object(strategy, "rollingUpdate"), "maxUnavailable": 1, "maxSurge": 0);
    }
}

pub fn stateful_set(set: &mut Value) {
    pod::template(set);
    let Some(spec) = field(set, "spec") else { return };
    fill!(spec, "podManagementPolicy": "OrderedReady", "replicas": 1, "revisionHistoryLimit": 10);
    let strategy = object(spec, "updateStrategy");
    fill!(strategy, "type": "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate" {
        fill!(object(strategy, "rollingUpdate"), "partition": 0);
    }
    fill!(object(spec, "persistentVolumeClaimRetentionPolicy"), "whenDeleted": "Retain", "whenScaled": "Retain");
    for claim in items(spec, "volumeClaimTemplates") {
        fill!(claim, "apiVersion": "v1", "kind": "PersistentVolumeClaim");
        volume::persistent_volume_claim(claim);
    }
}

pub fn replication_controller(controller: &mut Value) {
    pod::template(controller);
    let labels = at(controller, &["spec", "template", "metadata", "labels"]).map(|labels| labels.clone());
    let Some(spec) = field(controller, "spec") else { return };
    fill!(spec, "replicas": 1);
    if let Some(labels) = labels {
        fill(spec, "selector", labels.clone());
        fill(object(controller, "metadata"), "labels", labels);
    }
}

pub fn job(job: &mut Value) {
    pod::template(job);
    let labels = at(job, &["spec", "template", "metadata", "labels"]).map(|labels| labels.clone());
    if let Some(labels) = labels {
        fill(object(job, "metadata"), "labels", labels);
    }
    let Some(spec) = field(job, "spec") else { return };
    if spec.get("parallelism").is_none() {
        // Both left out: one pod that succeeds. Only one: a work queue.
        fill!(spec, "completions": 1, "parallelism": 1);
    }
    let backoff = if spec.get("backoffLimitPerIndex").is_some() { i32::MAX } else { 6 };
    let replacement = if spec.get("podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    fill!(spec, "backoffLimit": backoff, "completionMode": "NonIndexed", "suspend": false, "manualSelector": false,
        "podReplacementPolicy": replacement);
    pod_failure_policy(spec);
}

fn pod_failure_policy(spec: &mut Value) {
    let Some(policy) = field(spec, "podFailurePolicy") else { return };
    for rule in items(policy, "rules") {
        for pattern in items(rule, "onPodConditions") {
            fill!(pattern, "status": "True");
        }
    }
}

pub fn cron_job(job: &mut Value) {
    if let Some(spec) = field(job, "spec") {
        fill!(spec, "concurrencyPolicy": "Allow", "suspend": false, "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 1);
    }
    let Some(template) = at(job, &["spec", "jobTemplate"]) else { return };
    pod::template(template);
    if let Some(spec) = field(template, "spec") {
        pod_failure_policy(spec);
    }
}

/// A pod template of its own.
pub fn pod_template(template: &mut Value) {
    if let Some(spec) = at(template, &["template", "spec"]) {
        pod::pod_spec(spec);
    }
}
