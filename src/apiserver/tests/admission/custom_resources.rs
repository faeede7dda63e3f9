//! Custom resources: rules, what an update may leave as it was, and fields to select by.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, PATIENCE};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const LAMPS: &str = "/apis/light.example/v1/namespaces/a/lamps";

fn definition(spec: Value, rules: Value) -> Value {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": spec,
        "x-kubernetes-validations": rules}}});
    json!({"metadata": {"name": "lamps.light.example"}, "spec": {"group": "light.example", "scope": "Namespaced",
        "names": {"plural": "lamps", "kind": "Lamp"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": schema}, "selectableFields": [{"jsonPath": ".spec.color"}]}]}})
}

async fn define(cluster: &Cluster, definition: Value) {
    cluster.post(DEFINITIONS, definition).await.ok();
    let begun = Instant::now();
    while cluster.get(LAMPS).await.code != 200 {
        assert!(begun.elapsed() < PATIENCE, "it is never served");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn lamp(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "light.example/v1", "kind": "Lamp", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn objects_are_selected_by_the_fields_that_the_definition_names() {
    let cluster = Cluster::start().await;
    let spec = json!({"color": {"type": "string"}, "watts": {"type": "integer"}});
    define(&cluster, definition(spec, json!([]))).await;
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        cluster.post(LAMPS, lamp(name, json!({"color": color, "watts": 5}))).await.ok();
    }
    let names = async |selector: &str| {
        let list = cluster.get(&format!("{LAMPS}?fieldSelector={selector}")).await.ok();
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("spec.color%3Dred").await, ["a", "c"]);
    assert_eq!(names("spec.color%21%3Dred").await, ["b"]);
    assert_eq!(names("spec.color%3Dred,metadata.name%3Dc").await, ["c"]);
    let answer = cluster.get(&format!("{LAMPS}?fieldSelector=spec.watts%3D5")).await;
    let (code, message) = answer.error();
    assert!(code == 400 && message.contains("field label not supported: spec.watts"), "{message}");
}

#[tokio::test]
async fn rules_hold_for_what_an_object_is_and_for_how_it_changes() {
    let cluster = Cluster::start().await;
    let rules = json!([
        {"rule": "!has(self.watts) || self.watts <= 60", "message": "too bright"},
        {"rule": "self.color == oldSelf.color", "messageExpression": "'it stays ' + oldSelf.color",
            "reason": "FieldValueForbidden", "fieldPath": ".color"},
    ]);
    let spec = json!({"color": {"type": "string"}, "watts": {"type": "integer"}});
    define(&cluster, definition(spec, rules)).await;
    let answer = cluster.post(LAMPS, lamp("a", json!({"color": "red", "watts": 100}))).await;
    assert_eq!(answer.error(), (422, "Lamp.light.example \"a\" is invalid: spec: Invalid value: too bright"));
    cluster.post(LAMPS, lamp("a", json!({"color": "red", "watts": 10}))).await.ok();
    let path = format!("{LAMPS}/a");
    let answer = cluster.merge(&path, json!({"spec": {"color": "blue"}})).await;
    assert_eq!(answer.error(), (422, "Lamp.light.example \"a\" is invalid: spec.color: Forbidden: it stays red"));
    assert_eq!(answer.value["details"]["causes"][0]["field"], "spec.color");
    cluster.merge(&path, json!({"spec": {"watts": 20}})).await.ok();
}

#[tokio::test]
async fn what_was_good_once_and_is_not_touched_stays_good() {
    let cluster = Cluster::start().await;
    let spec = json!({"color": {"type": "string"}, "watts": {"type": "integer"}});
    define(&cluster, definition(spec, json!([]))).await;
    cluster.post(LAMPS, lamp("a", json!({"color": "ultraviolet", "watts": 5}))).await.ok();
    // The schema becomes narrower than what is there.
    let path = format!("{DEFINITIONS}/lamps.light.example");
    let mut narrow = cluster.get(&path).await.ok();
    let schema = &mut narrow["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    schema["color"]["maxLength"] = 5.into();
    cluster.send(http::Method::PUT, &path, "application/json", narrow).await.ok();
    let begun = Instant::now();
    while cluster.post(&format!("{LAMPS}?dryRun=All"), lamp("b", json!({"color": "ultraviolet"}))).await.code != 422 {
        assert!(begun.elapsed() < PATIENCE, "the new schema never holds");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let path = format!("{LAMPS}/a");
    let lamp = cluster.merge(&path, json!({"spec": {"watts": 6}})).await.ok();
    assert_eq!(lamp["spec"], json!({"color": "ultraviolet", "watts": 6}));
    let answer = cluster.merge(&path, json!({"spec": {"color": "infrared"}})).await;
    let (code, message) = answer.error();
    assert!(code == 422 && message.contains("spec.color: Too long: may not be more than 5"), "{message}");
}
