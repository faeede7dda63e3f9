//! Deployments, replica sets, stateful sets, daemon sets, jobs, autoscalers and what belongs to them.

use jiff::Timestamp;
use serde_json::Value;

use super::fields::Fields;
use super::{Cells, Printer, columns, object_age, pods};
use crate::time::{age, human_duration, parse};

pub(super) fn printer(group: &str, plural: &str) -> Option<Printer> {
    Some(match (group, plural) {
        ("", "pods") => (columns::PODS, pods::cells),
        ("apps", "deployments") => (columns::DEPLOYMENTS, deployment),
        ("apps", "replicasets") => (columns::REPLICASETS, replica_set),
        ("apps", "statefulsets") => (columns::STATEFULSETS, stateful_set),
        ("apps", "daemonsets") => (columns::DAEMONSETS, daemon_set),
        ("apps", "controllerrevisions") => (columns::CONTROLLERREVISIONS, controller_revision),
        ("", "replicationcontrollers") => (columns::REPLICATIONCONTROLLERS, replication_controller),
        ("", "podtemplates") => (columns::PODTEMPLATES, pod_template),
        ("batch", "jobs") => (columns::JOBS, job),
        ("batch", "cronjobs") => (columns::CRONJOBS, cron_job),
        ("autoscaling", "horizontalpodautoscalers") => (columns::HORIZONTALPODAUTOSCALERS, autoscaler),
        _ => return None,
    })
}

const CONTAINERS: &str = "spec.template.spec.containers";

fn deployment(object: Fields<'_>, now: Timestamp) -> Cells {
    let [names, images] = object.containers(CONTAINERS);
    vec![
        object.name(),
        format!("{}/{}", object.int("status.readyReplicas"), object.int("spec.replicas")).into(),
        object.int("status.updatedReplicas").into(),
        object.int("status.availableReplicas").into(),
        object_age(object, now),
        names,
        images,
        object.label_selector("spec.selector").into(),
    ]
}

fn replica_counts(object: Fields<'_>, now: Timestamp, selector: String) -> Cells {
    let [names, images] = object.containers(CONTAINERS);
    vec![
        object.name(),
        object.int("spec.replicas").into(),
        object.int("status.replicas").into(),
        object.int("status.readyReplicas").into(),
        object_age(object, now),
        names,
        images,
        selector.into(),
    ]
}

fn replica_set(object: Fields<'_>, now: Timestamp) -> Cells {
    replica_counts(object, now, object.label_selector("spec.selector"))
}

fn replication_controller(object: Fields<'_>, now: Timestamp) -> Cells {
    replica_counts(object, now, object.labels("spec.selector"))
}

fn stateful_set(object: Fields<'_>, now: Timestamp) -> Cells {
    let [names, images] = object.containers(CONTAINERS);
    let ready = format!("{}/{}", object.int("status.readyReplicas"), object.int("spec.replicas"));
    vec![object.name(), ready.into(), object_age(object, now), names, images]
}

fn daemon_set(object: Fields<'_>, now: Timestamp) -> Cells {
    let [names, images] = object.containers(CONTAINERS);
    vec![
        object.name(),
        object.int("status.desiredNumberScheduled").into(),
        object.int("status.currentNumberScheduled").into(),
        object.int("status.numberReady").into(),
        object.int("status.updatedNumberScheduled").into(),
        object.int("status.numberAvailable").into(),
        object.labels("spec.template.spec.nodeSelector").into(),
        object_age(object, now),
        names,
        images,
        object.label_selector("spec.selector").into(),
    ]
}

fn controller_revision(object: Fields<'_>, now: Timestamp) -> Cells {
    let owner = crate::object::controller_of(object.0).map(|owner| {
        let group = crate::object::group_version(owner.api_version).0;
        let kind = owner.kind.to_lowercase();
        if group.is_empty() { format!("{kind}/{}", owner.name) } else { format!("{kind}.{group}/{}", owner.name) }
    });
    vec![
        object.name(),
        owner.unwrap_or_else(|| "<none>".to_owned()).into(),
        object.int("revision").into(),
        object_age(object, now),
    ]
}

fn pod_template(object: Fields<'_>, _now: Timestamp) -> Cells {
    let [names, images] = object.containers("template.spec.containers");
    vec![object.name(), names, images, object.labels("template.metadata.labels").into()]
}

fn job(object: Fields<'_>, now: Timestamp) -> Cells {
    let (succeeded, parallelism) = (object.int("status.succeeded"), object.int("spec.parallelism"));
    let completions = match object.get("spec.completions").and_then(Value::as_i64) {
        Some(completions) => format!("{succeeded}/{completions}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    };
    let end = parse(object.text("status.completionTime")).unwrap_or(now);
    let duration =
        parse(object.text("status.startTime")).map(|start| human_duration(end.duration_since(start).as_secs()));
    let [names, images] = object.containers(CONTAINERS);
    vec![
        object.name(),
        job_status(object).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        object_age(object, now),
        names,
        images,
        object.label_selector("spec.selector").into(),
    ]
}

fn job_status(object: Fields<'_>) -> &'static str {
    match () {
        () if object.is("Complete") => "Complete",
        () if object.is("Failed") => "Failed",
        () if object.has("metadata.deletionTimestamp") => "Terminating",
        () if object.is("Suspended") => "Suspended",
        () if object.is("FailureTarget") => "FailureTarget",
        () if object.is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn cron_job(object: Fields<'_>, now: Timestamp) -> Cells {
    let job = "spec.jobTemplate.spec";
    let [names, images] = object.containers(&format!("{job}.template.spec.containers"));
    let last = object.get("status.lastScheduleTime").and_then(Value::as_str);
    let suspend = match object.get("spec.suspend").and_then(Value::as_bool) {
        None => "<unset>",
        Some(true) => "True",
        Some(false) => "False",
    };
    vec![
        object.name(),
        object.text("spec.schedule").into(),
        object.text_or("spec.timeZone", "<none>").into(),
        suspend.into(),
        object.count("status.active").into(),
        last.map_or_else(|| "<none>".to_owned(), |last| age(Some(last), now)).into(),
        object_age(object, now),
        names,
        images,
        object.label_selector(&format!("{job}.selector")).into(),
    ]
}

fn autoscaler(object: Fields<'_>, now: Timestamp) -> Cells {
    let reference = format!("{}/{}", object.text("spec.scaleTargetRef.kind"), object.text("spec.scaleTargetRef.name"));
    let minimum = match object.has("spec.minReplicas") {
        true => object.int("spec.minReplicas").to_string(),
        false => "<unset>".to_owned(),
    };
    vec![
        object.name(),
        reference.into(),
        metrics(object).into(),
        minimum.into(),
        object.int("spec.maxReplicas").into(),
        object.int("status.currentReplicas").into(),
        object_age(object, now),
    ]
}

/// The metrics of an autoscaler as `current/target`, the first two of them.
fn metrics(object: Fields<'_>) -> String {
    if object.has("spec.targetCPUUtilizationPercentage") {
        let current = match object.has("status.currentCPUUtilizationPercentage") {
            true => format!("{}%", object.int("status.currentCPUUtilizationPercentage")),
            false => "<unknown>".to_owned(),
        };
        return format!("cpu: {current}/{}%", object.int("spec.targetCPUUtilizationPercentage"));
    }
    let current: Vec<_> = object.list("status.currentMetrics").collect();
    let specs: Vec<_> = object.list("spec.metrics").collect();
    let shown = specs.iter().enumerate().map(|(index, spec)| metric(*spec, current.get(index).copied()));
    let shown: Vec<String> = shown.collect();
    match shown.len() {
        0 => "<none>".to_owned(),
        1 | 2 => shown.join(", "),
        all => format!("{} + {} more...", shown[..2].join(", "), all - 2),
    }
}

fn metric(spec: Fields<'_>, current: Option<Fields<'_>>) -> String {
    let (field, resource) = match spec.text("type") {
        "Resource" => ("resource", true),
        "ContainerResource" => ("containerResource", true),
        "Pods" => ("pods", false),
        "Object" => ("object", false),
        "External" => ("external", false),
        _ => return "<unknown type>".to_owned(),
    };
    let target = |kind: &str| spec.at(&format!("{field}.target")).map(|target| target.show(kind)).unwrap_or_default();
    let now = |kind: &str| {
        let shown = current.and_then(|c| c.at(&format!("{field}.current"))).map(|c| c.show(kind)).unwrap_or_default();
        if shown.is_empty() { "<unknown>".to_owned() } else { shown }
    };
    let name = if resource { format!("{}: ", spec.text(&format!("{field}.name"))) } else { String::new() };
    let has = |kind: &str| spec.has(&format!("{field}.target.{kind}"));
    match field {
        "object" | "external" if has("averageValue") => {
            format!("{}/{} (avg)", now("averageValue"), target("averageValue"))
        }
        "object" | "external" => format!("{}/{}", now("value"), target("value")),
        "pods" => format!("{}/{}", now("averageValue"), target("averageValue")),
        _ if has("averageValue") => format!("{name}{}/{}", now("averageValue"), target("averageValue")),
        _ => {
            let percent = |text: String| if text.starts_with('<') { text } else { format!("{text}%") };
            let target = if has("averageUtilization") { target("averageUtilization") } else { "<auto>".to_owned() };
            format!("{name}{}/{}", percent(now("averageUtilization")), percent(target))
        }
    }
}
