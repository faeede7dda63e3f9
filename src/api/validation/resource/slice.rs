//! Slices: the devices that drivers offer.

use serde_json::Value;

use super::super::node::{Errors, Node};
use super::super::{FieldError, Verbatim, names as kube_names, selector};
use super::names::{device_name, driver_name, label_name, label_value, pool_name, qualified_name};
use super::{EFFECTS, set, slice_of};

const DEVICES_LIMIT: usize = 128;
/// Of devices with taints or shared counters.
const ADVANCED_DEVICES_LIMIT: usize = 64;
const ATTRIBUTES_LIMIT: usize = 32;
const COUNTER_SETS_LIMIT: usize = 8;
const COUNTERS_LIMIT: usize = 32;
const CONSUMPTIONS_LIMIT: usize = 2;
const TAINTS_LIMIT: usize = 16;
const CONDITIONS_LIMIT: usize = 4;
const VALUE_LIMIT: usize = 64;

pub fn resource_slice(slice: &Value, errors: &mut Errors) {
    let root = Node::root(slice);
    let spec = root.field("spec");
    driver_name(&spec.field("driver"), errors);
    let pool = spec.field("pool");
    pool_name(&pool.field("name"), errors);
    let (count, generation) = (pool.field("resourceSliceCount"), pool.field("generation"));
    if count.int().unwrap_or_default() <= 0 {
        count.invalid_as(count.int().unwrap_or_default(), errors, "must be greater than zero");
    }
    if generation.int().unwrap_or_default() < 0 {
        generation.invalid(errors, "must be greater than or equal to zero");
    }
    place(&spec, errors);
    devices(&spec, errors);
}

/// Neither driver nor pool nor node change.
pub fn resource_slice_update(new: &Value, old: &Value, errors: &mut Errors) {
    let (new, old) = (Node::root(new), Node::root(old));
    let (new, old) = (new.field("spec"), old.field("spec"));
    new.field("pool").field("name").immutable(&old.field("pool").field("name"), errors);
    new.field("driver").immutable(&old.field("driver"), errors);
    new.field("nodeName").immutable(&old.field("nodeName"), errors);
}

/// Where the devices can be reached: one way only.
fn place(spec: &Node, errors: &mut Errors) {
    let mut chosen = Vec::new();
    let (node, nodes) = (spec.field("nodeName"), spec.field("nodeSelector"));
    if node.is_set() {
        match node.text() {
            "" => node.invalid_text(errors, ["must be either unset or set to a non-empty string"]),
            name => {
                chosen.push("`nodeName`");
                node.invalid_text(errors, kube_names::dns1123_subdomain(name));
            }
        }
    }
    if nodes.is_set() {
        chosen.push("`nodeSelector`");
        selector::node_selector(&nodes, errors);
        let terms = nodes.field("nodeSelectorTerms");
        if terms.len() != 1 {
            terms.invalid(errors, "must have exactly one node selector term");
        }
    }
    for (field, name) in [("allNodes", "`allNodes`"), ("perDeviceNodeSelection", "`perDeviceNodeSelection`")] {
        let flag = spec.field(field);
        if flag.bool() {
            chosen.push(name);
        } else if flag.is_set() {
            flag.invalid(errors, "must be either unset or set to true");
        }
    }
    let needed = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match chosen.len() {
        0 => spec.required(errors, needed),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", chosen.join(", "));
            spec.invalid_as(&*shown, errors, format!("{needed}, but multiple fields are set"));
        }
    }
}

fn devices(spec: &Node, errors: &mut Errors) {
    let (devices, counters) = (spec.field("devices"), spec.field("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        spec.invalid_as("", errors, "only one of `sharedCounters` or `devices` is allowed");
    }
    let is_advanced =
        devices.items().any(|one| !one.field("taints").is_empty() || !one.field("consumesCounters").is_empty());
    let limit = if is_advanced { ADVANCED_DEVICES_LIMIT } else { DEVICES_LIMIT };
    let per_device = spec.field("perDeviceNodeSelection").bool();
    let name = |one: &Node| one.field("name").text().to_owned();
    set(&devices, limit, |one, errors| device(one, per_device, errors), name, errors);
    let of = |one: &Node, errors: &mut Errors| counter_set(one, "name", errors);
    set(&counters, COUNTER_SETS_LIMIT, of, name, errors);
}

/// A set of counters, or what a device takes of one, which says the set's name in another field.
fn counter_set(one: &Node, name: &str, errors: &mut Errors) {
    let (name, counters) = (one.field(name), one.field("counters"));
    if name.require(errors) {
        device_name(&name, errors);
    }
    if counters.is_empty() {
        return counters.required(errors, "");
    }
    let count = counters.map().map_or(0, serde_json::Map::len);
    if count > COUNTERS_LIMIT {
        return errors.push(FieldError::too_many(&counters.path, count, COUNTERS_LIMIT));
    }
    for (key, _) in counters.entries() {
        for message in kube_names::dns1123_label(key) {
            errors.push(FieldError::invalid(&counters.path, key, message));
        }
    }
}

fn device(device: &Node, per_device: bool, errors: &mut Errors) {
    device_name(&device.field("name"), errors);
    let (attributes, capacity) = (device.field("attributes"), device.field("capacity"));
    let count = attributes.entries().count() + capacity.entries().count();
    if count > ATTRIBUTES_LIMIT {
        let why = format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_LIMIT}");
        device.invalid_as(i64::try_from(count).unwrap_or(i64::MAX), errors, why);
    }
    for (key, value) in attributes.entries() {
        qualified_name(&attributes, key, errors);
        attribute(&value, errors);
    }
    let may_share = device.field("allowMultipleAllocations").bool();
    for (key, value) in capacity.entries() {
        qualified_name(&capacity, key, errors);
        let policy = value.field("requestPolicy");
        if policy.is_set() && !may_share {
            policy.forbidden(errors, "allowMultipleAllocations must be true");
        }
    }
    slice_of(&device.field("taints"), TAINTS_LIMIT, taint, errors);
    let of = |one: &Node, errors: &mut Errors| counter_set(one, "counterSet", errors);
    let key = |one: &Node| one.field("counterSet").text().to_owned();
    set(&device.field("consumesCounters"), CONSUMPTIONS_LIMIT, of, key, errors);
    device_place(device, per_device, errors);
    binding_conditions(device, errors);
}

fn attribute(attribute: &Node, errors: &mut Errors) {
    let (text, version) = (attribute.field("string"), attribute.field("version"));
    if text.text().len() > VALUE_LIMIT {
        errors.push(FieldError::too_long(&text.path, VALUE_LIMIT));
    }
    if version.is_set() {
        if !is_version(version.text()) {
            version.invalid_text(errors, ["must be a string compatible with semver.org spec 2.0.0"]);
        }
        if version.text().len() > VALUE_LIMIT {
            errors.push(FieldError::too_long(&version.path, VALUE_LIMIT));
        }
    }
    let values = ["bool", "int", "string", "version", "bools", "ints", "strings", "versions"];
    match values.iter().filter(|name| attribute.field(name).is_set()).count() {
        0 => attribute.invalid_as("", errors, "exactly one value must be specified"),
        1 => {}
        _ => attribute.invalid(errors, "exactly one value must be specified"),
    }
}

/// A version of semver.org: three numbers, and what may follow them.
fn is_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, release) = text.split_once('-').map_or((text, None), |(core, release)| (core, Some(release)));
    let is_plain = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    let is_digits = |part: &str| part.bytes().all(|c| c.is_ascii_digit());
    let has_no_zero = |part: &str| part == "0" || !part.starts_with('0');
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers.iter().all(|part| !part.is_empty() && is_digits(part) && has_no_zero(part))
        && release.is_none_or(|all| all.split('.').all(|one| is_plain(one) && (!is_digits(one) || has_no_zero(one))))
        && build.is_none_or(|all| all.split('.').all(is_plain))
}

fn taint(taint: &Node, errors: &mut Errors) {
    label_name(&taint.field("key"), errors);
    let (value, effect) = (taint.field("value"), taint.field("effect"));
    if !value.is_empty() {
        label_value(&value, errors);
    }
    match effect.text() {
        "" => effect.required(errors, ""),
        text if !EFFECTS.contains(&text) => effect.not_supported(errors, &EFFECTS),
        _ => {}
    }
}

/// Where one device can be reached, if the slice leaves it to the devices.
fn device_place(device: &Node, per_device: bool, errors: &mut Errors) {
    let (node, nodes, all) = (device.field("nodeName"), device.field("nodeSelector"), device.field("allNodes"));
    if !per_device {
        if node.is_set() || nodes.is_set() || all.is_set() {
            device.invalid_as(
                Verbatim("null".to_owned()),
                errors,
                "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
            );
        }
        return;
    }
    let mut chosen = Vec::new();
    if node.is_set() {
        match node.text() {
            "" => node.invalid_text(errors, ["must not be empty"]),
            name => {
                chosen.push("`nodeName`");
                node.invalid_text(errors, kube_names::dns1123_subdomain(name));
            }
        }
    }
    if nodes.is_set() {
        chosen.push("`nodeSelector`");
        selector::node_selector(&nodes, errors);
    }
    if all.bool() {
        chosen.push("`allNodes`");
    } else if all.is_set() {
        all.invalid(errors, "must be either unset or set to true");
    }
    let needed = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    match chosen.len() {
        0 => device.required(errors, needed),
        1 => {}
        _ => device.invalid_as(&*format!("{{{}}}", chosen.join(", ")), errors, needed),
    }
}

/// What must have happened, or not, before a pod is bound to the node.
pub(super) fn binding_conditions(device: &Node, errors: &mut Errors) {
    let (wanted, failures) = (device.field("bindingConditions"), device.field("bindingFailureConditions"));
    slice_of(&wanted, CONDITIONS_LIMIT, label_name, errors);
    slice_of(&failures, CONDITIONS_LIMIT, label_name, errors);
    let repeated = |list: &Node, index: usize, text: &str| list.items().take(index).any(|one| one.text() == text);
    for (index, condition) in wanted.items().enumerate() {
        if repeated(&wanted, index, condition.text()) {
            condition.duplicate(errors);
        }
    }
    for (index, condition) in failures.items().enumerate() {
        if repeated(&failures, index, condition.text()) {
            condition.duplicate(errors);
        }
        if wanted.items().any(|one| one.text() == condition.text()) {
            condition.invalid(errors, "bindingFailureConditions must not overlap with bindingConditions");
        }
    }
    if wanted.is_empty() && !failures.is_empty() {
        wanted.invalid(errors, "bindingConditions are required to use bindingFailureConditions");
    }
    if failures.is_empty() && !wanted.is_empty() {
        failures.invalid(errors, "bindingFailureConditions are required to use bindingConditions");
    }
}
