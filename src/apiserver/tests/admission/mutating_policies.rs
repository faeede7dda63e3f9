//! MutatingAdmissionPolicy.

use serde_json::{Value, json};

use crate::cluster::{Cluster, MAPS};
use crate::server::Server;

const POLICIES: &str = "mutatingadmissionpolicies";
const BINDINGS: &str = "mutatingadmissionpolicybindings";

/// A mutation by `ApplyConfiguration`.
fn configure(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

/// A mutation by `JSONPatch`.
fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

/// Puts a policy for ConfigMaps into force, with what is special about it and its binding.
async fn enforce(cluster: &Cluster, name: &str, mutations: Vec<Value>, special: Value, binding: Value) {
    let rules = json!([{"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["configmaps"]}]);
    let mut spec = json!({"matchConstraints": {"resourceRules": rules}, "reinvocationPolicy": "Never",
        "mutations": mutations});
    for (field, value) in special.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    cluster.register(POLICIES, json!({"metadata": {"name": name}, "spec": spec})).await;
    let mut spec = json!({"policyName": name});
    for (field, value) in binding.as_object().expect("fields") {
        spec[field] = value.clone();
    }
    cluster.register(BINDINGS, json!({"metadata": {"name": name}, "spec": spec})).await;
}

async fn lift(cluster: &Cluster, name: &str) {
    cluster.unregister(BINDINGS, name).await;
    cluster.unregister(POLICIES, name).await;
}

#[tokio::test]
async fn mutations_are_done_in_order_and_see_each_other() {
    let cluster = Cluster::start().await;
    let mutations = vec![
        configure(r#"Object{metadata: Object.metadata{labels: {"by": request.userInfo.username}}}"#),
        patch(
            r#"[JSONPatch{op: "add", path: "/data", value: {"label": object.metadata.labels.by, "prefix": variables.prefix}}]"#,
        ),
    ];
    let special = json!({"variables": [{"name": "prefix", "expression": "object.metadata.name + '-'"}]});
    enforce(&cluster, "p", mutations, special, json!({})).await;
    let map = cluster.map("m").await.ok();
    assert_eq!(map["metadata"]["labels"], json!({"by": "admin"}));
    assert_eq!(map["data"], json!({"label": "admin", "prefix": "m-"}));
    lift(&cluster, "p").await;
    assert_eq!(cluster.map("n").await.ok().get("data"), None);
}

#[tokio::test]
async fn a_configuration_is_merged_into_lists_by_their_keys_and_defaulted() {
    let cluster = Cluster::start().await;
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"],
        "resources": ["deployments"]}]);
    let expression = r#"Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
        initContainers: [Object.spec.template.spec.initContainers{name: "side", image: "side", restartPolicy: "Always"}],
        containers: object.spec.template.spec.containers.map(c,
            Object.spec.template.spec.containers{name: c.name, workingDir: "/" + c.name})}}}}"#;
    let special = json!({"matchConstraints": {"resourceRules": rules}});
    enforce(&cluster, "p", vec![configure(expression)], special, json!({})).await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [
        {"name": "one", "image": "i"}, {"name": "two", "image": "j"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": template}});
    let made = cluster.post("/apis/apps/v1/namespaces/a/deployments", deployment).await.ok();
    let spec = &made["spec"]["template"]["spec"];
    assert_eq!((&spec["containers"][1]["workingDir"], &spec["containers"][1]["image"]), (&json!("/two"), &json!("j")));
    assert_eq!(spec["initContainers"][0]["terminationMessagePolicy"], "File");
}

#[tokio::test]
async fn conditions_bindings_and_parameters_decide() {
    let cluster = Cluster::start().await;
    let limits = "/api/v1/namespaces/b/configmaps";
    for (name, value) in [("one", "1"), ("two", "2")] {
        let map = json!({"metadata": {"name": name, "labels": {"use": "params"}}, "data": {"key": value}});
        cluster.post(limits, map).await.ok();
    }
    let set = r#"Object{metadata: Object.metadata{annotations: {"p" + params.data.key: params.metadata.name}}}"#;
    let condition = json!([{"name": "c", "expression": "object.metadata.name != 'not-me'"}]);
    let special = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConditions": condition});
    let binding = json!({"paramRef": {"namespace": "b", "selector": {"matchLabels": {"use": "params"}},
        "parameterNotFoundAction": "Deny"},
        "matchResources": {"namespaceSelector": {"matchLabels": {"team": "red"}}}});
    enforce(&cluster, "p", vec![configure(set)], special, binding).await;
    let map = cluster.map("m").await.ok();
    assert_eq!(map["metadata"]["annotations"], json!({"p1": "one", "p2": "two"}));
    assert_eq!(cluster.map("not-me").await.ok()["metadata"].get("annotations"), None);
    let elsewhere = cluster.post(limits, json!({"metadata": {"name": "m"}})).await.ok();
    assert_eq!(elsewhere["metadata"].get("annotations"), None);

    for name in ["one", "two"] {
        cluster.delete(&format!("{limits}/{name}")).await.ok();
    }
    let denied = cluster.map("n").await;
    let why = "policy 'p' with binding 'p' denied request: failed to configure binding: no params found for policy \
               binding with `Deny` parameterNotFoundAction";
    assert_eq!((denied.error(), &denied.value["reason"]), ((403, why), &json!("Forbidden")));
}

#[tokio::test]
async fn what_cannot_be_done_is_decided_by_the_failure_policy() {
    let cluster = Cluster::start().await;
    let cases = [
        (
            configure("Object{spec: Object.spec{none: 1}}"),
            "error applying patch: failed to convert patch object to typed object: .spec: field not declared in schema",
        ),
        (
            configure("Object{metadata: Object.metadata{name: object.data.x}}"),
            "expression 'Object{metadata: Object.metadata{name: object.data.x}}' resulted in error: no such key: data",
        ),
        (patch(r#"[JSONPatch{op: "remove", path: "/data/x"}]"#), "JSONPath: "),
    ];
    for (mutation, why) in cases {
        enforce(&cluster, "p", vec![mutation.clone()], json!({"failurePolicy": "Fail"}), json!({})).await;
        let answer = cluster.map("m").await;
        let (code, message) = answer.error();
        let expected = format!("policy 'p' with binding 'p' denied request: {why}");
        assert!(code == 403 && message.starts_with(&expected), "{message}\nis not\n{expected}");
        assert_eq!(answer.value["reason"], "Invalid");
        lift(&cluster, "p").await;

        enforce(&cluster, "p", vec![mutation], json!({"failurePolicy": "Ignore"}), json!({})).await;
        cluster.map("m").await.ok();
        cluster.delete(&format!("{MAPS}/m")).await.ok();
        lift(&cluster, "p").await;
    }
    // A test that does not hold is no failure: nothing is changed.
    let test =
        patch(r#"[JSONPatch{op: "test", path: "/metadata/name", value: "x"}, JSONPatch{op: "remove", path: "/x"}]"#);
    enforce(&cluster, "p", vec![test], json!({}), json!({})).await;
    cluster.map("m").await.ok();
}

#[tokio::test]
async fn policies_come_before_webhooks_and_again_if_they_want_to() {
    let server = Server::reviewing(|request| {
        use base64::Engine;
        let labels = request["object"]["metadata"]["labels"].clone();
        assert_eq!(labels["early"], "yes", "the policy comes first");
        let operations = json!([{"op": "add", "path": "/metadata/labels/hook", "value": "yes"}]);
        let patch = base64::engine::general_purpose::STANDARD.encode(operations.to_string());
        json!({"allowed": true, "patchType": "JSONPatch", "patch": patch})
    })
    .await;
    let cluster = Cluster::start().await;
    let rules =
        json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]);
    let hook = json!({"name": "w.example.com", "clientConfig": server.client("/"), "rules": rules,
        "sideEffects": "None", "admissionReviewVersions": ["v1"]});
    cluster.register("mutatingwebhookconfigurations", json!({"metadata": {"name": "w"}, "webhooks": [hook]})).await;
    let mutation = configure(
        r#"Object{metadata: Object.metadata{labels: {"early": "yes",
            "seen": has(object.metadata.labels) ? string(object.metadata.labels.size()) : "0"}}}"#,
    );
    for (policy, seen) in [("IfNeeded", "3"), ("Never", "0")] {
        let special = json!({"reinvocationPolicy": policy});
        enforce(&cluster, "p", vec![mutation.clone()], special, json!({})).await;
        let map = cluster.map(&policy.to_lowercase()).await.ok();
        assert_eq!(map["metadata"]["labels"], json!({"early": "yes", "hook": "yes", "seen": seen}));
        lift(&cluster, "p").await;
    }
}

#[tokio::test]
async fn an_object_of_a_mutation_is_named_after_its_field() {
    let cluster = Cluster::start().await;
    for (expression, given, expected) in [
        (r#"Object{metadata: Object.spec{}}"#, "Object.spec", "Object.metadata"),
        (
            r#"Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec{}}}}"#,
            "Object.spec",
            "Object.spec.template.spec",
        ),
        (r#"Object{spec: Object.spec{list: [Object.list{}]}}"#, "Object.list", "Object.spec.list"),
    ] {
        enforce(&cluster, "p", vec![configure(expression)], json!({}), json!({})).await;
        let why = format!(
            "error applying patch: type mismatch: unexpected type name {given:?}, expected {expected:?}, which matches \
             field name path from root Object type"
        );
        let answer = cluster.map("m").await;
        assert!(answer.error().1.contains(&why), "{}", answer.value);
        lift(&cluster, "p").await;
    }
}
