//! What has become of a claim: which devices it got, and who uses them.

use serde_json::Value;

use super::super::node::{Errors, Node};
use super::super::selector;
use super::names::{device_name, driver_name, pool_name};
use super::slice::binding_conditions;
use super::{LIST_LIMIT, Requests, configuration, set, slice_of, toleration};
use crate::object;

const RESERVED_LIMIT: usize = 256;
const RESULTS_LIMIT: usize = 32;

pub fn resource_claim_status(new: &Value, old: &Value, errors: &mut Errors) {
    let (root, old_root) = (Node::root(new), Node::root(old));
    let spec = root.field("spec");
    let requests = Requests::of(&spec.field("devices"));
    let (status, old_status) = (root.field("status"), old_root.field("status"));
    let (allocation, old_allocation) = (status.field("allocation"), old_status.field("allocation"));
    let reserved = status.field("reservedFor");
    set(&reserved, RESERVED_LIMIT, consumer, |one| one.field("uid").text().to_owned(), errors);
    if !reserved.is_empty() {
        let old_reserved = old_status.field("reservedFor");
        let is_new = |one: &Node| !old_reserved.items().any(|old| old.value == one.value);
        if !allocation.is_set() {
            reserved.forbidden(errors, "may not be specified when `allocated` is not set");
        } else if object::is_deleting(new) && reserved.items().any(|one| is_new(&one)) {
            reserved.forbidden(
                errors,
                "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set",
            );
        }
    }
    if allocation.is_set() && old_allocation.is_set() {
        allocation.immutable(&old_allocation, errors);
    } else if allocation.is_set() {
        self::allocation(&allocation, &requests, errors);
    }
}

fn consumer(consumer: &Node, errors: &mut Errors) {
    for field in ["resource", "name", "uid"] {
        consumer.field(field).require(errors);
    }
}

fn allocation(allocation: &Node, requests: &Requests, errors: &mut Errors) {
    let devices = allocation.field("devices");
    slice_of(&devices.field("results"), RESULTS_LIMIT, |one, errors| result(one, requests, errors), errors);
    let of = |config: &Node, errors: &mut Errors| {
        let source = config.field("source");
        match source.text() {
            "" => source.required(errors, ""),
            "FromClass" | "FromClaim" => {}
            _ => source.not_supported(errors, &["FromClaim", "FromClass"]),
        }
        requests.references(&config.field("requests"), errors);
        configuration(config, errors);
    };
    // Of the class and of the claim.
    slice_of(&devices.field("config"), 2 * LIST_LIMIT, of, errors);
    let nodes = allocation.field("nodeSelector");
    if nodes.is_set() {
        selector::node_selector(&nodes, errors);
    }
}

fn result(result: &Node, requests: &Requests, errors: &mut Errors) {
    requests.reference(&result.field("request"), errors);
    driver_name(&result.field("driver"), errors);
    pool_name(&result.field("pool"), errors);
    device_name(&result.field("device"), errors);
    binding_conditions(result, errors);
    result.field("tolerations").items().for_each(|one| toleration(&one, errors));
}
