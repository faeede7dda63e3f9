//! Events: those of the core group as they have always been, and the stricter ones of events.k8s.io.

use serde_json::Value;

use super::names;
use super::node::{Errors, Node};

const TEXT_LIMIT: usize = 128;
const NOTE_LIMIT: usize = 1024;

/// An event as it is stored, whichever group it came by.
pub fn event(event: &Value, errors: &mut Errors) {
    let root = Node::root(event);
    let (metadata, about) = (root.field("metadata"), root.field("involvedObject"));
    let (namespace, of) = (metadata.field("namespace"), about.field("namespace"));
    let own = namespace.text();
    const MISMATCH: &str = "does not match event.namespace";
    if root.field("eventTime").is_empty() {
        let fits = if of.is_empty() { matches!(own, "" | "default") } else { own == of.text() };
        if !fits {
            of.invalid_text(errors, [MISMATCH]);
        }
    } else {
        if of.is_empty() && !matches!(own, "default" | "kube-system") {
            of.invalid_text(errors, [MISMATCH]);
        }
        let controller =
            Node { value: root.field("reportingComponent").value, path: root.field("reportingController").path };
        controller.require(errors);
        controller.invalid_text(errors, names::qualified_name(controller.text()));
        for field in ["reportingInstance", "action", "reason"] {
            let text = root.field(field);
            text.require(errors);
            at_most(&text, TEXT_LIMIT, errors);
        }
        at_most(&root.field("message"), NOTE_LIMIT, errors);
    }
    let at = root.field("namespace");
    for message in names::dns1123_subdomain(own) {
        at.invalid_as(own, errors, message);
    }
}

fn at_most(text: &Node, limit: usize, errors: &mut Errors) {
    if text.text().len() > limit {
        text.invalid_as("", errors, format!("can have at most {limit} characters"));
    }
}

/// What a new event of events.k8s.io has to say, and not to say, besides.
pub fn strict(event: &Value, errors: &mut Errors) {
    let root = Node::root(event);
    series(&root, errors);
    root.field("eventTime").require(errors);
    let kind = root.field("type");
    if !matches!(kind.text(), "Normal" | "Warning") {
        kind.invalid_as("", errors, format!("has invalid value: {}", kind.text()));
    }
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        let node = root.field(field);
        if !node.is_empty() && node.int() != Some(0) {
            node.invalid_as("", errors, "needs to be unset");
        }
    }
}

fn series(root: &Node, errors: &mut Errors) {
    let series = root.field("series");
    if !series.is_set() {
        return;
    }
    if series.field("count").int().unwrap_or(0) < 2 {
        series.field("count").invalid_as("", errors, "should be at least 2");
    }
    series.field("lastObservedTime").require(errors);
}

/// An event of events.k8s.io says what it said; only the series goes on.
pub fn strict_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    if new.field("series").value != old.field("series").value {
        series(&new, errors);
    }
    for (field, told_as) in [
        ("involvedObject", "involvedObject"),
        ("reason", "reason"),
        ("message", "message"),
        ("source", "source"),
        ("firstTimestamp", "firstTimestamp"),
        ("lastTimestamp", "lastTimestamp"),
        ("count", "count"),
        ("reason", "reason"),
        ("type", "type"),
        ("eventTime", "eventTime"),
        ("action", "action"),
        ("related", "related"),
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ] {
        let value = new.field(field).value;
        if value != old.field(field).value {
            new.field(told_as).invalid_as(value, errors, "field is immutable");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validation::wrong;

    #[test]
    fn an_event_lies_where_its_object_lies() {
        let at = |own: &str, of: &str| json!({"metadata": {"namespace": own}, "involvedObject": {"namespace": of}});
        assert!(wrong(event, at("a", "a")).is_empty());
        assert!(wrong(event, at("default", "")).is_empty());
        assert_eq!(
            wrong(event, at("a", "b")),
            [r#"involvedObject.namespace: Invalid value: "b": does not match event.namespace"#]
        );
    }

    #[test]
    fn a_new_event_says_when_and_who() {
        let event_at = json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "a"},
            "eventTime": "2024-01-01T00:00:00.000000Z", "reportingComponent": "a.b/c", "reason": "R"});
        assert_eq!(wrong(event, event_at), ["reportingInstance: Required value", "action: Required value"]);
        assert_eq!(
            wrong(strict, json!({"type": "X", "count": 1})),
            [
                "eventTime: Required value",
                r#"type: Invalid value: "": has invalid value: X"#,
                r#"count: Invalid value: "": needs to be unset"#
            ]
        );
    }
}
