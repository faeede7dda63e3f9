//! What an update does to an object, and what it may not.

use k3s_api::decode::{self, FieldValidation};
use k3s_api::resource::{self, Resource};
use k3s_api::strategy::generic;
use serde_json::{Value, json};

fn find(name: &str) -> &'static Resource {
    let name: Vec<&str> = name.split('/').collect();
    resource::find(name[0], name[1], name[2]).unwrap()
}

fn created(resource: &Resource, mut body: Value) -> Value {
    let metadata = body["metadata"].as_object_mut().unwrap();
    metadata.insert("name".into(), "x".into());
    metadata.insert("uid".into(), "u".into());
    if resource.namespaced {
        metadata.insert("namespace".into(), "n".into());
    }
    let mut object = decode::decode_object_value(body, resource, FieldValidation::Strict).unwrap().value;
    generic::default(resource, &mut object);
    generic::prepare_create(resource, &mut object);
    object
}

/// The object after an update, or the messages with which it is refused.
fn updated(resource: &Resource, old: &Value, change: impl FnOnce(&mut Value)) -> Result<Value, Vec<String>> {
    let mut new = old.clone();
    change(&mut new);
    let mut new = decode::decode_object_value(new, resource, FieldValidation::Strict).unwrap().value;
    generic::default(resource, &mut new);
    generic::prepare_update(resource, &mut new, old);
    let errors = generic::validate_update(resource, &new, old);
    if errors.is_empty() { Ok(new) } else { Err(errors.iter().map(ToString::to_string).collect()) }
}

fn deployment() -> Value {
    json!({"metadata": {}, "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {
        "metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

#[test]
fn a_change_of_the_spec_is_a_generation_and_one_of_metadata_or_status_is_not() {
    let resource = find("apps/v1/deployments");
    let old = created(resource, deployment());
    assert_eq!(old["metadata"]["generation"], 1);
    let new = updated(resource, &old, |new| new["spec"]["replicas"] = json!(2)).unwrap();
    assert_eq!(new["metadata"]["generation"], 2);
    let new = updated(resource, &old, |new| {
        new["metadata"]["labels"] = json!({"a": "b"});
        new["metadata"]["generation"] = json!(7);
        new["status"]["replicas"] = json!(5);
    })
    .unwrap();
    assert_eq!((&new["metadata"]["generation"], &new["status"]), (&json!(1), &json!({})));
}

#[test]
fn an_update_of_the_status_changes_nothing_else() {
    let resource = find("apps/v1/deployments");
    let old = created(resource, deployment());
    let mut new = old.clone();
    new["spec"]["replicas"] = json!(9);
    new["status"]["replicas"] = json!(5);
    generic::prepare_status(resource, &mut new, &old);
    assert_eq!((&new["spec"]["replicas"], &new["status"]["replicas"]), (&json!(1), &json!(5)));
    assert!(generic::validate_status(resource, &new, &old).is_empty());
}

#[test]
fn what_is_immutable_is_refused() {
    type Change = fn(&mut Value);
    let cases: [(&str, Value, Change, &[&str]); 7] = [
        (
            "apps/v1/deployments",
            deployment(),
            |new| new["spec"]["selector"] = json!({"matchLabels": {"app": "z"}}),
            &[
                r#"spec.template.metadata.labels: Invalid value: {"app":"a"}: `selector` does not match template `labels`"#,
                r#"spec.selector: Invalid value: {"matchLabels":{"app":"z"}}: field is immutable"#,
            ],
        ),
        (
            "apps/v1/deployments",
            deployment(),
            |new| new["spec"]["template"]["spec"]["containers"] = json!([]),
            &["spec.template.spec.containers: Required value"],
        ),
        (
            "rbac.authorization.k8s.io/v1/rolebindings",
            json!({"metadata": {}, "roleRef": {"kind": "Role", "name": "r"}}),
            |new| new["roleRef"]["name"] = json!("z"),
            &[
                r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"z"}: cannot change roleRef"#,
            ],
        ),
        (
            "/v1/configmaps",
            json!({"metadata": {}, "data": {"a": "1"}, "immutable": true}),
            |new| new["data"]["a"] = json!("2"),
            &["data: Forbidden: field is immutable when `immutable` is set"],
        ),
        (
            "/v1/configmaps",
            json!({"metadata": {}, "data": {"a": "1"}, "immutable": true}),
            |new| new["immutable"] = json!(false),
            &["immutable: Forbidden: field is immutable when `immutable` is set"],
        ),
        (
            "/v1/services",
            json!({"metadata": {}, "spec": {"clusterIP": "10.43.0.9", "clusterIPs": ["10.43.0.9"], "ports": [{"port": 80}]}}),
            |new| {
                new["spec"]["clusterIP"] = json!("10.43.1.1");
                new["spec"]["clusterIPs"] = json!(["10.43.1.1"]);
            },
            &[r#"spec.clusterIPs[0]: Invalid value: ["10.43.1.1"]: may not change once set"#],
        ),
        (
            "/v1/configmaps",
            json!({"metadata": {}}),
            |new| new["metadata"]["uid"] = json!("other"),
            // Told twice, as Kubernetes tells it.
            &[
                r#"metadata.uid: Invalid value: "other": field is immutable"#,
                r#"metadata.uid: Invalid value: "other": field is immutable"#,
            ],
        ),
    ];
    for (name, body, change, messages) in cases {
        let resource = find(name);
        let old = created(resource, body);
        assert_eq!(updated(resource, &old, change).unwrap_err(), messages, "{name}");
    }
}

#[test]
fn what_the_server_allocated_outlives_an_update_that_leaves_it_out() {
    let resource = find("/v1/services");
    let mut old = created(resource, json!({"metadata": {}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}}));
    old["spec"]["clusterIP"] = json!("10.43.0.9");
    old["spec"]["clusterIPs"] = json!(["10.43.0.9"]);
    old["spec"]["ports"][0]["nodePort"] = json!(30080);
    let new =
        updated(resource, &old, |new| new["spec"] = json!({"type": "NodePort", "ports": [{"port": 80}]})).unwrap();
    assert_eq!(new["spec"]["clusterIP"], "10.43.0.9");
    assert_eq!(new["spec"]["ports"][0]["nodePort"], 30080);
}

#[test]
fn a_namespace_is_finalized_only_through_its_subresource() {
    let resource = find("/v1/namespaces");
    let old = created(resource, json!({"metadata": {}}));
    assert_eq!(old["spec"], json!({"finalizers": ["kubernetes"]}));
    assert_eq!(old["status"], json!({"phase": "Active"}));
    assert_eq!(old["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "x"}));
    let new = updated(resource, &old, |new| new["spec"] = json!({})).unwrap();
    assert_eq!(new["spec"], json!({"finalizers": ["kubernetes"]}));
}

#[test]
fn a_daemon_set_counts_the_changes_of_its_template() {
    let resource = find("apps/v1/daemonsets");
    let old = created(resource, deployment());
    let counted =
        |object: &Value| object["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone();
    assert_eq!(counted(&old), "1");
    let new = updated(resource, &old, |new| new["spec"]["minReadySeconds"] = json!(1)).unwrap();
    assert_eq!((counted(&new), &new["metadata"]["generation"]), (json!("1"), &json!(2)));
    let new =
        updated(resource, &old, |new| new["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j")).unwrap();
    assert_eq!((counted(&new), &new["metadata"]["generation"]), (json!("2"), &json!(2)));
}
