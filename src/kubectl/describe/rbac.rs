//! Roles, their bindings, and priority classes.

use serde_json::Value;

use super::{Writer, items, or, text};
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
    let mut rows: Vec<Row> = Vec::new();
    for rule in items(&object["rules"]) {
        let verbs: Vec<String> = items(&rule["verbs"]).map(text).collect();
        for group in items(&rule["apiGroups"]) {
            for resource in items(&rule["resources"]) {
                let (group, resource) = (text(group), text(resource));
                let mut names: Vec<String> = items(&rule["resourceNames"]).map(text).collect();
                if names.is_empty() {
                    names.push(String::new());
                }
                for names in names {
                    let same = |row: &&mut Row| row.group == group && row.resource == resource && row.names == names;
                    // Rules about the same objects are one line.
                    match rows.iter_mut().find(same) {
                        Some(row) => row.verbs.extend(verbs.clone()),
                        None => rows.push(Row {
                            verbs: verbs.clone(),
                            group: group.clone(),
                            resource: resource.clone(),
                            names,
                            url: String::new(),
                        }),
                    }
                }
            }
        }
        for url in items(&rule["nonResourceURLs"]) {
            rows.push(Row { verbs: verbs.clone(), url: text(url), ..Row::default() });
        }
    }
    rows.sort_by_key(Row::key);
    for row in rows {
        let Row { verbs, group, resource, names, url } = row;
        let resource = match (group.as_str(), resource.split_once('/')) {
            ("", _) => resource,
            (group, Some((resource, subresource))) => format!("{resource}.{group}/{subresource}"),
            (group, None) => format!("{resource}.{group}"),
        };
        line!(writer, 1, "{resource}\t[{url}]\t[{names}]\t[{}]", verbs.join(" "));
    }
}

/// A line of a role.
#[derive(Default)]
struct Row {
    verbs: Vec<String>,
    group: String,
    resource: String,
    names: String,
    url: String,
}

impl Row {
    /// kubectl orders rules by their text in Go, in which the verbs come first.
    fn key(&self) -> String {
        let Self { verbs, group, resource, names, url } = self;
        let verbs = verbs.join(" ");
        format!("[{verbs}],APIGroups:[{group}],Resources:[{resource}],ResourceNames:[{names}],NonResourceURLs:[{url}]")
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
