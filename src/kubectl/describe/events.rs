//! The events about an object.

use serde_json::Value;

use super::{Writer, age, items, or, text};
use crate::cluster::{Cluster, Query};
use crate::error::Error;
use crate::target::CHUNK;

/// Ends a description with the events about the object. Whoever may not read events just sees none.
pub async fn describe(writer: &mut Writer, cluster: &Cluster, object: &Value) -> Result<(), Error> {
    let namespace = k3s_api::object::namespace(object);
    let mut terms = vec![format!("involvedObject.name={}", k3s_api::object::name(object))];
    if !namespace.is_empty() {
        terms.push(format!("involvedObject.namespace={namespace}"));
    }
    terms.push(format!("involvedObject.kind={}", k3s_api::object::kind(object)));
    // The kubelet does not know the uid of its node: it says the name.
    let uid = k3s_api::object::uid(object);
    if !uid.is_empty() && k3s_api::object::kind(object) != "Node" {
        terms.push(format!("involvedObject.uid={uid}"));
    }
    let path = match namespace {
        "" => "/api/v1/events".to_owned(),
        namespace => format!("/api/v1/namespaces/{namespace}/events"),
    };
    let query = Query::new().with("fieldSelector", &terms.join(","));
    let list = match cluster.list(&path, &query, CHUNK).await {
        Ok(list) => list,
        Err(Error::Api(error)) if error.code == 403 => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut events: Vec<&Value> = items(&list["items"]).collect();
    if events.is_empty() {
        writer.line(0, "Events:\t<none>");
        return Ok(());
    }
    events.sort_by_key(|event| text(last_seen(event)));
    writer.line(0, "Events:");
    writer.line(1, "Type\tReason\tAge\tFrom\tMessage");
    writer.line(1, "----\t------\t----\t----\t-------");
    for event in events {
        let source = match text(&event["source"]["component"]) {
            component if component.is_empty() => text(&event["reportingComponent"]),
            component => component,
        };
        let message = text(&event["message"]).trim().replace('\n', " ");
        let cells = [text(&event["type"]), text(&event["reason"]), interval(event), source, message];
        writer.line(1, &cells.join("\t"));
    }
    Ok(())
}

/// When it was last seen.
pub fn last_seen(event: &Value) -> &Value {
    let candidates =
        [&event["series"]["lastObservedTime"], &event["lastTimestamp"], &event["eventTime"], &event["firstTimestamp"]];
    candidates.into_iter().find(|time| !time.is_null()).unwrap_or(&Value::Null)
}

/// `5s`, or `5s (x3 over 2m)` if it happened more than once.
pub fn interval(event: &Value) -> String {
    let last = age(last_seen(event));
    let first = if event["firstTimestamp"].is_null() { &event["eventTime"] } else { &event["firstTimestamp"] };
    let count = event["series"]["count"].as_u64().or(event["count"].as_u64()).unwrap_or(1);
    if count > 1 { format!("{last} (x{count} over {})", age(first)) } else { or(&Value::String(last), "<unknown>") }
}
