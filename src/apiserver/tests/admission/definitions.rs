//! Definitions of custom resources: what they may be, and how they come and go.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, PATIENCE};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAMED: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/orders.shop.example";
const ORDERS: &str = "/apis/shop.example/v1/namespaces/a/orders";

fn version(name: &str, storage: bool) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object",
        "x-kubernetes-preserve-unknown-fields": true}}})
}

fn definition(versions: Vec<Value>) -> Value {
    json!({"metadata": {"name": "orders.shop.example"}, "spec": {"group": "shop.example", "scope": "Namespaced",
        "names": {"plural": "orders", "kind": "Order"}, "versions": versions}})
}

fn order(name: &str, finalizers: &[&str]) -> Value {
    json!({"apiVersion": "shop.example/v1", "kind": "Order", "metadata": {"name": name, "finalizers": finalizers}})
}

fn condition<'a>(definition: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = definition["status"]["conditions"].as_array();
    conditions.into_iter().flatten().find(|condition| condition["type"] == kind)
}

/// Asks until it is so.
async fn until(cluster: &Cluster, path: &str, is_so: impl Fn(u16, &Value) -> bool) {
    let begun = Instant::now();
    loop {
        let answer = cluster.get(path).await;
        if is_so(answer.code, &answer.value) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_definition_that_goes_takes_its_objects_along() {
    let cluster = Cluster::start().await;
    cluster.post(DEFINITIONS, definition(vec![version("v1", true)])).await.ok();
    cluster.post(ORDERS, order("free", &[])).await.ok();
    cluster.post(ORDERS, order("held", &["example.com/hold"])).await.ok();
    let going = cluster.delete(NAMED).await.ok();
    let terminating = condition(&going, "Terminating").expect("a condition");
    assert_eq!(terminating["reason"], "InstanceDeletionPending");

    // From then on nothing is created; the rest works.
    until(&cluster, NAMED, |_, now| {
        condition(now, "Terminating").is_some_and(|condition| condition["reason"] == "InstanceDeletionInProgress")
    })
    .await;
    let refused = cluster.post(ORDERS, order("late", &[])).await;
    let why = "create not allowed while custom resource definition is terminating";
    assert_eq!((refused.error(), &refused.value["reason"]), ((405, why), &json!("MethodNotAllowed")));
    until(&cluster, &format!("{ORDERS}/free"), |code, _| code == 404).await;
    until(&cluster, &format!("{ORDERS}/held"), |_, held| held["metadata"]["deletionTimestamp"].is_string()).await;

    cluster.merge(&format!("{ORDERS}/held"), json!({"metadata": {"finalizers": null}})).await.ok();
    until(&cluster, NAMED, |code, _| code == 404).await;
    until(&cluster, ORDERS, |code, status| code == 404 && status.is_null()).await;
    // What comes after it has nothing of it.
    cluster.post(DEFINITIONS, definition(vec![version("v1", true)])).await.ok();
    assert_eq!(cluster.get(ORDERS).await.ok()["items"], json!([]));
}

#[tokio::test]
async fn a_version_stays_as_long_as_objects_may_be_stored_in_it() {
    let cluster = Cluster::start().await;
    cluster.post(DEFINITIONS, definition(vec![version("v1", true), version("v2", false)])).await.ok();
    let moved = definition(vec![version("v1", false), version("v2", true)]);
    let moved = cluster.merge(NAMED, json!({"spec": moved["spec"]})).await.ok();
    assert_eq!(moved["status"]["storedVersions"], json!(["v1", "v2"]));

    let without = json!({"spec": definition(vec![version("v2", true)])["spec"]});
    let refused = cluster.merge(NAMED, without.clone()).await;
    let why = "status.storedVersions[0]: Invalid value: \"v1\": must appear in spec.versions";
    assert!(refused.error().1.ends_with(why), "{}", refused.value);
    let status = |versions: Value| json!({"status": {"storedVersions": versions}});
    let path = format!("{NAMED}/status");
    let refused = cluster.merge(&path, status(json!(["v1"]))).await;
    assert!(refused.error().1.contains("must have the storage version v2"), "{}", refused.value);

    cluster.merge(&path, status(json!(["v2"]))).await.ok();
    cluster.merge(NAMED, without).await.ok();
}

#[tokio::test]
async fn names_that_others_have_are_not_accepted() {
    let cluster = Cluster::start().await;
    cluster.post(DEFINITIONS, definition(vec![version("v1", true)])).await.ok();
    let mut other = definition(vec![version("v1", true)]);
    other["metadata"]["name"] = "others.shop.example".into();
    other["spec"]["names"] = json!({"plural": "others", "kind": "Other", "shortNames": ["orders"]});
    cluster.post(DEFINITIONS, other).await.ok();
    let path = format!("{DEFINITIONS}/others.shop.example");
    until(&cluster, &path, |_, now| condition(now, "NamesAccepted").is_some()).await;
    let other = cluster.get(&path).await.ok();
    let accepted = condition(&other, "NamesAccepted").expect("a condition");
    assert_eq!((&accepted["status"], &accepted["reason"]), (&json!("False"), &json!("ShortNamesConflict")));
    assert_eq!(condition(&other, "Established").expect("a condition")["status"], "False");
    // When the name is free, it is theirs.
    cluster.delete(NAMED).await.ok();
    until(&cluster, &path, |_, now| condition(now, "Established").is_some_and(|c| c["status"] == "True")).await;
}

#[tokio::test]
async fn a_conversion_that_nobody_could_do_is_refused() {
    let cluster = Cluster::start().await;
    let mut given = definition(vec![version("v1", true)]);
    let cases = [
        (
            json!({"url": "http://hook.example"}),
            json!(["v1"]),
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme",
        ),
        (
            json!({}),
            json!(["v1"]),
            "spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required",
        ),
        (
            json!({"url": "https://hook.example"}),
            json!(["v3"]),
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v3\"]: must include at least one of v1, v1beta1",
        ),
    ];
    for (client, versions, expected) in cases {
        given["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"clientConfig": client,
            "conversionReviewVersions": versions}});
        let refused = cluster.post(DEFINITIONS, given.clone()).await;
        assert!(refused.error().1.contains(expected), "{}\nhas not\n{expected}", refused.value);
    }
}
