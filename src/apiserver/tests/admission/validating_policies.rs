//! ValidatingAdmissionPolicy.

use serde_json::{Value, json};

use crate::cluster::{Cluster, MAPS};

const POLICIES: &str = "validatingadmissionpolicies";
const BINDINGS: &str = "validatingadmissionpolicybindings";

/// Puts a policy for ConfigMaps into force.
async fn enforce(cluster: &Cluster, spec: Value, binding: Value) {
    let rules = json!([{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["configmaps"]}]);
    let mut policy = json!({"matchConstraints": {"resourceRules": rules}});
    for (field, value) in spec.as_object().expect("fields") {
        policy[field] = value.clone();
    }
    cluster.register(POLICIES, json!({"metadata": {"name": "p"}, "spec": policy})).await;
    let mut spec = json!({"policyName": "p", "validationActions": ["Deny"]});
    for (field, value) in binding.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    cluster.register(BINDINGS, json!({"metadata": {"name": "b"}, "spec": spec})).await;
}

async fn lift(cluster: &Cluster) {
    cluster.unregister(BINDINGS, "b").await;
    cluster.unregister(POLICIES, "p").await;
}

fn denied(why: &str) -> String {
    denied_map("m", why)
}

fn denied_map(name: &str, why: &str) -> String {
    format!("configmaps {name:?} is forbidden: {}", sentence(why))
}

fn sentence(why: &str) -> String {
    format!("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: {why}")
}

fn validation(expression: &str) -> Value {
    json!({"validations": [{"expression": expression}]})
}

#[tokio::test]
async fn a_policy_is_in_force_as_long_as_it_is_bound() {
    let cluster = Cluster::start().await;
    enforce(&cluster, validation("object.metadata.name == 'good'"), json!({})).await;
    cluster.map("good").await.ok();
    let why = "failed expression: object.metadata.name == 'good'";
    let bad = cluster.map("bad").await;
    assert_eq!((bad.error(), &bad.value["reason"]), ((422, denied_map("bad", why).as_str()), &json!("Invalid")));
    assert_eq!(bad.value["details"]["causes"], json!([{"message": sentence(why)}]));
    cluster.unregister(BINDINGS, "b").await;
    cluster.map("bad").await.ok();
}

#[tokio::test]
async fn messages_and_reasons_are_the_policys() {
    let cluster = Cluster::start().await;
    let cases = [
        (json!({"message": "no"}), "no", 422),
        (json!({"message": "no", "reason": "Forbidden"}), "no", 403),
        (json!({"message": "no", "reason": "Unauthorized"}), "no", 401),
        (json!({"messageExpression": "'not ' + object.metadata.name"}), "not m", 422),
        (json!({"message": "no", "messageExpression": "object.data.x"}), "no", 422),
        (json!({"message": "no", "messageExpression": "'two\\nlines'"}), "no", 422),
    ];
    for (special, message, code) in cases {
        let mut validation = json!({"expression": "false"});
        for (field, value) in special.as_object().expect("fields") {
            validation[field] = value.clone();
        }
        enforce(&cluster, json!({"validations": [validation]}), json!({})).await;
        assert_eq!(cluster.map("m").await.error(), (code, denied(message).as_str()), "{special}");
        lift(&cluster).await;
    }
}

#[tokio::test]
async fn warnings_let_the_request_pass() {
    let cluster = Cluster::start().await;
    for (actions, code) in
        [(json!(["Warn"]), 201), (json!(["Audit"]), 201), (json!(["Warn", "Audit"]), 201), (json!(["Deny"]), 422)]
    {
        enforce(&cluster, validation("false"), json!({"validationActions": actions})).await;
        let answer = cluster.post(&format!("{MAPS}?dryRun=All"), json!({"metadata": {"name": "m"}})).await;
        assert_eq!(answer.code, code, "{actions}");
        let warned = actions.as_array().expect("a list").contains(&json!("Warn"));
        let warning =
            "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: false\"";
        assert_eq!(answer.warnings, if warned { vec![warning.to_owned()] } else { Vec::new() });
        lift(&cluster).await;
    }
}

#[tokio::test]
async fn variables_conditions_and_the_authorizer_may_be_used() {
    let cluster = Cluster::start().await;
    let condition = |expression: &str| json!([{"name": "c", "expression": expression}]);
    let cases = [
        // What nothing uses may fail.
        (
            json!({"variables": [{"name": "x", "expression": "object.data.none"}, {"name": "y", "expression": "1"}],
            "validations": [{"expression": "variables.y == 1"}]}),
            None,
        ),
        (
            json!({"variables": [{"name": "x", "expression": "object.data.none"}],
            "validations": [{"expression": "variables.x == 1"}]}),
            Some(
                "expression 'variables.x == 1' resulted in error: composited variable \"x\" fails to evaluate: no such key: data",
            ),
        ),
        (
            json!({"variables": [{"name": "x", "expression": "2"}, {"name": "y", "expression": "variables.x + 1"}],
            "validations": [{"expression": "variables.y != 3", "message": "three"}]}),
            Some("three"),
        ),
        (
            json!({"matchConditions": condition("object.metadata.name != 'm'"), "validations": [{"expression": "false"}]}),
            None,
        ),
        // A condition that does not hold decides, whatever is wrong with another.
        (
            json!({"matchConditions": [{"name": "a", "expression": "object.data.none"}, {"name": "b", "expression": "false"}],
            "validations": [{"expression": "false"}]}),
            None,
        ),
        (
            json!({"matchConditions": condition("object.data.none"), "validations": [{"expression": "false"}]}),
            Some("expression 'object.data.none' resulted in error: no such key: data"),
        ),
        (
            json!({"matchConditions": condition("object.data.none"), "validations": [{"expression": "false"}],
            "failurePolicy": "Ignore"}),
            None,
        ),
        (validation("authorizer.group('').resource('configmaps').namespace('a').check('delete').allowed()"), None),
        (
            validation("!authorizer.requestResource.check('create').allowed()"),
            Some("failed expression: !authorizer.requestResource.check('create').allowed()"),
        ),
        (
            validation("!authorizer.serviceAccount('a', 'default').group('').resource('pods').check('get').allowed()"),
            None,
        ),
        (validation("namespaceObject.metadata.labels.team == 'red' && oldObject == null"), None),
        (
            validation("object.data.none == ''"),
            Some("expression 'object.data.none == ''' resulted in error: no such key: data"),
        ),
    ];
    for (spec, expected) in cases {
        enforce(&cluster, spec.clone(), json!({})).await;
        let answer = cluster.post(&format!("{MAPS}?dryRun=All"), json!({"metadata": {"name": "m"}})).await;
        match expected {
            None => assert_eq!(answer.code, 201, "{spec} {}", answer.value),
            Some(why) => assert_eq!(answer.error(), (422, denied(why).as_str()), "{spec}"),
        }
        lift(&cluster).await;
    }
}

#[tokio::test]
async fn parameters_are_found_by_name_or_selector() {
    let cluster = Cluster::start().await;
    for (name, limit) in [("three", "3"), ("five", "5")] {
        let map = json!({"metadata": {"name": name, "labels": {"use": "params"}}, "data": {"limit": limit}});
        cluster.post("/api/v1/namespaces/b/configmaps", map).await.ok();
    }
    let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": [
        {"expression": "object.data.size() <= int(params.data.limit)", "messageExpression": "'over ' + params.data.limit"}]});
    let by_name = |name: &str, action: &str| json!({"paramRef": {"name": name, "namespace": "b", "parameterNotFoundAction": action}});
    let selected = json!({"paramRef": {"selector": {"matchLabels": {"use": "params"}}, "namespace": "b",
        "parameterNotFoundAction": "Deny"}});
    let missing = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    let cases = [
        (by_name("three", "Deny"), Some("over 3")),
        (by_name("five", "Deny"), None),
        (selected, Some("over 3")),
        (by_name("none", "Deny"), Some(missing)),
        (by_name("none", "Allow"), None),
    ];
    for (binding, expected) in cases {
        enforce(&cluster, spec.clone(), binding.clone()).await;
        let map = json!({"metadata": {"name": "m"}, "data": {"a": "1", "b": "2", "c": "3", "d": "4"}});
        let answer = cluster.post(&format!("{MAPS}?dryRun=All"), map).await;
        match expected {
            None => assert_eq!(answer.code, 201, "{binding} {}", answer.value),
            Some(why) => assert_eq!(answer.error(), (422, denied(why).as_str()), "{binding}"),
        }
        lift(&cluster).await;
    }
}

#[tokio::test]
async fn a_changed_policy_is_compiled_anew() {
    let cluster = Cluster::start().await;
    enforce(&cluster, validation("false"), json!({})).await;
    assert_eq!(cluster.map("m").await.code, 422);
    let path = format!("/apis/admissionregistration.k8s.io/v1/{POLICIES}/p");
    cluster.merge(&path, json!({"spec": validation("true")})).await.ok();
    cluster.map("m").await.ok();
    // Another of the same name is another.
    cluster.delete(&path).await.ok();
    cluster.map("n").await.ok();
}

#[tokio::test]
async fn the_status_of_a_policy_tells_what_its_expressions_get_wrong_about_its_kinds() {
    let cluster = Cluster::start().await;
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
        "resources": ["deployments", "daemonsets"]}]);
    let spec = |expression: &str| {
        json!({"matchConstraints": {"resourceRules": rules},
        "validations": [{"expression": expression}]})
    };
    let wrong = json!({"metadata": {"name": "p"}, "spec": spec("object.spec.replicas < 5")});
    cluster.register(POLICIES, wrong).await;
    let path = format!("/apis/admissionregistration.k8s.io/v1/{POLICIES}/p");
    let checked = async |generation: i64| {
        let deadline = std::time::Instant::now() + crate::cluster::PATIENCE;
        loop {
            let policy = cluster.get(&path).await.ok();
            if policy["status"]["observedGeneration"] == generation {
                return policy["status"]["typeChecking"].clone();
            }
            assert!(std::time::Instant::now() < deadline, "it is never checked: {policy}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    let warnings = checked(1).await;
    assert_eq!(warnings["expressionWarnings"][0]["fieldRef"], "spec.validations[0].expression");
    let warning = warnings["expressionWarnings"][0]["warning"].as_str().unwrap();
    assert!(warning.starts_with("apps/v1, Kind=DaemonSet: "), "{warning}");
    assert!(warning.contains("undefined field 'replicas'") && !warning.contains("Deployment"), "{warning}");
    let right = json!({"spec": spec("object.spec.selector.matchLabels.size() > 0")});
    cluster.merge(&path, right).await.ok();
    assert_eq!(checked(2).await, json!({}));
}
