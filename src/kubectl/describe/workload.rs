//! Deployments, replica sets, stateful sets, daemon sets and jobs.

use serde_json::Value;

use super::{Writer, container, items, or, text, time};
use crate::cluster::{Cluster, Query};
use crate::error::Error;
use crate::line;
use crate::selector;
use crate::target::CHUNK;

fn selector_text(object: &Value) -> String {
    let spec = &object["spec"]["selector"];
    let is_label_selector = spec.get("matchLabels").is_some() || spec.get("matchExpressions").is_some();
    let text = if is_label_selector { selector::of_label_selector(spec) } else { selector::of_labels(spec) };
    if text.is_empty() { "<none>".to_owned() } else { text }
}

fn template(writer: &mut Writer, object: &Value) {
    line!(writer, 0, "Pod Template:");
    container::template(writer, &object["spec"]["template"]);
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

pub async fn deployment(writer: &mut Writer, cluster: &Cluster, object: &Value) -> Result<(), Error> {
    let (spec, status) = (&object["spec"], &object["status"]);
    line!(writer, 0, "Name:\t{}", k3s_api::object::name(object));
    line!(writer, 0, "Namespace:\t{}", k3s_api::object::namespace(object));
    line!(writer, 0, "CreationTimestamp:\t{}", time(&object["metadata"]["creationTimestamp"]));
    writer.map(0, "Labels:", k3s_api::object::labels(object));
    writer.annotations(object);
    line!(writer, 0, "Selector:\t{}", selector_text(object));
    line!(
        writer,
        0,
        "Replicas:\t{} desired | {} updated | {} total | {} available | {} unavailable",
        number(&spec["replicas"]),
        number(&status["updatedReplicas"]),
        number(&status["replicas"]),
        number(&status["availableReplicas"]),
        number(&status["unavailableReplicas"])
    );
    line!(writer, 0, "StrategyType:\t{}", text(&spec["strategy"]["type"]));
    line!(writer, 0, "MinReadySeconds:\t{}", number(&spec["minReadySeconds"]));
    let rolling = &spec["strategy"]["rollingUpdate"];
    if rolling.is_object() {
        let (unavailable, surge) = (text(&rolling["maxUnavailable"]), text(&rolling["maxSurge"]));
        line!(writer, 0, "RollingUpdateStrategy:\t{unavailable} max unavailable, {surge} max surge");
    }
    template(writer, object);
    if items(&status["conditions"]).count() > 0 {
        line!(writer, 0, "Conditions:\n  Type\tStatus\tReason\n  ----\t------\t------");
        for condition in items(&status["conditions"]) {
            let cells = [&condition["type"], &condition["status"], &condition["reason"]].map(text);
            line!(writer, 1, "{} \t{}\t{}", cells[0], cells[1], cells[2]);
        }
    }
    let path = format!("/apis/apps/v1/namespaces/{}/replicasets", k3s_api::object::namespace(object));
    let query = Query::new().with("labelSelector", &selector::of_label_selector(&spec["selector"]));
    let sets = cluster.list(&path, &query, CHUNK).await?;
    let uid = k3s_api::object::uid(object);
    let mut owned: Vec<&Value> = items(&sets["items"])
        .filter(|set| k3s_api::object::controller_of(set).is_some_and(|owner| owner.uid == uid))
        .collect();
    owned.sort_by_key(|set| revision(set));
    let new = owned.iter().rposition(|set| revision(set) == revision(object)).map(|index| owned.remove(index));
    let describe = |set: &&Value| {
        let (created, wanted) = (number(&set["status"]["replicas"]), number(&set["spec"]["replicas"]));
        format!("{} ({created}/{wanted} replicas created)", k3s_api::object::name(set))
    };
    if !owned.is_empty() || new.is_some() {
        let old: Vec<String> = owned.iter().map(describe).collect();
        line!(writer, 0, "OldReplicaSets:\t{}", if old.is_empty() { "<none>".to_owned() } else { old.join(", ") });
        line!(writer, 0, "NewReplicaSet:\t{}", new.as_ref().map_or("<none>".to_owned(), describe));
    }
    Ok(())
}

fn revision(object: &Value) -> u64 {
    let annotation = k3s_api::object::annotation(object, "deployment.kubernetes.io/revision");
    annotation.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// `1 Running / 0 Waiting / 0 Succeeded / 0 Failed`
async fn pod_states(writer: &mut Writer, cluster: &Cluster, object: &Value) -> Result<(), Error> {
    let path = format!("/api/v1/namespaces/{}/pods", k3s_api::object::namespace(object));
    let pods = cluster.list(&path, &Query::new().with("labelSelector", &selector_text(object)), CHUNK).await?;
    let uid = k3s_api::object::uid(object);
    let count = |phase: &str| {
        let own = items(&pods["items"])
            .filter(|pod| k3s_api::object::controller_of(pod).is_some_and(|owner| owner.uid == uid));
        own.filter(|pod| pod["status"]["phase"] == phase).count()
    };
    let (running, waiting) = (count("Running"), count("Pending"));
    let (succeeded, failed) = (count("Succeeded"), count("Failed"));
    line!(writer, 0, "Pods Status:\t{running} Running / {waiting} Waiting / {succeeded} Succeeded / {failed} Failed");
    Ok(())
}

pub async fn replica_set(writer: &mut Writer, cluster: &Cluster, object: &Value) -> Result<(), Error> {
    line!(writer, 0, "Name:\t{}", k3s_api::object::name(object));
    line!(writer, 0, "Namespace:\t{}", k3s_api::object::namespace(object));
    line!(writer, 0, "Selector:\t{}", selector_text(object));
    writer.map(0, "Labels:", k3s_api::object::labels(object));
    writer.annotations(object);
    writer.controlled_by(object);
    let (current, desired) = (number(&object["status"]["replicas"]), number(&object["spec"]["replicas"]));
    line!(writer, 0, "Replicas:\t{current} current / {desired} desired");
    pod_states(writer, cluster, object).await?;
    template(writer, object);
    writer.conditions(object, &[("Type", "type"), ("Status", "status"), ("Reason", "reason")]);
    Ok(())
}

pub async fn stateful_set(writer: &mut Writer, cluster: &Cluster, object: &Value) -> Result<(), Error> {
    let spec = &object["spec"];
    line!(writer, 0, "Name:\t{}", k3s_api::object::name(object));
    line!(writer, 0, "Namespace:\t{}", k3s_api::object::namespace(object));
    line!(writer, 0, "CreationTimestamp:\t{}", time(&object["metadata"]["creationTimestamp"]));
    line!(writer, 0, "Selector:\t{}", selector_text(object));
    writer.map(0, "Labels:", k3s_api::object::labels(object));
    writer.annotations(object);
    line!(
        writer,
        0,
        "Replicas:\t{} desired | {} total",
        number(&spec["replicas"]),
        number(&object["status"]["replicas"])
    );
    line!(writer, 0, "Update Strategy:\t{}", text(&spec["updateStrategy"]["type"]));
    if let Some(partition) = spec["updateStrategy"]["rollingUpdate"]["partition"].as_i64() {
        line!(writer, 1, "Partition:\t{partition}");
    }
    pod_states(writer, cluster, object).await?;
    template(writer, object);
    if items(&spec["volumeClaimTemplates"]).count() == 0 {
        line!(writer, 0, "Volume Claims:\t<none>");
        return Ok(());
    }
    line!(writer, 0, "Volume Claims:");
    for claim in items(&spec["volumeClaimTemplates"]) {
        line!(writer, 1, "Name:\t{}", k3s_api::object::name(claim));
        line!(writer, 1, "StorageClass:\t{}", text(&claim["spec"]["storageClassName"]));
        writer.map(1, "Labels:", k3s_api::object::labels(claim));
        line!(writer, 1, "Capacity:\t{}", or(&claim["spec"]["resources"]["requests"]["storage"], "<default>"));
        line!(writer, 1, "Access Modes:\t[{}]", super::joined(&claim["spec"]["accessModes"], " "));
    }
    Ok(())
}

pub async fn daemon_set(writer: &mut Writer, cluster: &Cluster, object: &Value) -> Result<(), Error> {
    let status = &object["status"];
    line!(writer, 0, "Name:\t{}", k3s_api::object::name(object));
    line!(writer, 0, "Namespace:\t{}", k3s_api::object::namespace(object));
    line!(writer, 0, "Selector:\t{}", selector_text(object));
    writer.map(0, "Node-Selector:", object["spec"]["template"]["spec"]["nodeSelector"].as_object());
    writer.map(0, "Labels:", k3s_api::object::labels(object));
    writer.annotations(object);
    for (title, field) in [
        ("Desired Number of Nodes Scheduled", "desiredNumberScheduled"),
        ("Current Number of Nodes Scheduled", "currentNumberScheduled"),
        ("Number of Nodes Scheduled with Up-to-date Pods", "updatedNumberScheduled"),
        ("Number of Nodes Scheduled with Available Pods", "numberAvailable"),
        ("Number of Nodes Misscheduled", "numberMisscheduled"),
    ] {
        line!(writer, 0, "{title}: {}", number(&status[field]));
    }
    pod_states(writer, cluster, object).await?;
    template(writer, object);
    Ok(())
}

pub fn job(writer: &mut Writer, object: &Value) {
    let (spec, status) = (&object["spec"], &object["status"]);
    line!(writer, 0, "Name:\t{}", k3s_api::object::name(object));
    line!(writer, 0, "Namespace:\t{}", k3s_api::object::namespace(object));
    line!(writer, 0, "Selector:\t{}", selector_text(object));
    writer.map(0, "Labels:", k3s_api::object::labels(object));
    writer.annotations(object);
    writer.controlled_by(object);
    line!(writer, 0, "Parallelism:\t{}", or(&spec["parallelism"], "<unset>"));
    line!(writer, 0, "Completions:\t{}", or(&spec["completions"], "<unset>"));
    for (title, value) in [
        ("Completion Mode", &spec["completionMode"]),
        ("Suspend", &spec["suspend"]),
        ("Backoff Limit", &spec["backoffLimit"]),
    ] {
        if !value.is_null() {
            line!(writer, 0, "{title}:\t{}", text(value));
        }
    }
    for (title, field) in [("Start Time", "startTime"), ("Completed At", "completionTime")] {
        if !status[field].is_null() {
            line!(writer, 0, "{title}:\t{}", time(&status[field]));
        }
    }
    line!(
        writer,
        0,
        "Pods Statuses:\t{} Active ({} Ready) / {} Succeeded / {} Failed",
        number(&status["active"]),
        number(&status["ready"]),
        number(&status["succeeded"]),
        number(&status["failed"])
    );
    template(writer, object);
}
