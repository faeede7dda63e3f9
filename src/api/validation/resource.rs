//! resource.k8s.io: claims of devices, their templates, and classes of devices.

mod names;
mod slice;
mod status;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

pub use slice::{resource_slice, resource_slice_update};
pub use status::resource_claim_status;

use super::node::{Errors, Node};
use super::{FieldError, Verbatim, go_json};
use crate::cel::{Environment, Type};
use names::{driver_name, fully_qualified_name, label_name, label_value};

/// Requests, constraints, configurations and selectors, each.
const LIST_LIMIT: usize = 32;
const ALTERNATIVES_LIMIT: usize = 8;
const EXPRESSION_LIMIT: usize = 10 * 1024;
const PARAMETERS_LIMIT: usize = 10 * 1024;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// The requests of a claim by name, each with the names of its alternatives.
pub(super) struct Requests(BTreeMap<String, BTreeSet<String>>);

impl Requests {
    pub(super) fn of(devices: &Node) -> Self {
        let named = |node: &Node| node.field("name").text().to_owned();
        let requests = devices.field("requests");
        let all = requests.items().map(|request| {
            let alternatives = request.field("firstAvailable").items().map(|one| named(&one)).collect();
            (named(&request), alternatives)
        });
        Self(all.collect())
    }

    fn has(&self, reference: &str) -> bool {
        match reference.split_once('/') {
            None => self.0.contains_key(reference),
            Some((request, alternative)) => self.0.get(request).is_some_and(|all| all.contains(alternative)),
        }
    }

    /// A reference to a request, or to one of its alternatives.
    pub(super) fn reference(&self, reference: &Node, errors: &mut Errors) {
        const WHY: &str =
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        let segments: Vec<&str> = reference.text().split('/').collect();
        if segments.len() > 2 {
            return reference.invalid_text(errors, [WHY]);
        }
        for segment in segments {
            for message in super::names::dns1123_label(segment) {
                errors.push(FieldError::invalid(&reference.path, segment, message));
            }
        }
        if !self.has(reference.text()) {
            reference.invalid_text(errors, [WHY]);
        }
    }

    pub(super) fn references(&self, list: &Node, errors: &mut Errors) {
        set(list, LIST_LIMIT, |name, errors| self.reference(name, errors), |name| name.text().to_owned(), errors);
    }
}

/// A list of at most so many elements.
pub(super) fn slice_of(list: &Node, limit: usize, of: impl Fn(&Node, &mut Errors), errors: &mut Errors) {
    if list.len() > limit {
        return errors.push(FieldError::too_many(&list.path, list.len(), limit));
    }
    list.items().for_each(|item| of(&item, errors));
}

/// A list of at most so many elements, no two of the same key.
pub(super) fn set(
    list: &Node,
    limit: usize,
    of: impl Fn(&Node, &mut Errors),
    key: impl Fn(&Node) -> String,
    errors: &mut Errors,
) {
    slice_of(list, limit, of, errors);
    if list.len() > limit {
        return;
    }
    let mut known = BTreeSet::new();
    for item in list.items() {
        let key = key(&item);
        if known.contains(&key) {
            errors.push(FieldError::duplicate(&item.path, &key));
        }
        known.insert(key);
    }
}

fn name_of(node: &Node) -> String {
    node.field("name").text().to_owned()
}

pub fn resource_claim(claim: &Value, errors: &mut Errors) {
    let root = Node::root(claim);
    let spec = root.field("spec");
    devices(&spec.field("devices"), errors);
}

pub fn resource_claim_template(template: &Value, errors: &mut Errors) {
    let root = Node::root(template);
    let spec = root.field("spec");
    let metadata = spec.field("metadata");
    super::metadata::labels(&metadata.path.child("labels"), metadata.value.get("labels"), errors);
    super::metadata::annotations(&metadata.path.child("annotations"), metadata.value.get("annotations"), errors);
    let spec = spec.field("spec");
    devices(&spec.field("devices"), errors);
}

/// What is claimed stays.
pub fn resource_claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    immutable_spec(new, old, |spec| go_json::shown("ResourceClaimSpec", spec), errors);
}

/// The same of what a template says.
pub fn resource_claim_template_update(new: &Value, old: &Value, errors: &mut Errors) {
    let shown = |spec: &Value| {
        let claim = go_json::shown("ResourceClaimSpec", spec.get("spec").unwrap_or(&Value::Null)).0;
        let metadata = match spec.get("metadata") {
            Some(metadata) if metadata.as_object().is_some_and(|fields| !fields.is_empty()) => metadata.to_string(),
            _ => "{}".to_owned(),
        };
        let fields = metadata.trim_start_matches('{').trim_end_matches('}');
        let comma = if fields.is_empty() { "" } else { "," };
        Verbatim(format!("{{{fields}{comma}\"Spec\":{claim}}}"))
    };
    immutable_spec(new, old, shown, errors);
}

fn immutable_spec(new: &Value, old: &Value, shown: impl Fn(&Value) -> Verbatim, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let spec = new.field("spec");
    if spec.value != old.field("spec").value {
        spec.invalid_as(shown(spec.value), errors, "field is immutable");
    }
}

fn devices(devices: &Node, errors: &mut Errors) {
    let requests = Requests::of(devices);
    set(&devices.field("requests"), LIST_LIMIT, request, name_of, errors);
    slice_of(&devices.field("constraints"), LIST_LIMIT, |one, errors| constraint(one, &requests, errors), errors);
    let of = |config: &Node, errors: &mut Errors| {
        requests.references(&config.field("requests"), errors);
        configuration(config, errors);
    };
    slice_of(&devices.field("config"), LIST_LIMIT, of, errors);
}

fn request(request: &Node, errors: &mut Errors) {
    let (exactly, alternatives) = (request.field("exactly"), request.field("firstAvailable"));
    let name = request.field("name");
    name.invalid_text(errors, super::names::dns1123_label(name.text()));
    match (exactly.is_set(), !alternatives.is_empty()) {
        (false, false) => request.required(errors, "exactly one of `exactly` or `firstAvailable` is required"),
        (true, true) => request.invalid_as(
            Verbatim("null".to_owned()),
            errors,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (true, false) => wanted(&exactly, errors),
        (false, true) => {
            let of = |one: &Node, errors: &mut Errors| {
                let name = one.field("name");
                name.invalid_text(errors, super::names::dns1123_label(name.text()));
                wanted(one, errors);
            };
            set(&alternatives, ALTERNATIVES_LIMIT, of, name_of, errors);
        }
    }
}

/// The devices that a request asks for.
fn wanted(request: &Node, errors: &mut Errors) {
    let class = request.field("deviceClassName");
    if class.require(errors) {
        class.invalid_text(errors, super::names::dns1123_subdomain(class.text()));
    }
    selectors(&request.field("selectors"), errors);
    let (mode, count) = (request.field("allocationMode"), request.field("count"));
    let number = count.int().unwrap_or_default();
    match mode.text() {
        "All" if number != 0 => {
            count.invalid_as(number, errors, "must not be specified when allocationMode is 'All'");
        }
        "ExactCount" if number <= 0 => count.invalid_as(number, errors, "must be greater than zero"),
        "All" | "ExactCount" => {}
        _ => mode.not_supported(errors, &["All", "ExactCount"]),
    }
    request.field("tolerations").items().for_each(|one| toleration(&one, errors));
}

pub(super) fn toleration(toleration: &Node, errors: &mut Errors) {
    let (key, operator) = (toleration.field("key"), toleration.field("operator"));
    let (value, effect) = (toleration.field("value"), toleration.field("effect"));
    if !key.is_empty() {
        label_name(&key, errors);
    }
    match operator.text() {
        "Exists" if !value.is_empty() => value.invalid_text(errors, ["must be empty for operator `Exists`"]),
        "Exists" => {}
        "Equal" => label_value(&value, errors),
        "" => operator.required(errors, ""),
        _ => operator.not_supported(errors, &["Equal", "Exists"]),
    }
    if !effect.is_empty() && !EFFECTS.contains(&effect.text()) {
        effect.not_supported(errors, &EFFECTS);
    }
}

fn constraint(constraint: &Node, requests: &Requests, errors: &mut Errors) {
    requests.references(&constraint.field("requests"), errors);
    let (same, other) = (constraint.field("matchAttribute"), constraint.field("distinctAttribute"));
    if same.is_set() {
        fully_qualified_name(&same, errors);
    } else if other.is_set() {
        fully_qualified_name(&other, errors);
    } else {
        constraint.required(
            errors,
            "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
        );
    }
}

/// What a driver is told.
pub(super) fn configuration(config: &Node, errors: &mut Errors) {
    let opaque = config.field("opaque");
    if !opaque.is_set() {
        return opaque.required(errors, "");
    }
    driver_name(&opaque.field("driver"), errors);
    raw_object(&opaque.field("parameters"), PARAMETERS_LIMIT, errors);
}

/// Any JSON object of so many bytes.
pub(super) fn raw_object(raw: &Node, limit: usize, errors: &mut Errors) {
    if !raw.is_set() {
        raw.required(errors, "");
    } else if raw.value.to_string().len() > limit {
        errors.push(FieldError::too_long(&raw.path, limit));
    } else if !raw.value.is_object() {
        raw.invalid_as("<value omitted>", errors, "must be a valid JSON object");
    }
}

fn selectors(selectors: &Node, errors: &mut Errors) {
    slice_of(selectors, LIST_LIMIT, selector, errors);
}

fn selector(selector: &Node, errors: &mut Errors) {
    let cel = selector.field("cel");
    if !cel.is_set() {
        return cel.required(errors, "");
    }
    let expression = cel.field("expression");
    if expression.text().len() > EXPRESSION_LIMIT {
        return errors.push(FieldError::too_long(&expression.path, EXPRESSION_LIMIT));
    }
    let why = match Environment::new().with("device", Type::Dyn).compile(expression.text()) {
        Err(issues) => format!("compilation failed: {issues}"),
        Ok(program) if !matches!(program.output(), Type::Bool | Type::Dyn) => "must evaluate to bool".to_owned(),
        Ok(_) => return,
    };
    expression.invalid_text(errors, [why]);
}

pub fn device_class(class: &Value, errors: &mut Errors) {
    let root = Node::root(class);
    let spec = root.field("spec");
    selectors(&spec.field("selectors"), errors);
    slice_of(&spec.field("config"), LIST_LIMIT, configuration, errors);
    let extended = spec.field("extendedResourceName");
    if extended.is_set() && !names::is_extended_resource(extended.text()) {
        extended.invalid(errors, "must be a valid extended resource name");
    }
}

#[cfg(test)]
mod tests;
