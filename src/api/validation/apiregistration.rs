//! APIServices.

use serde_json::Value;

use super::names;
use super::node::{Errors, Node};

pub fn api_service(service: &Value, errors: &mut Errors) {
    let root = Node::root(service);
    let (metadata, spec) = (root.field("metadata"), root.field("spec"));
    let (name, group, version) = (metadata.field("name"), spec.field("group"), spec.field("version"));
    let expected = format!("{}.{}", version.text(), group.text());
    if name.text() != expected && names::path_segment(name.text()).is_empty() {
        name.invalid(errors, format!("must be `spec.version+\".\"+spec.group`: \"{expected}\""));
    }
    if group.is_empty() && version.text() != "v1" {
        group.required(errors, "only v1 may have an empty group and it better be legacy kube");
    }
    if !group.is_empty() {
        group.invalid_text(errors, names::dns1123_subdomain(group.text()));
    }
    version.invalid_text(errors, names::dns1035_label(version.text()));
    for (field, limit) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = spec.field(field);
        let value = priority.int().unwrap_or(0);
        if value <= 0 || value > limit {
            priority.invalid_as(value, errors, format!("must be positive and less than {limit}"));
        }
    }
    let (target, bundle, insecure) =
        (spec.field("service"), spec.field("caBundle"), spec.field("insecureSkipTLSVerify"));
    if !target.is_set() {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.text().len() / 4 * 3);
            bundle.invalid_as(&shown, errors, "local APIServices may not have a caBundle");
        }
        if insecure.bool() {
            insecure.invalid(errors, "local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    target.field("namespace").require(errors);
    target.field("name").require(errors);
    let port = target.field("port");
    let wrong = port.int().and_then(names::port_number);
    wrong.into_iter().for_each(|why| port.invalid(errors, format!("port is not valid: {why}")));
    if insecure.bool() && !bundle.is_empty() {
        insecure.invalid(errors, "may not be true if caBundle is present");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_name_is_version_and_group() {
        let service = json!({"metadata": {"name": "x"}, "spec": {"group": "a.b", "version": "v1",
            "groupPriorityMinimum": 0, "versionPriority": 1001, "service": {"name": "s"}}});
        let mut errors = Vec::new();
        api_service(&service, &mut errors);
        let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                r#"metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.a.b""#,
                "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
                "spec.versionPriority: Invalid value: 1001: must be positive and less than 1000",
                "spec.service.namespace: Required value",
            ]
        );
    }
}
