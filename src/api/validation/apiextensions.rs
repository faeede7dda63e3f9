//! Definitions of custom resources.

use serde_json::Value;

use super::node::{Errors, Node};
use super::{FieldError, Verbatim, admissionregistration, names, structural_schema, webhook};
use crate::structural::rules::Rules;

pub fn custom_resource_definition(definition: &Value, errors: &mut Errors) {
    let root = Node::root(definition);
    let (metadata, spec, status) = (root.field("metadata"), root.field("spec"), root.field("status"));
    let (group, resource_names, versions) = (spec.field("group"), spec.field("names"), spec.field("versions"));
    let name = metadata.field("name");
    let expected = format!("{}.{}", resource_names.field("plural").text(), group.text());
    if !name.is_empty() && name.text() != expected {
        name.invalid(errors, "must be spec.names.plural+\".\"+spec.group");
    }
    match group.text() {
        "" => group.required(errors, ""),
        text => {
            group.invalid_text(errors, names::dns1123_subdomain(text));
            if !text.contains('.') {
                group.invalid(errors, "should be a domain with at least one dot");
            }
        }
    }
    let scope = spec.field("scope");
    match scope.text() {
        "" => scope.required(errors, ""),
        _ => scope.one_of(errors, &["Cluster", "Namespaced"]),
    }
    let stored: Vec<Node> = versions.items().filter(|version| version.field("storage").bool()).collect();
    if stored.len() != 1 {
        let shown = Verbatim(if versions.is_empty() { "[]".to_owned() } else { versions.value.to_string() });
        versions.invalid_as(shown, errors, "must have exactly one version marked as storage version");
    }
    for version in versions.items() {
        let name = version.field("name");
        name.invalid_text(errors, names::dns1035_label(name.text()));
    }
    let preserve = spec.field("preserveUnknownFields");
    if preserve.bool() {
        preserve.invalid(
            errors,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead",
        );
    }
    version_schemas(&spec, errors);
    kind_names(&resource_names, errors);
    conversion(&spec, errors);
    stored_versions(&versions, &status.field("storedVersions"), errors);
    protected_group(&metadata, group.text(), errors);
}

/// The versions that objects may be stored in: a version goes from the list when all objects have been written anew, and
/// only then from the definition.
fn stored_versions(versions: &Node, stored: &Node, errors: &mut Errors) {
    if stored.is_empty() {
        return stored.invalid_as(Verbatim("null".into()), errors, "must have at least one stored version");
    }
    for version in versions.items() {
        let name = version.field("name");
        let is_named = stored.items().any(|stored| stored.text() == name.text());
        if version.field("storage").bool() && !is_named {
            stored.invalid(errors, format!("must have the storage version {}", name.text()));
        }
    }
    for version in stored.items() {
        if !versions.items().any(|known| known.field("name").text() == version.text()) {
            version.invalid(errors, "must appear in spec.versions");
        }
    }
}

/// What a write of the status may not say.
pub fn custom_resource_definition_status(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (spec, status) = (old.field("spec"), new.field("status"));
    stored_versions(&spec.field("versions"), &status.field("storedVersions"), errors);
}

/// Visits the schemas of the versions, each with its version's name and the path that errors about it have. Schemas that
/// are the same in all versions are told as that of the definition, as in its old form.
fn each_schema(spec: &Node, mut visit: impl FnMut(&str, &Node)) {
    let versions = spec.field("versions");
    let schema = |version: &Node| version.value.get("schema").cloned().unwrap_or(Value::Null);
    let first = versions.items().next().map(|version| schema(&version));
    let same = versions.items().all(|version| Some(schema(&version)) == first);
    for version in versions.items() {
        let name = version.field("name");
        let at = if same { spec.field("validation") } else { version.field("schema") };
        let schema = version.field("schema");
        let value = schema.field("openAPIV3Schema").value;
        match value.is_null() {
            // That it is missing is told of the version itself.
            true => visit(name.text(), &schema.field("openAPIV3Schema")),
            false => visit(name.text(), &Node { value, path: at.path.child("openAPIV3Schema") }),
        }
        if same && !value.is_null() {
            break;
        }
    }
}

fn version_schemas(spec: &Node, errors: &mut Errors) {
    each_schema(spec, |_, schema| {
        if !schema.is_set() {
            return schema.required(errors, "schemas are required");
        }
        let before = errors.len();
        structural_schema::validate(schema.value, &schema.path, errors);
        if errors.len() == before {
            Rules::compile(schema.value, &schema.path, errors);
        }
    });
}

/// Rules that might cost too much, of a new definition.
pub fn rule_costs(definition: &Value, errors: &mut Errors) {
    let root = Node::root(definition);
    // Of schemas that are no schemas nothing can be said.
    if errors.is_empty() {
        each_schema(&root.field("spec"), |_, schema| Rules::check_costs(schema.value, &schema.path, errors));
    }
}

/// The same of the schemas that an update changes: what is stored stays as good as it was.
fn changed_rule_costs(new: &Node, old: &Node, errors: &mut Errors) {
    if !errors.is_empty() {
        return;
    }
    let mut before = std::collections::BTreeMap::new();
    each_schema(&old.field("spec"), |version, schema| drop(before.insert(version.to_owned(), schema.value.clone())));
    each_schema(&new.field("spec"), |version, schema| {
        if before.get(version) != Some(schema.value) {
            Rules::check_costs(schema.value, &schema.path, errors);
        }
    });
}

fn kind_names(resource_names: &Node, errors: &mut Errors) {
    for field in ["plural", "singular"] {
        let name = resource_names.field(field);
        match name.is_empty() {
            true if field == "plural" => name.required(errors, ""),
            true => {}
            false => name.invalid_text(errors, names::dns1035_label(name.text())),
        }
    }
    for field in ["kind", "listKind"] {
        let name = resource_names.field(field);
        match name.is_empty() {
            true => name.required(errors, ""),
            false => {
                let lower = name.text().to_lowercase();
                let found = names::dns1035_label(&lower);
                for message in found {
                    name.invalid(errors, format!("may have mixed case, but should otherwise match: {message}"));
                }
            }
        }
    }
    let (kind, list) = (resource_names.field("kind"), resource_names.field("listKind"));
    if !kind.is_empty() && kind.text() == list.text() {
        list.invalid(errors, "kind and listKind may not be the same");
    }
    for field in ["shortNames", "categories"] {
        for name in resource_names.field(field).items() {
            name.invalid_text(errors, names::dns1035_label(name.text()));
        }
    }
}

fn conversion(spec: &Node, errors: &mut Errors) {
    let conversion = spec.field("conversion");
    let strategy = conversion.field("strategy");
    if !conversion.is_set() {
        return;
    }
    match strategy.text() {
        "" => strategy.required(errors, ""),
        "None" => {}
        "Webhook" => {
            let given = conversion.field("webhook");
            // Kubernetes tells these by the names that they had in the first version.
            let client = Node { value: given.field("clientConfig").value, ..conversion.field("webhookClientConfig") };
            match client.is_set() {
                true => webhook::client_config(&client, errors),
                false => client.required(errors, "required when strategy is set to Webhook"),
            }
            let versions = given.field("conversionReviewVersions");
            let versions = Node { value: versions.value, ..conversion.field("conversionReviewVersions") };
            match versions.is_empty() {
                true => versions.required(errors, ""),
                false => admissionregistration::review_versions(&versions, errors),
            }
        }
        _ => strategy.not_supported(errors, &["None", "Webhook"]),
    }
}

/// Groups of the community need its approval.
fn protected_group(metadata: &Node, group: &str, errors: &mut Errors) {
    let protected =
        ["k8s.io", "kubernetes.io"].iter().any(|domain| group == *domain || group.ends_with(&format!(".{domain}")));
    if !protected {
        return;
    }
    const APPROVED: &str = "api-approved.kubernetes.io";
    let annotations = metadata.field("annotations");
    let at = annotations.path.key(APPROVED);
    match annotations.value.get(APPROVED).and_then(Value::as_str) {
        None | Some("") => errors.push(FieldError::required(
            &at,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111",
        )),
        Some(text) if text.starts_with("http") || text.starts_with("unapproved") => {}
        Some(text) => errors.push(FieldError::invalid(
            &at,
            text,
            "protected groups must have approval annotation \"api-approved.kubernetes.io\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111",
        )),
    }
}

/// Where objects lie and what they are named cannot change under them.
pub fn custom_resource_definition_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new_spec, old_spec) = (new.field("spec"), old.field("spec"));
    changed_rule_costs(&new, &old, errors);
    new_spec.field("group").immutable(&old_spec.field("group"), errors);
    let established =
        old.field("status").field("conditions").items().any(|condition| {
            condition.field("type").text() == "Established" && condition.field("status").text() == "True"
        });
    if established {
        new_spec.field("scope").immutable(&old_spec.field("scope"), errors);
        let (names, old_names) = (new_spec.field("names"), old_spec.field("names"));
        for field in ["plural", "kind"] {
            names.field(field).immutable(&old_names.field(field), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::validation::wrong;

    #[test]
    fn costly_rules_are_refused_when_they_are_new() {
        let definition = |rule: &str| {
            let list =
                json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": rule}]});
            let schema = json!({"type": "object", "properties": {"list": list}});
            json!({"spec": {"versions": [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]}})
        };
        let (costly, cheap) = (definition("self.all(x, self.all(y, x == y))"), definition("self.size() > 1"));
        assert!(!wrong(rule_costs, costly.clone()).is_empty());
        assert!(wrong(rule_costs, cheap.clone()).is_empty());
        let updated = |new: &Value, old: &Value| {
            let mut errors = Vec::new();
            changed_rule_costs(&Node::root(new), &Node::root(old), &mut errors);
            errors
        };
        assert!(!updated(&costly, &cheap).is_empty());
        assert!(updated(&costly, &costly).is_empty());
    }
}
