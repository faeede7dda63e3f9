//! Versions of custom resources that a webhook converts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::cluster::{Cluster, PATIENCE};
use crate::server::{Handler, Server};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/shop.example/v1/namespaces/a/orders";
const V2: &str = "/apis/shop.example/v2/namespaces/a/orders";

/// `spec.host` and `spec.port` in v1, `spec.address` in v2.
fn converted(mut object: Value, wanted: &str) -> Value {
    object["apiVersion"] = wanted.into();
    let spec = object["spec"].clone();
    object["spec"] = match wanted {
        "shop.example/v2" => {
            let (host, port) = (spec["host"].as_str().unwrap_or_default(), spec["port"].as_str().unwrap_or_default());
            json!({"address": format!("{host}:{port}"), "junk": "pruned"})
        }
        _ => {
            let (host, port) = spec["address"].as_str().and_then(|all| all.split_once(':')).unwrap_or_default();
            json!({"host": host, "port": port})
        }
    };
    object
}

fn converter() -> Handler {
    Arc::new(|path, review| {
        Box::pin(async move {
            let request = &review["request"];
            let wanted = request["desiredAPIVersion"].as_str().unwrap_or_default();
            let objects = request["objects"].as_array().cloned().unwrap_or_default();
            let mut objects: Vec<Value> = objects.into_iter().map(|object| converted(object, wanted)).collect();
            let mut result = json!({"status": "Success"});
            match path.split('?').next() {
                Some("/refuses") => result = json!({"status": "Failure", "message": "cannot"}),
                Some("/renames") => objects.iter_mut().for_each(|object| object["metadata"]["name"] = "x".into()),
                Some("/loses") => drop(objects.pop()),
                Some("/forgets") => {
                    objects.iter_mut().for_each(|object| object["apiVersion"] = "shop.example/v9".into())
                }
                Some("/fails") => return (StatusCode::INTERNAL_SERVER_ERROR, "broken".to_owned()),
                _ => {}
            }
            let response = json!({"uid": request["uid"], "result": result, "convertedObjects": objects});
            let (kind, version) = (&review["kind"], &review["apiVersion"]);
            (StatusCode::OK, json!({"kind": kind, "apiVersion": version, "response": response}).to_string())
        })
    })
}

fn definition(server: &Server, path: &str) -> Value {
    let text = json!({"type": "string"});
    let version = |name: &str, storage: bool, fields: Value| {
        json!({"name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": fields}}}}})
    };
    json!({
        "metadata": {"name": "orders.shop.example"},
        "spec": {"group": "shop.example", "scope": "Namespaced", "names": {"plural": "orders", "kind": "Order"},
            "versions": [version("v1", true, json!({"host": text, "port": text})),
                version("v2", false, json!({"address": text, "size": {"type": "string", "default": "big"}}))],
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": server.client(path), "conversionReviewVersions": ["v1"]}}},
    })
}

/// Waits until the definition's current conversion is in effect.
async fn define(cluster: &Cluster, server: &Server, path: &str) {
    let named = format!("{DEFINITIONS}/orders.shop.example");
    let old = cluster.get(&named).await;
    if old.code == 200 {
        cluster.merge(&named, json!({"spec": definition(server, path)["spec"]})).await.ok();
    } else {
        cluster.post(DEFINITIONS, definition(server, path)).await.ok();
    }
    let begun = Instant::now();
    while cluster.get(V2).await.code == 404 && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn order(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("shop.example/{version}"), "kind": "Order", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn objects_are_read_and_written_in_every_version() {
    let server = Server::start(converter()).await;
    let cluster = Cluster::start().await;
    define(&cluster, &server, "/").await;
    cluster.post(V1, order("v1", "one", json!({"host": "h", "port": "1"}))).await.ok();
    assert!(server.seen().is_empty(), "the stored version needs no conversion");

    let two = cluster.post(V2, order("v2", "two", json!({"address": "h:2"}))).await.ok();
    assert_eq!(
        (&two["apiVersion"], &two["spec"]),
        (&json!("shop.example/v2"), &json!({"address": "h:2", "size": "big"}))
    );
    let stored = cluster.get(&format!("{V1}/two")).await.ok();
    assert_eq!(
        (&stored["apiVersion"], &stored["spec"]),
        (&json!("shop.example/v1"), &json!({"host": "h", "port": "2"}))
    );
    assert_eq!(stored["metadata"]["uid"], two["metadata"]["uid"]);

    server.seen();
    let one = cluster.get(&format!("{V2}/one")).await.ok();
    // What the version's schema does not have is left out, and its defaults are filled in.
    assert_eq!(one["spec"], json!({"address": "h:1", "size": "big"}));
    let (path, review) = server.seen().pop().expect("a review");
    assert_eq!(path, "/?timeout=30s");
    assert_eq!(
        (&review["kind"], &review["apiVersion"]),
        (&json!("ConversionReview"), &json!("apiextensions.k8s.io/v1"))
    );
    assert_eq!(review["request"]["desiredAPIVersion"], "shop.example/v2");
    assert_eq!(review["request"]["objects"][0]["spec"], json!({"host": "h", "port": "1"}));

    let list = cluster.get(V2).await.ok();
    let items: Vec<_> =
        list["items"].as_array().expect("items").iter().map(|item| item["spec"]["address"].clone()).collect();
    assert_eq!(items, ["h:1", "h:2"]);
    let patched = cluster.merge(&format!("{V2}/one"), json!({"spec": {"address": "new:1"}})).await.ok();
    assert_eq!(patched["spec"]["address"], "new:1");
    assert_eq!(cluster.get(&format!("{V1}/one")).await.ok()["spec"]["host"], "new");
    // A conversion of an object that has not changed is not done again.
    server.seen();
    cluster.get(&format!("{V2}/one")).await.ok();
    cluster.get(&format!("{V2}/one")).await.ok();
    assert!(server.seen().len() <= 1);
    cluster.delete(&format!("{V2}/one")).await.ok();
    assert_eq!(cluster.get(&format!("{V1}/one")).await.code, 404);
}

#[tokio::test]
async fn a_watch_shows_changes_in_its_version() {
    let server = Server::start(converter()).await;
    let cluster = Cluster::start().await;
    define(&cluster, &server, "/").await;
    cluster.post(V1, order("v1", "one", json!({"host": "h", "port": "1"}))).await.ok();
    let request = http::Request::builder().method(Method::GET).uri(format!("{V2}?watch=true"));
    let user = k3s_api::authentication::UserInfo::new("admin", &["system:masters"]);
    let request = request.extension(user).body(Default::default()).expect("a request");
    let mut body = cluster.respond(request).await.into_body();
    let mut text = Vec::new();
    let mut next = async |body: &mut k3s_apiserver::Body| loop {
        if let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let event: Value = serde_json::from_slice(&line).expect("an event");
            break (event["type"].clone(), event["object"]["spec"]["address"].clone());
        }
        let frame = tokio::time::timeout(PATIENCE, body.frame()).await.expect("in time").expect("a frame");
        text.extend_from_slice(frame.expect("a frame").data_ref().expect("data"));
    };
    assert_eq!(next(&mut body).await, (json!("ADDED"), json!("h:1")));
    cluster.merge(&format!("{V1}/one"), json!({"spec": {"port": "2"}})).await.ok();
    assert_eq!(next(&mut body).await, (json!("MODIFIED"), json!("h:2")));
    cluster.delete(&format!("{V1}/one")).await.ok();
    assert_eq!(next(&mut body).await, (json!("DELETED"), json!("h:2")));
}

#[tokio::test]
async fn a_webhook_that_does_not_convert_is_told() {
    let server = Server::start(converter()).await;
    let cluster = Cluster::start().await;
    define(&cluster, &server, "/").await;
    cluster.post(V1, order("v1", "one", json!({"host": "h", "port": "1"}))).await.ok();
    let of = "conversion webhook for shop.example/v1, Kind=Order";
    let index = "returned invalid converted object at index 0:";
    let cases = [
        ("/refuses", format!("{of} failed: cannot")),
        ("/renames", format!("{of} {index} must have the same name: one != x")),
        ("/loses", format!("{of} returned 0 objects, expected 1")),
        ("/forgets", format!("{of} {index} invalid groupVersion (expected shop.example/v2, received shop.example/v9)")),
        (
            "/fails",
            format!("{of} failed: an error on the server (\"broken\") has prevented the request from succeeding"),
        ),
    ];
    for (path, expected) in cases {
        define(&cluster, &server, path).await;
        // The new definition takes effect a moment after it is written.
        let begun = Instant::now();
        loop {
            let got = cluster.get(&format!("{V2}/one")).await;
            if got.code == 500 && got.error().1 == expected {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{got:?} is not {expected}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(cluster.get(V2).await.error(), (500, expected.as_str()));
        assert_eq!(cluster.get(&format!("{V1}/one")).await.code, 200);
    }
}

#[tokio::test]
async fn without_a_webhook_versions_differ_in_name_alone() {
    let server = Server::start(converter()).await;
    let cluster = Cluster::start().await;
    let mut plain = definition(&server, "/");
    plain["spec"]["conversion"] = json!({"strategy": "None"});
    cluster.post(DEFINITIONS, plain.clone()).await.ok();
    cluster.post(V1, order("v1", "one", json!({"host": "h", "port": "1"}))).await.ok();
    // Fields that the other version does not have are not shown in it.
    let one = cluster.get(&format!("{V2}/one")).await.ok();
    assert_eq!((&one["apiVersion"], &one["spec"]), (&json!("shop.example/v2"), &json!({"size": "big"})));

    // When another version comes to be stored, what is stored already is shown in it too.
    plain["spec"]["versions"][0]["storage"] = false.into();
    plain["spec"]["versions"][1]["storage"] = true.into();
    let named = format!("{DEFINITIONS}/orders.shop.example");
    let written = cluster.merge(&named, json!({"spec": plain["spec"]})).await.ok();
    assert_eq!(written["status"]["storedVersions"], json!(["v1", "v2"]));
    let begun = Instant::now();
    cluster.post(V2, order("v2", "two", json!({"address": "h:2"}))).await.ok();
    while cluster.get(&format!("{V1}/two")).await.ok()["apiVersion"] != "shop.example/v1" {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for (path, version) in [(V1, "shop.example/v1"), (V2, "shop.example/v2")] {
        let list = cluster.get(path).await.ok();
        let items = list["items"].as_array().expect("items");
        assert!(items.len() == 2 && items.iter().all(|item| item["apiVersion"] == version), "{list}");
    }
    assert!(server.seen().is_empty());
}
