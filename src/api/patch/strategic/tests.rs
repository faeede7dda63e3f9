use serde_json::json;

use super::*;

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "finalizers": ["x.example/a", "x.example/b"]},
        "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"spec": {
                "containers": [
                    {"name": "c1", "image": "i1", "args": ["x", "y"],
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                        "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 81, "protocol": "UDP"}]},
                    {"name": "c2", "image": "i2"}],
                "nodeSelector": {"a": "b"},
                "tolerations": [{"key": "k", "operator": "Exists"}],
                "volumes": [{"name": "v", "emptyDir": {}}]}}}})
}

fn patched(patch: Value) -> Result<Value, Status> {
    let schema = crate::schema::definition("io.k8s.api.apps.v1.Deployment").expect("built in");
    apply(&deployment(), patch.to_string().as_bytes(), schema)
}

/// The pod's specification after a patch of it.
fn pod(patch: Value) -> Value {
    let patched = patched(json!({"spec": {"template": {"spec": patch}}})).expect("a sound patch");
    patched["spec"]["template"]["spec"].clone()
}

#[test]
fn lists_merge_by_key_and_new_elements_come_first() {
    assert_eq!(pod(json!({"containers": [{"name": "c2", "image": "new"}]}))["containers"][1]["image"], "new");
    let names =
        |pod: &Value| pod["containers"].as_array().map(|c| c.iter().map(|c| c["name"].clone()).collect::<Vec<_>>());
    assert_eq!(
        names(&pod(json!({"containers": [{"name": "c3", "image": "i3"}]}))),
        Some(vec![json!("c3"), json!("c1"), json!("c2")])
    );
    let env =
        json!({"containers": [{"name": "c1", "env": [{"name": "C", "value": "3"}, {"name": "A", "value": "9"}]}]});
    assert_eq!(
        pod(env)["containers"][0]["env"],
        json!([{"name": "C", "value": "3"}, {"name": "A", "value": "9"}, {"name": "B", "value": "2"}])
    );
    assert_eq!(
        pod(json!({"containers": [{"name": "c1", "ports": [{"containerPort": 80, "name": "web"}]}]}))["containers"][0]
            ["ports"],
        json!([{"containerPort": 80, "name": "web", "protocol": "TCP"}, {"containerPort": 81, "protocol": "UDP"}])
    );
}

#[test]
fn lists_without_a_key_are_replaced() {
    assert_eq!(pod(json!({"containers": [{"name": "c1", "args": ["z"]}]}))["containers"][0]["args"], json!(["z"]));
    assert_eq!(
        pod(json!({"tolerations": [{"key": "t2", "operator": "Exists"}]}))["tolerations"],
        json!([{"key": "t2", "operator": "Exists"}])
    );
}

#[test]
fn directives_delete_replace_and_order() {
    assert_eq!(
        pod(json!({"containers": [{"name": "c1", "$patch": "delete"}]}))["containers"],
        json!([{"name": "c2", "image": "i2"}])
    );
    let ordered = pod(json!({"$setElementOrder/containers": [{"name": "c2"}, {"name": "c1"}],
        "containers": [{"name": "c1", "image": "o"}]}));
    assert_eq!(ordered["containers"][0]["name"], "c2");
    assert_eq!(ordered["containers"][1]["image"], "o");
    assert_eq!(pod(json!({"nodeSelector": {"$patch": "replace", "z": "1"}}))["nodeSelector"], json!({"z": "1"}));
    assert_eq!(pod(json!({"nodeSelector": null})).get("nodeSelector"), None);
    assert_eq!(
        pod(json!({"containers": [{"$patch": "replace"}, {"name": "only", "image": "one"}]}))["containers"],
        json!([{"name": "only", "image": "one"}])
    );
}

#[test]
fn retained_keys_leave_only_themselves() {
    let strategy = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(patched(strategy).expect("sound")["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(
        pod(json!({"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "q"}}]}))["volumes"],
        json!([{"name": "v", "configMap": {"name": "q"}}])
    );
    assert_eq!(
        pod(json!({"volumes": [{"name": "v", "emptyDir": null, "hostPath": {"path": "/p"}}]}))["volumes"],
        json!([{"name": "v", "hostPath": {"path": "/p"}}])
    );
    let wrong = patched(json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}}));
    assert_eq!(wrong.map_err(|s| (s.code, s.message)), Err((400, "invalid patch format of retainKeys".to_owned())));
}

#[test]
fn primitive_lists_are_sets() {
    let finalizers =
        |patch: Value| patched(json!({"metadata": patch})).expect("sound")["metadata"]["finalizers"].clone();
    assert_eq!(finalizers(json!({"$deleteFromPrimitiveList/finalizers": ["x.example/a"]})), json!(["x.example/b"]));
    assert_eq!(finalizers(json!({"finalizers": ["x.example/b", "c"]})), json!(["x.example/a", "x.example/b", "c"]));
}

#[test]
fn errors_are_kubernetes_own() {
    let error = |patch: Value| patched(patch).map_err(|status| (status.code, status.message)).expect_err("unsound");
    assert_eq!(
        error(json!({"spec": {"template": {"spec": {"containers": [{"image": "noname"}]}}}})),
        (500, "map: map[image:noname] does not contain declared merge key: name".to_owned())
    );
    assert_eq!(
        error(json!([])),
        (400, "json: cannot unmarshal array into Go value of type map[string]interface {}".to_owned())
    );
    let schema = crate::schema::definition("io.k8s.api.apps.v1.Deployment").expect("built in");
    let body = br#"{"spec":{"replicas":"three"}}"#;
    let wrong = apply(&deployment(), body, schema).expect("types are checked later");
    let error = crate::decode::decode_patched(wrong, schema, Default::default()).expect_err("a text is no number");
    assert_eq!(
        undecodable(body, &error.to_string()).message,
        " \"\" is invalid: patch: Invalid value: \"map[spec:map[replicas:three]]\": unrecognized type: int32"
    );
}
