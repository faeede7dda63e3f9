//! Mutating and validating webhooks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use http::{Method, StatusCode};
use k3s_apiserver::relay::{Connection, Dialer};
use serde_json::{Value, json};

use crate::cluster::{Cluster, MAPS, PATIENCE};
use crate::server::Server;

const VALIDATING: &str = "validatingwebhookconfigurations";
const MUTATING: &str = "mutatingwebhookconfigurations";

/// A rule for ConfigMaps.
fn maps(operations: &[&str]) -> Value {
    json!([{"operations": operations, "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}])
}

/// A webhook with what is special about it.
fn hook(name: &str, client: Value, special: Value) -> Value {
    let mut hook = json!({
        "name": format!("{name}.example.com"), "clientConfig": client, "rules": maps(&["CREATE"]),
        "sideEffects": "None", "admissionReviewVersions": ["v1"],
    });
    for (field, value) in special.as_object().expect("fields") {
        hook[field] = value.clone();
    }
    hook
}

/// A configuration of that name.
fn configuration(name: &str, hooks: Vec<Value>) -> Value {
    json!({"metadata": {"name": name}, "webhooks": hooks})
}

/// A response that allows the request and changes the object.
fn patch(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(operations.to_string())})
}

#[tokio::test]
async fn a_validating_webhook_sees_the_request_and_may_refuse_it() {
    let server = Server::reviewing(|request| match request["name"].as_str() {
        Some("bad") => json!({"allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "not today"},
            "warnings": ["beware"]}),
        Some("mute") => json!({"allowed": false}),
        _ => json!({"allowed": true, "warnings": ["all is well"]}),
    })
    .await;
    let cluster = Cluster::start().await;
    let hooks = vec![hook("check", server.client("/check"), json!({}))];
    cluster.register(VALIDATING, configuration("c", hooks)).await;

    let good = cluster.post(&format!("{MAPS}?fieldManager=me"), json!({"metadata": {"name": "good"}})).await;
    assert_eq!(good.warnings, ["299 - \"all is well\""]);
    let (path, review) = server.seen().pop().expect("a review");
    assert_eq!(path, "/check?timeout=10s");
    assert_eq!((&review["apiVersion"], &review["kind"]), (&json!("admission.k8s.io/v1"), &json!("AdmissionReview")));
    let mut request = review["request"].clone();
    assert_eq!(request["object"]["metadata"]["name"], "good");
    assert!(request["object"]["metadata"]["uid"].is_string());
    for field in ["object", "uid"] {
        request.as_object_mut().expect("fields").remove(field);
    }
    assert_eq!(
        request,
        json!({"kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "resource": {"group": "", "version": "v1", "resource": "configmaps"},
            "requestKind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "requestResource": {"group": "", "version": "v1", "resource": "configmaps"},
            "name": "good", "namespace": "a", "operation": "CREATE", "dryRun": false, "oldObject": null,
            "userInfo": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"}})
    );

    let bad = cluster.map("bad").await;
    assert_eq!(bad.error(), (403, "admission webhook \"check.example.com\" denied the request: not today"));
    assert_eq!(
        (&bad.value["reason"], bad.warnings.as_slice()),
        (&json!("Forbidden"), &["299 - \"beware\"".to_owned()][..])
    );
    let mute = cluster.map("mute").await;
    assert_eq!(mute.error(), (400, "admission webhook \"check.example.com\" denied the request without explanation"));
    assert_eq!(cluster.get(&format!("{MAPS}/bad")).await.code, 404);

    cluster.unregister(VALIDATING, "c").await;
    assert_eq!(cluster.map("bad").await.code, 201);
}

#[tokio::test]
async fn updates_deletions_and_dry_runs_are_told() {
    let server = Server::reviewing(|_| json!({"allowed": true})).await;
    let cluster = Cluster::start().await;
    let special = json!({"rules": maps(&["UPDATE", "DELETE"]), "sideEffects": "NoneOnDryRun"});
    let hooks = vec![hook("check", server.client("/"), special)];
    cluster.register(VALIDATING, configuration("c", hooks)).await;
    cluster.map("m").await.ok();
    assert!(server.seen().is_empty(), "creates are not asked about");

    let path = format!("{MAPS}/m");
    cluster.merge(&format!("{path}?dryRun=All"), json!({"data": {"a": "1"}})).await.ok();
    let (_, review) = server.seen().pop().expect("a review");
    let request = &review["request"];
    assert_eq!((&request["operation"], &request["dryRun"]), (&json!("UPDATE"), &json!(true)));
    assert_eq!((&request["object"]["data"], &request["oldObject"]["data"]), (&json!({"a": "1"}), &Value::Null));
    let options = json!({"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"]});
    assert_eq!(request["options"], options);

    let body = json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 5,
        "propagationPolicy": "Background"});
    cluster.send(Method::DELETE, &path, "application/json", body).await.ok();
    let (_, review) = server.seen().pop().expect("a review");
    let request = &review["request"];
    assert_eq!((&request["operation"], &request["object"]), (&json!("DELETE"), &Value::Null));
    assert_eq!((&request["name"], &request["oldObject"]["metadata"]["name"]), (&json!("m"), &json!("m")));
    assert_eq!(
        request["options"],
        json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 5,
            "propagationPolicy": "Background"})
    );
}

#[tokio::test]
async fn mutating_webhooks_change_the_object_one_after_the_other() {
    // Both in one server: they differ in their path.
    let server = Server::start(Arc::new(|path, review| {
        Box::pin(async move {
            let request = &review["request"];
            let mut response = match path.split('?').next() {
                Some("/first") => patch(json!([{"op": "add", "path": "/data", "value": {"first": "1"}}])),
                Some("/second") => {
                    let seen = request["object"]["data"].clone();
                    let value = format!("after {}", seen.as_object().map_or(0, |data| data.len()));
                    patch(json!([{"op": "add", "path": "/data/second", "value": value},
                        {"op": "add", "path": "/metadata/labels", "value": {"hooked": "yes"}}]))
                }
                _ => json!({"allowed": true}),
            };
            response["uid"] = request["uid"].clone();
            let answer = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
            (StatusCode::OK, answer.to_string())
        })
    }))
    .await;
    let cluster = Cluster::start().await;
    // In the order of their names, and in that of their list.
    cluster.register(MUTATING, configuration("z", vec![hook("second", server.client("/second"), json!({}))])).await;
    let hooks =
        vec![hook("first", server.client("/first"), json!({})), hook("none", server.client("/none"), json!({}))];
    cluster.register(MUTATING, configuration("b", hooks)).await;
    cluster.register(VALIDATING, configuration("v", vec![hook("v", server.client("/v"), json!({}))])).await;

    let map = cluster.map("m").await.ok();
    assert_eq!(map["data"], json!({"first": "1", "second": "after 1"}));
    assert_eq!(map["metadata"]["labels"], json!({"hooked": "yes"}));
    let paths: Vec<String> = server.seen().into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/first?timeout=10s", "/none?timeout=10s", "/second?timeout=10s", "/v?timeout=10s"]);

    // A generated name is not there yet for those who may change it, and is for those who only look.
    let generated = cluster.post(MAPS, json!({"metadata": {"generateName": "g-"}})).await.ok();
    let seen = server.seen();
    assert_eq!(seen[0].1["request"].get("name"), None);
    assert_eq!(seen[3].1["request"]["name"], generated["metadata"]["name"]);
}

#[tokio::test]
async fn what_a_patch_makes_is_defaulted_and_validated() {
    let server = Server::reviewing(|request| {
        let name = request["object"]["metadata"]["name"].as_str().unwrap_or_default();
        match name {
            "defaulted" => patch(json!([{"op": "add", "path": "/spec/containers/-",
                "value": {"name": "side", "image": "side"}}])),
            "invalid" => {
                patch(json!([{"op": "add", "path": "/spec/containers/-", "value": {"name": "No", "image": "s"}}]))
            }
            "missing" => patch(json!([{"op": "remove", "path": "/spec/none"}])),
            _ => patch(json!([{"op": "replace", "path": "/spec/containers", "value": 5}])),
        }
    })
    .await;
    let cluster = Cluster::start().await;
    let rules = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["pods"]}]);
    let hooks = vec![hook("m", server.client("/"), json!({"rules": rules}))];
    cluster.register(MUTATING, configuration("c", hooks)).await;
    let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pods = "/api/v1/namespaces/a/pods";

    let defaulted = cluster.post(pods, pod("defaulted")).await.ok();
    assert_eq!(defaulted["spec"]["containers"][1]["imagePullPolicy"], "Always");
    assert_eq!(defaulted["spec"]["containers"][1]["terminationMessagePath"], "/dev/termination-log");
    // In-tree admission runs again over what the webhook has added: the token is mounted there too.
    assert_eq!(
        defaulted["spec"]["containers"][1]["volumeMounts"][0]["mountPath"],
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    let invalid = cluster.post(pods, pod("invalid")).await;
    assert_eq!(invalid.code, 422);
    assert!(invalid.error().1.contains("spec.containers[1].name: Invalid value: \"No\""), "{}", invalid.value);
    let missing = cluster.post(pods, pod("missing")).await;
    assert!(missing.code == 500 && missing.error().1.starts_with("Internal error occurred: "), "{}", missing.value);
    assert_eq!(cluster.post(pods, pod("no-pod-any-more")).await.code, 500);
}

#[tokio::test]
async fn a_webhook_that_fails_is_decided_by_its_policy() {
    let answers = Server::start(Arc::new(|path, review| {
        let uid = review["request"]["uid"].clone();
        Box::pin(async move {
            let (kind, version) = ("AdmissionReview", "admission.k8s.io/v1");
            let reviewed = |response: Value| {
                (StatusCode::OK, json!({"kind": kind, "apiVersion": version, "response": response}).to_string())
            };
            match path.split('?').next() {
                Some("/500") => (StatusCode::INTERNAL_SERVER_ERROR, "out of order".to_owned()),
                Some("/404") => (StatusCode::NOT_FOUND, String::new()),
                Some("/uid") => reviewed(json!({"uid": "another", "allowed": true})),
                Some("/patch") => {
                    reviewed(json!({"uid": uid, "allowed": true, "patch": "W10=", "patchType": "JSONPatch"}))
                }
                _ => (StatusCode::OK, "no JSON".to_owned()),
            }
        })
    }))
    .await;
    let hanging = Server::hanging().await;
    let stranger = Server::hanging().await;
    let mut foreign = stranger.client("/");
    foreign["caBundle"] = answers.bundle.clone().into();
    let closed = json!({"url": "https://127.0.0.1:1/x", "caBundle": answers.bundle});
    let url = |server: &Server, path: &str, seconds: u32| {
        format!("\"https://localhost:{}{path}?timeout={seconds}s\"", server.port)
    };
    let called = "Internal error occurred: failed calling webhook \"w.example.com\": failed to call webhook: ";
    let invalid =
        "Internal error occurred: failed calling webhook \"w.example.com\": received invalid webhook response: ";
    let cluster = Cluster::start().await;
    let cases = [
        (
            answers.client("/500"),
            format!("{called}an error on the server (\"out of order\") has prevented the request from succeeding"),
        ),
        (answers.client("/404"), format!("{called}the server could not find the requested resource")),
        (answers.client("/json"), format!("{called}couldn't get version/kind; json parse error: ")),
        (answers.client("/uid"), format!("{invalid}expected response.uid=")),
        (answers.client("/patch"), format!("{invalid}validating webhook may not return response.patch")),
        (hanging.client("/slow"), format!("{called}Post {}: context deadline exceeded", url(&hanging, "/slow", 1))),
        (
            closed,
            format!(
                "{called}Post \"https://127.0.0.1:1/x?timeout=1s\": dial tcp 127.0.0.1:1: connect: connection refused"
            ),
        ),
        (
            foreign,
            format!(
                "{called}Post {}: tls: failed to verify certificate: x509: certificate signed by unknown authority",
                url(&stranger, "/", 1)
            ),
        ),
    ];
    for (client, expected) in cases {
        let failing = hook("w", client.clone(), json!({"timeoutSeconds": 1}));
        cluster.register(VALIDATING, configuration("c", vec![failing])).await;
        let answer = cluster.map("m").await;
        let (code, message) = answer.error();
        assert!(code == 500 && message.starts_with(&expected), "{message}\nis not\n{expected}");
        cluster.unregister(VALIDATING, "c").await;

        let ignored = hook("w", client, json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"}));
        cluster.register(VALIDATING, configuration("c", vec![ignored])).await;
        cluster.map("m").await.ok();
        cluster.delete(&format!("{MAPS}/m")).await.ok();
        cluster.unregister(VALIDATING, "c").await;
    }
}

#[tokio::test]
async fn rules_selectors_and_conditions_say_what_is_asked_about() {
    let server = Server::reviewing(|_| json!({"allowed": true})).await;
    let cluster = Cluster::start().await;
    let rule = |operations: &str, group: &str, version: &str, resource: &str, scope: &str| {
        json!([{"operations": [operations], "apiGroups": [group], "apiVersions": [version], "resources": [resource],
            "scope": scope}])
    };
    let rules = |rules: Value| json!({"rules": rules});
    let red = json!({"matchLabels": {"team": "red"}});
    let condition = |expression: &str| json!({"matchConditions": [{"name": "c", "expression": expression}]});
    let with = |mut special: Value, field: &str, value: Value| {
        special[field] = value;
        special
    };
    let all = rule("*", "*", "*", "*/*", "*");
    // What is special, and whether it is asked about a map in `a`, a map in `b`, and a namespace, all being created.
    let cases = [
        (rules(all.clone()), [true, true, true]),
        (rules(rule("*", "*", "*", "*", "*")), [true, true, true]),
        (rules(rule("*", "*", "*", "configmaps/*", "*")), [true, true, false]),
        (rules(rule("*", "*", "*", "*/status", "*")), [false, false, false]),
        (rules(rule("CREATE", "", "v1", "configmaps", "Namespaced")), [true, true, false]),
        (rules(rule("UPDATE", "", "v1", "configmaps", "*")), [false, false, false]),
        (rules(rule("CREATE", "apps", "v1", "configmaps", "*")), [false, false, false]),
        (rules(rule("CREATE", "", "v2", "*", "*")), [false, false, false]),
        (rules(rule("CREATE", "", "v1", "*", "Cluster")), [false, false, true]),
        (rules(rule("CREATE", "", "v1", "*", "Namespaced")), [true, true, false]),
        // A namespace is selected by its own labels.
        (with(rules(all.clone()), "namespaceSelector", red.clone()), [true, false, true]),
        (with(rules(all.clone()), "objectSelector", red.clone()), [false, true, true]),
        (
            with(condition("object.metadata.name == 'm' && request.namespace == 'a'"), "rules", all.clone()),
            [true, false, false],
        ),
        (
            with(
                condition("authorizer.group('').resource('pods').namespace('a').check('get').allowed()"),
                "rules",
                all.clone(),
            ),
            [true, true, true],
        ),
        (with(condition("has(object.nothing)"), "rules", all.clone()), [false, false, false]),
    ];
    for (special, expected) in cases {
        let hooks = vec![hook("w", server.client("/"), special.clone())];
        cluster.register(VALIDATING, configuration("c", hooks)).await;
        let labelled = |name: &str| json!({"metadata": {"name": name, "labels": {"team": "red"}}});
        let mut asked = Vec::new();
        for (path, object) in [
            (MAPS, json!({"metadata": {"name": "m"}})),
            ("/api/v1/namespaces/b/configmaps", labelled("m")),
            ("/api/v1/namespaces", labelled("c")),
        ] {
            cluster.post(&format!("{path}?dryRun=All"), object).await.ok();
            asked.push(!server.seen().is_empty());
        }
        assert_eq!(asked, expected, "{special}");
        cluster.unregister(VALIDATING, "c").await;
    }
    // What can't be told is refused, unless the policy is to ignore it.
    let broken = with(condition("object.data.x == 'y'"), "rules", maps(&["CREATE"]));
    for (policy, code) in [("Fail", 403), ("Ignore", 201)] {
        let special = with(broken.clone(), "failurePolicy", policy.into());
        cluster.register(VALIDATING, configuration("c", vec![hook("w", server.client("/"), special)])).await;
        let answer = cluster.map("m").await;
        assert_eq!(answer.code, code);
        if code == 403 {
            let why =
                "configmaps \"m\" is forbidden: expression 'object.data.x == 'y'' resulted in error: no such key: data";
            assert_eq!(answer.error().1, why);
        }
        cluster.unregister(VALIDATING, "c").await;
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn equivalent_versions_are_asked_about_in_the_version_of_the_rule() {
    let server = Server::reviewing(|request| {
        if request["object"]["apiVersion"] == "autoscaling/v1" {
            return patch(json!([{"op": "replace", "path": "/spec/targetCPUUtilizationPercentage", "value": 55}]));
        }
        json!({"allowed": true})
    })
    .await;
    let cluster = Cluster::start().await;
    let rules = json!([{"operations": ["CREATE"], "apiGroups": ["autoscaling"], "apiVersions": ["v1"],
        "resources": ["horizontalpodautoscalers"]}]);
    let path = "/apis/autoscaling/v2/namespaces/a/horizontalpodautoscalers";
    let scaler = |name: &str| {
        json!({"metadata": {"name": name}, "spec": {"maxReplicas": 3,
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": 70}}}]}})
    };
    for (policy, asked, target) in [("Equivalent", true, 55), ("Exact", false, 70)] {
        let special = json!({"rules": rules, "matchPolicy": policy});
        cluster.register(MUTATING, configuration("c", vec![hook("w", server.client("/"), special)])).await;
        let created = cluster.post(path, scaler("h")).await.ok();
        assert_eq!(created["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"], target);
        let seen = server.seen();
        assert_eq!(!seen.is_empty(), asked);
        if let Some((_, review)) = seen.first() {
            let request = &review["request"];
            assert_eq!((&request["kind"]["version"], &request["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
            assert_eq!(request["object"]["spec"]["targetCPUUtilizationPercentage"], 70);
        }
        cluster.delete(&format!("{path}/h")).await.ok();
        cluster.unregister(MUTATING, "c").await;
    }
}

#[tokio::test]
async fn subresources_are_asked_about_as_what_they_are() {
    let server = Server::reviewing(|request| {
        if request["operation"] == "CONNECT" {
            return json!({"allowed": false, "status": {"message": "no shells"}});
        }
        if request["subResource"] == "scale" {
            return match request["object"]["spec"]["replicas"].as_i64() {
                Some(5) => patch(json!([{"op": "replace", "path": "/spec/replicas", "value": 4}])),
                _ => json!({"allowed": true}),
            };
        }
        json!({"allowed": true})
    })
    .await;
    let cluster = Cluster::start().await;
    let rules = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"],
        "resources": ["deployments/scale", "pods/exec", "pods/eviction", "pods/binding", "deployments/status"]}]);
    let hooks = vec![hook("w", server.client("/"), json!({"rules": rules}))];
    cluster.register(MUTATING, configuration("c", hooks)).await;
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let deployments = "/apis/apps/v1/namespaces/a/deployments";
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": template}});
    cluster.post(deployments, deployment).await.ok();
    let pod = json!({"metadata": {"name": "p"}, "spec": template["spec"]});
    cluster.post("/api/v1/namespaces/a/pods", pod).await.ok();
    assert!(server.seen().is_empty());

    let scaled = cluster.merge(&format!("{deployments}/d/scale"), json!({"spec": {"replicas": 5}})).await.ok();
    assert_eq!(scaled["spec"]["replicas"], 4);
    let (_, review) = server.seen().pop().expect("a review");
    let request = &review["request"];
    assert_eq!(request["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!(request["resource"], json!({"group": "apps", "version": "v1", "resource": "deployments"}));
    assert_eq!((&request["subResource"], &request["oldObject"]["kind"]), (&json!("scale"), &json!("Scale")));

    cluster.merge(&format!("{deployments}/d/status"), json!({"status": {"replicas": 1}})).await.ok();
    let (_, review) = server.seen().pop().expect("a review");
    assert_eq!(
        (&review["request"]["kind"]["kind"], &review["request"]["subResource"]),
        (&json!("Deployment"), &json!("status"))
    );

    let exec = cluster.post("/api/v1/namespaces/a/pods/p/exec?command=sh&stdout=true", Value::Null).await;
    assert_eq!(exec.error(), (400, "admission webhook \"w.example.com\" denied the request: no shells"));
    let (_, review) = server.seen().pop().expect("a review");
    let request = &review["request"];
    assert_eq!(
        request["object"],
        json!({"kind": "PodExecOptions", "apiVersion": "v1", "command": ["sh"], "stdout": true})
    );
    assert_eq!((&request["operation"], &request["name"]), (&json!("CONNECT"), &json!("p")));

    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    cluster.post("/api/v1/namespaces/a/pods/p/binding", binding).await.ok();
    let (_, review) = server.seen().pop().expect("a review");
    assert_eq!(
        (&review["request"]["kind"]["kind"], &review["request"]["operation"]),
        (&json!("Binding"), &json!("CREATE"))
    );

    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    cluster.post("/api/v1/namespaces/a/pods/p/eviction", eviction).await.ok();
    let (_, review) = server.seen().pop().expect("a review");
    let kind = json!({"group": "policy", "version": "v1", "kind": "Eviction"});
    assert_eq!((&review["request"]["kind"], &review["request"]["operation"]), (&kind, &json!("CREATE")));
}

#[tokio::test]
async fn webhooks_that_want_to_are_called_again_when_others_have_changed_the_object() {
    let server = Server::start(Arc::new(|path, review| {
        Box::pin(async move {
            let request = &review["request"];
            let labels = request["object"]["metadata"]["labels"].as_object().map_or(0, |labels| labels.len());
            let mut response = match path.split('?').next() {
                Some("/counts") => {
                    patch(json!([{"op": "add", "path": "/data", "value": {"labels": labels.to_string()}}]))
                }
                _ => patch(json!([{"op": "add", "path": "/metadata/labels", "value": {"late": "yes"}}])),
            };
            response["uid"] = request["uid"].clone();
            let answer = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response});
            (StatusCode::OK, answer.to_string())
        })
    }))
    .await;
    let cluster = Cluster::start().await;
    for (policy, counted, calls) in [("IfNeeded", "1", 3), ("Never", "0", 2)] {
        let hooks = vec![
            hook("counts", server.client("/counts"), json!({"reinvocationPolicy": policy})),
            hook("labels", server.client("/labels"), json!({})),
        ];
        cluster.register(MUTATING, configuration("c", hooks)).await;
        let map = cluster.map(&policy.to_lowercase()).await.ok();
        assert_eq!((map["data"]["labels"].as_str(), server.seen().len()), (Some(counted), calls));
        cluster.unregister(MUTATING, "c").await;
    }
}

#[tokio::test]
async fn configurations_of_admission_are_no_business_of_webhooks() {
    let server = Server::reviewing(|_| json!({"allowed": false})).await;
    let cluster = Cluster::start().await;
    let rules = json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    let hooks = |name: &str| configuration(name, vec![hook("w", server.client("/"), json!({"rules": rules}))]);
    cluster.register(VALIDATING, hooks("c")).await;
    cluster.register(MUTATING, hooks("m")).await;
    assert!(server.seen().is_empty());
    assert_eq!(cluster.map("m").await.code, 400);
    cluster.unregister(MUTATING, "m").await;
    cluster.unregister(VALIDATING, "c").await;
    cluster.map("m").await.ok();
}

#[tokio::test]
async fn what_is_wrong_with_a_configuration_is_told_when_it_is_written() {
    let cluster = Cluster::start().await;
    let client = || json!({"url": "https://hook.example"});
    let cases = [
        (
            hook("w", client(), json!({"name": "short"})),
            "webhooks[0].name: Invalid value: \"short\": should be a domain with at least three segments separated by dots",
        ),
        (
            hook("w", client(), json!({"admissionReviewVersions": []})),
            "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ),
        (
            hook("w", client(), json!({"admissionReviewVersions": ["v2"]})),
            "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            hook("w", client(), json!({"timeoutSeconds": 31})),
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            hook("w", client(), json!({"failurePolicy": "Maybe"})),
            "webhooks[0].failurePolicy: Unsupported value: \"Maybe\": supported values: \"Fail\", \"Ignore\"",
        ),
        (
            hook("w", client(), json!({"sideEffects": "Some"})),
            "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            hook("w", client(), json!({"sideEffects": null})),
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
        ),
        (
            hook("w", json!({"url": "http://hook.example"}), json!({})),
            "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ),
        (
            hook("w", json!({}), json!({})),
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            hook("w", client(), json!({"matchConditions": [{"name": "c", "expression": "object."}]})),
            "webhooks[0].matchConditions[0].expression: Invalid value: \"object.\": compilation failed: ",
        ),
        (
            hook(
                "w",
                client(),
                json!({"rules": [{"operations": ["RUN"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}),
            ),
            "webhooks[0].rules[0].operations[0]: Unsupported value: \"RUN\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
        ),
    ];
    for (hook, expected) in cases {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{VALIDATING}");
        let answer = cluster.post(&path, configuration("c", vec![hook])).await;
        let (code, message) = answer.error();
        assert!(code == 422 && message.contains(expected), "{message}\nhas not\n{expected}");
    }
}

/// Every node is this machine: what a service's endpoints are reached at.
struct Here(u16);

#[async_trait]
impl Dialer for Here {
    async fn connect(&self, _: &str, _: SocketAddr) -> std::io::Result<Box<dyn Connection>> {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", self.0)).await?;
        Ok(Box::new(stream))
    }
}

#[tokio::test]
async fn a_webhook_may_be_a_service_of_the_cluster() {
    let server = Server::reviewing(|_| json!({"allowed": false, "status": {"message": "as a service"}})).await;
    let cluster = Cluster::start_with(Some(Arc::new(Here(server.port)))).await;
    let client =
        json!({"service": {"name": "hook", "namespace": "a", "path": "/s", "port": 8443}, "caBundle": server.bundle});
    let hooks = vec![hook("w", client, json!({}))];
    cluster.register(VALIDATING, configuration("c", hooks)).await;
    let url = "Internal error occurred: failed calling webhook \"w.example.com\": failed to call webhook: Post \"https://hook.a.svc:8443/s?timeout=10s\": ";
    assert_eq!(cluster.map("m").await.error(), (500, format!("{url}service \"hook\" not found").as_str()));

    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 8443, "targetPort": 443}]}});
    cluster.post("/api/v1/namespaces/a/services", service).await.ok();
    let unavailable = format!("{url}no endpoints available for service \"hook\"");
    assert_eq!(cluster.map("m").await.error(), (500, unavailable.as_str()));

    let slice = json!({"metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.9"]}], "ports": [{"name": "", "port": 443}]});
    cluster.post("/apis/discovery.k8s.io/v1/namespaces/a/endpointslices", slice).await.ok();
    let denied = "admission webhook \"w.example.com\" denied the request: as a service";
    assert_eq!(cluster.map("m").await.error(), (400, denied));
    assert_eq!(server.seen().pop().expect("a review").0, "/s?timeout=10s");
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request() {
    let server = Server::reviewing(|_| json!({"allowed": true})).await;
    let cluster = Cluster::start().await;
    cluster.register(VALIDATING, configuration("c", vec![hook("w", server.client("/"), json!({}))])).await;
    for round in 0..20 {
        cluster.map(&format!("m{round}")).await.ok();
    }
    assert_eq!((server.seen().len(), server.accepted()), (20, 1));
    // They end with the configuration.
    cluster.unregister(VALIDATING, "c").await;
    cluster.map("last").await.ok();
    let begun = Instant::now();
    while server.open() > 0 && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.open(), 0);
}

/// 10,000 of them with `K3S_TEST_HANGING=10000`.
#[tokio::test]
async fn requests_to_a_webhook_that_hangs_end_in_time_and_leave_nothing() {
    let many: usize = std::env::var("K3S_TEST_HANGING").ok().and_then(|many| many.parse().ok()).unwrap_or(200);
    let server = Server::hanging().await;
    let cluster = Cluster::start().await;
    let special = json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"});
    cluster.register(VALIDATING, configuration("c", vec![hook("w", server.client("/"), special)])).await;
    for first in (0..many).step_by(200) {
        let names: Vec<String> = (first..many.min(first + 200)).map(|number| format!("m{number}")).collect();
        let writes = join_all(names.iter().map(|name| cluster.map(name))).await;
        assert!(writes.iter().all(|write| write.code == 201));
    }
    let begun = Instant::now();
    while server.open() > 0 && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.open(), 0, "of {} connections", server.accepted());
}

#[tokio::test]
async fn a_certificate_that_signs_itself_is_believed_if_it_is_the_bundle() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).expect("a certificate");
    let der = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = crate::server::tls(certificate.der().clone(), der.into());
    let server = Server::with_tls(config, certificate.pem(), |_| json!({"allowed": true})).await;
    let cluster = Cluster::start().await;
    cluster.register(VALIDATING, configuration("c", vec![hook("w", server.client("/"), json!({}))])).await;
    cluster.map("m").await.ok();
    assert_eq!(server.seen().len(), 1);
}
