//! Nodes, namespaces, config maps, secrets, events, quotas, and the small kinds of the control plane.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::Value;

use super::fields::{Fields, or_none};
use super::{Cells, NAME_AND_AGE, Printer, columns, object_age};
use crate::time::age;

pub(super) fn printer(group: &str, plural: &str) -> Option<Printer> {
    Some(match (group, plural) {
        ("", "nodes") => (columns::NODES, node),
        ("", "namespaces") => (columns::NAMESPACES, |object, now| {
            vec![object.name(), object.text("status.phase").into(), object_age(object, now)]
        }),
        ("", "configmaps") => (columns::CONFIGMAPS, |object, now| {
            let entries = object.count("data") + object.count("binaryData");
            vec![object.name(), entries.into(), object_age(object, now)]
        }),
        ("", "secrets") => (columns::SECRETS, |object, now| {
            vec![object.name(), object.text("type").into(), object.count("data").into(), object_age(object, now)]
        }),
        ("", "serviceaccounts") => (NAME_AND_AGE, name_and_age),
        ("", "resourcequotas") => (columns::RESOURCEQUOTAS, resource_quota),
        ("", "componentstatuses") => (columns::COMPONENTSTATUSES, component_status),
        ("" | "events.k8s.io", "events") => (columns::EVENTS, event),
        ("coordination.k8s.io", "leases") => (columns::LEASES, |object, now| {
            vec![object.name(), object.text("spec.holderIdentity").into(), object_age(object, now)]
        }),
        ("node.k8s.io", "runtimeclasses") => (columns::RUNTIMECLASSES, |object, now| {
            vec![object.name(), object.text("handler").into(), object_age(object, now)]
        }),
        ("scheduling.k8s.io", "priorityclasses") => (columns::PRIORITYCLASSES, |object, now| {
            vec![
                object.name(),
                object.int("value").into(),
                object.bool("globalDefault").into(),
                object_age(object, now),
                object.text_or("preemptionPolicy", "<unset>").into(),
            ]
        }),
        ("apiregistration.k8s.io", "apiservices") => (columns::APISERVICES, api_service),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => (columns::FLOWSCHEMAS, flow_schema),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => {
            (columns::PRIORITYLEVELCONFIGURATIONS, priority_level)
        }
        ("resource.k8s.io", "deviceclasses" | "resourceclaimtemplates") => (NAME_AND_AGE, name_and_age),
        ("resource.k8s.io", "resourceclaims") => (columns::RESOURCECLAIMS, resource_claim),
        ("resource.k8s.io", "resourceslices") => (columns::RESOURCESLICES, |object, now| {
            vec![
                object.name(),
                object.text("spec.nodeName").into(),
                object.text("spec.driver").into(),
                object.text("spec.pool.name").into(),
                object_age(object, now),
            ]
        }),
        _ => return None,
    })
}

fn name_and_age(object: Fields<'_>, now: Timestamp) -> Cells {
    vec![object.name(), object_age(object, now)]
}

fn node(object: Fields<'_>, now: Timestamp) -> Cells {
    let mut status = match object.condition("Ready") {
        Some(ready) if ready.text("status") == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object.bool("spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let labels = object.get("metadata.labels").and_then(Value::as_object).into_iter().flatten();
    let roles: BTreeSet<&str> = labels
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    let address = |kind: &str| {
        let found = object.list("status.addresses").find(|address| address.text("type") == kind);
        Value::from(found.map_or("<none>", |address| address.text("address")))
    };
    let info = |field: &str| object.text_or(&format!("status.nodeInfo.{field}"), "<unknown>").into();
    vec![
        object.name(),
        status.into(),
        or_none(roles.into_iter().collect::<Vec<_>>().join(",")).into(),
        object_age(object, now),
        object.text("status.nodeInfo.kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn resource_quota(object: Fields<'_>, now: Timestamp) -> Cells {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in object.get("status.hard").and_then(Value::as_object).into_iter().flatten() {
        let used = object.get("status.used").and_then(|used| used.get(resource)).and_then(Value::as_str);
        let shown = format!("{resource}: {}/{}", used.unwrap_or("0"), hard.as_str().unwrap_or_default());
        if resource.starts_with("limits") { limits.push(shown) } else { requests.push(shown) }
    }
    vec![object.name(), requests.join(", ").into(), limits.join(", ").into(), object_age(object, now)]
}

fn component_status(object: Fields<'_>, _now: Timestamp) -> Cells {
    let healthy = object.list("conditions").find(|condition| condition.text("type") == "Healthy");
    let text = |field: &str| healthy.map_or("", |condition| condition.text(field));
    let status = match text("status") {
        "True" => "Healthy",
        "False" => "Unhealthy",
        _ => "Unknown",
    };
    vec![object.name(), status.into(), text("message").into(), text("error").into()]
}

/// An event, of the core group or of `events.k8s.io`, whose fields have other names.
fn event(object: Fields<'_>, now: Timestamp) -> Cells {
    let either = |core: &str, events: &str| object.get(core).or_else(|| object.get(events)).and_then(Value::as_str);
    let since = |time: Option<&str>| age(time, now);
    let about = |field: &str| either(&format!("involvedObject.{field}"), &format!("regarding.{field}")).unwrap_or("");
    let first =
        since(either("firstTimestamp", "deprecatedFirstTimestamp").or_else(|| either("eventTime", "eventTime")));
    let last = match either("series.lastObservedTime", "series.lastObservedTime") {
        Some(time) => since(Some(time)),
        None => {
            either("lastTimestamp", "deprecatedLastTimestamp").map_or_else(|| first.clone(), |time| since(Some(time)))
        }
    };
    let count = match object.get("series") {
        Some(_) => object.int("series.count"),
        None => (object.int("count") + object.int("deprecatedCount")).max(1),
    };
    let target = match (about("kind").to_lowercase(), about("name")) {
        (kind, "") => kind,
        (kind, name) => format!("{kind}/{name}"),
    };
    let component = either("source.component", "deprecatedSource.component").filter(|text| !text.is_empty());
    let component = component.or_else(|| either("reportingComponent", "reportingController")).unwrap_or_default();
    let host = either("source.host", "deprecatedSource.host").filter(|text| !text.is_empty());
    let host = host.or_else(|| either("reportingInstance", "reportingInstance")).unwrap_or_default();
    vec![
        last.into(),
        object.text("type").into(),
        object.text("reason").into(),
        target.into(),
        about("fieldPath").into(),
        if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }.into(),
        either("message", "note").unwrap_or_default().trim().into(),
        first.into(),
        count.into(),
        object.name(),
    ]
}

fn api_service(object: Fields<'_>, now: Timestamp) -> Cells {
    let service = match object.at("spec.service") {
        Some(service) => format!("{}/{}", service.text("namespace"), service.text("name")),
        None => "Local".to_owned(),
    };
    let available = object.condition("Available").map_or_else(
        || "Unknown".to_owned(),
        |condition| match (condition.text("status"), condition.text("reason")) {
            ("True", _) => "True".to_owned(),
            (status, "") => status.to_owned(),
            (status, reason) => format!("{status} ({reason})"),
        },
    );
    vec![object.name(), service.into(), available.into(), object_age(object, now)]
}

fn flow_schema(object: Fields<'_>, now: Timestamp) -> Cells {
    let dangling = object.condition("Dangling").map_or("?", |condition| condition.text("status"));
    vec![
        object.name(),
        object.text_or("spec.priorityLevelConfiguration.name", "<none>").into(),
        object.int("spec.matchingPrecedence").into(),
        object.text_or("spec.distinguisherMethod.type", "<none>").into(),
        object_age(object, now),
        dangling.into(),
    ]
}

fn priority_level(object: Fields<'_>, now: Timestamp) -> Cells {
    let number = |path: &str| object.get(path).cloned().unwrap_or_else(|| "<none>".into());
    let queuing = |field: &str| number(&format!("spec.limited.limitResponse.queuing.{field}"));
    vec![
        object.name(),
        object.text("spec.type").into(),
        number("spec.limited.nominalConcurrencyShares"),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        object_age(object, now),
    ]
}

fn resource_claim(object: Fields<'_>, now: Timestamp) -> Cells {
    let deleted = object.has("metadata.deletionTimestamp");
    let allocated = object.has("status.allocation");
    let states = [
        ("deleted", deleted),
        ("pending", !allocated && !deleted),
        ("allocated", allocated),
        ("reserved", allocated && object.count("status.reservedFor") > 0),
    ];
    let states: Vec<_> = states.into_iter().filter(|(_, is)| *is).map(|(state, _)| state).collect();
    vec![object.name(), states.join(",").into(), object_age(object, now)]
}
