use serde_json::json;

use super::*;
use crate::validation::wrong;

fn claim(devices: Value) -> Value {
    json!({"metadata": {"name": "c"}, "spec": {"devices": devices}})
}

#[test]
fn a_request_asks_in_one_way_for_devices_of_a_class() {
    let exactly = json!({"deviceClassName": "c.example", "allocationMode": "ExactCount", "count": 1});
    assert!(wrong(resource_claim, claim(json!({"requests": [{"name": "r", "exactly": exactly}]}))).is_empty());
    let odd = json!({"deviceClassName": "", "allocationMode": "All", "count": 2,
        "selectors": [{}, {"cel": {"expression": "1 + 1"}}],
        "tolerations": [{"operator": "Exists", "value": "v"}, {"operator": "In", "effect": "Never"}]});
    let at = "spec.devices.requests";
    assert_eq!(
        wrong(
            resource_claim,
            claim(json!({"requests": [
                {"name": "r"},
                {"name": "r", "exactly": exactly, "firstAvailable": [{"name": "s"}]},
                {"name": "o", "exactly": odd}]}))
        ),
        [
            format!("{at}[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"),
            format!(
                "{at}[1]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"
            ),
            format!("{at}[2].exactly.deviceClassName: Required value"),
            format!("{at}[2].exactly.selectors[0].cel: Required value"),
            format!("{at}[2].exactly.selectors[1].cel.expression: Invalid value: \"1 + 1\": must evaluate to bool"),
            format!("{at}[2].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"),
            format!("{at}[2].exactly.tolerations[0].value: Invalid value: \"v\": must be empty for operator `Exists`"),
            format!(
                "{at}[2].exactly.tolerations[1].operator: Unsupported value: \"In\": supported values: \"Equal\", \"Exists\""
            ),
            format!(
                "{at}[2].exactly.tolerations[1].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \"None\""
            ),
            format!("{at}[1]: Duplicate value: \"r\""),
        ]
    );
}

#[test]
fn constraints_and_configurations_are_about_requests_that_are_there() {
    let devices = json!({
        "requests": [{"name": "r", "exactly": {"deviceClassName": "c", "allocationMode": "All"}}],
        "constraints": [{"requests": ["x"], "matchAttribute": "plain"}, {}],
        "config": [{"requests": ["r"], "opaque": {"driver": "d.example", "parameters": 1}}, {}]});
    assert_eq!(
        wrong(resource_claim, claim(devices)),
        [
            "spec.devices.constraints[0].requests[0]: Invalid value: \"x\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            "spec.devices.constraints[0].matchAttribute: Invalid value: \"plain\": a fully qualified name must be a domain and a name separated by a slash",
            "spec.devices.constraints[1]: Required value: exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
            "spec.devices.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
            "spec.devices.config[1].opaque: Required value",
        ]
    );
}

#[test]
fn what_is_claimed_stays() {
    let (old, new) = (claim(json!({"requests": []})), claim(json!({})));
    let mut errors = Vec::new();
    resource_claim_update(&new, &old, &mut errors);
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [r#"spec: Invalid value: {"Devices":{"Requests":null,"Constraints":null,"Config":null}}: field is immutable"#]
    );
}

#[test]
fn a_slice_is_in_one_place_and_its_devices_have_values() {
    let slice = |spec: Value| wrong(resource_slice, json!({"metadata": {"name": "s"}, "spec": spec}));
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
    let device = json!({"name": "d0", "attributes": {"a": {"version": "1.2"}, "b": {}, "x/": {"int": 1}}});
    assert!(
        slice(json!({"driver": "d.example", "nodeName": "n", "pool": pool, "devices": [{"name": "d0"}]})).is_empty()
    );
    assert_eq!(
        slice(json!({"driver": "d.example", "pool": {"name": "", "generation": -1}, "devices": [device],
            "nodeName": "n", "allNodes": true})),
        [
            "spec.pool.name: Required value",
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            "spec.pool.generation: Invalid value: -1: must be greater than or equal to zero",
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            "spec.devices[0].attributes[a].version: Invalid value: \"1.2\": must be a string compatible with semver.org spec 2.0.0",
            "spec.devices[0].attributes[b]: Invalid value: \"\": exactly one value must be specified",
            "spec.devices[0].attributes: Invalid value: \"\": the name must not be empty",
        ]
    );
}

#[test]
fn a_claim_is_reserved_only_when_it_is_allocated() {
    let mut new = claim(json!({"requests": [{"name": "r"}]}));
    let old = new.clone();
    new["status"] = json!({"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}, {"uid": "u"}]});
    let mut errors = Vec::new();
    resource_claim_status(&new, &old, &mut errors);
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "status.reservedFor[1].resource: Required value",
            "status.reservedFor[1].name: Required value",
            "status.reservedFor[1]: Duplicate value: \"u\"",
            "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
        ]
    );
}
