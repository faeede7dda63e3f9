//! Roles, their bindings, and priority classes.

use serde_json::Value;

use super::{Writer, items, joined, or, text};
use crate::line;

/// Name, labels and annotations: no namespace, which kubectl does not show here.
fn head(writer: &mut Writer, object: &Value) {
    line!(writer, 0, "Name:\t{}", k3s_api::object::name(object));
    writer.map(0, "Labels:", k3s_api::object::labels(object));
    writer.annotations(object);
}

/// A role or cluster role: a line per resource and per path, sorted.
pub fn role(writer: &mut Writer, object: &Value) {
    head(writer, object);
    line!(writer, 0, "PolicyRule:");
    line!(writer, 1, "Resources\tNon-Resource URLs\tResource Names\tVerbs");
    line!(writer, 1, "---------\t-----------------\t--------------\t-----");
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for rule in items(&object["rules"]) {
        let (names, verbs) = (joined(&rule["resourceNames"], " "), joined(&rule["verbs"], " "));
        for group in items(&rule["apiGroups"]) {
            for resource in items(&rule["resources"]) {
                let group = text(group);
                let resource = if group.is_empty() { text(resource) } else { format!("{}.{group}", text(resource)) };
                rows.push((format!("{resource}\t[]\t[{names}]"), vec![verbs.clone()]));
            }
        }
        for url in items(&rule["nonResourceURLs"]) {
            rows.push((format!("\t[{}]\t[]", text(url)), vec![verbs.clone()]));
        }
    }
    // Rules about the same resource are one line.
    rows.sort();
    rows.dedup_by(|next, first| {
        let same = next.0 == first.0;
        if same {
            first.1.append(&mut next.1);
        }
        same
    });
    for (what, verbs) in rows {
        line!(writer, 1, "{what}\t[{}]", verbs.join(" "));
    }
}

/// A role binding or cluster role binding.
pub fn binding(writer: &mut Writer, object: &Value) {
    head(writer, object);
    line!(writer, 0, "Role:");
    line!(writer, 1, "Kind:\t{}", text(&object["roleRef"]["kind"]));
    line!(writer, 1, "Name:\t{}", text(&object["roleRef"]["name"]));
    line!(writer, 0, "Subjects:\n  Kind\tName\tNamespace\n  ----\t----\t---------");
    for subject in items(&object["subjects"]) {
        line!(writer, 1, "{}\t{}\t{}", text(&subject["kind"]), text(&subject["name"]), text(&subject["namespace"]));
    }
}

pub fn priority_class(writer: &mut Writer, object: &Value) {
    line!(writer, 0, "Name:\t{}", k3s_api::object::name(object));
    line!(writer, 0, "Value:\t{}", text(&object["value"]));
    line!(writer, 0, "GlobalDefault:\t{}", object["globalDefault"] == true);
    line!(writer, 0, "PreemptionPolicy:\t{}", or(&object["preemptionPolicy"], ""));
    line!(writer, 0, "Description:\t{}", text(&object["description"]));
    writer.annotations(object);
}
