//! Admission of connections: what webhooks change in their options, and what they have to say for the audit log.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use k3s_apiserver::audit::{Config as Audit, log};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::outside::Outside;

const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, resources: [{group: '', resources: [nodes/proxy]}]}
- {level: None}
";

/// Leads `/metrics` to `/stats`, refuses `/run`, and notes both.
fn review(review: &Value) -> Value {
    let request = &review["request"];
    assert_eq!((&request["operation"], &request["object"]["kind"]), (&json!("CONNECT"), &json!("NodeProxyOptions")));
    let patch = json!([{"op": "replace", "path": "/path", "value": "/stats"}]);
    let response = json!({
        "uid": request["uid"],
        "allowed": request["object"]["path"] != "/run",
        "patchType": "JSONPatch",
        "patch": STANDARD.encode(patch.to_string()),
        "auditAnnotations": {"asked": request["object"]["path"]},
        "warnings": ["connections are watched"],
    });
    json!({"kind": "AdmissionReview", "apiVersion": review["apiVersion"], "response": response})
}

#[tokio::test]
async fn webhooks_change_the_options_of_connections_and_tell_the_audit_log() {
    let kubelet = Outside::start(|request| json!({"answered": request["path"]}));
    let webhook = Outside::start(review);
    let cluster = Cluster::start(|config, folder| {
        config.relay.kubelet_ca = vec![kubelet.authority.certificate.clone()];
        std::fs::write(folder.join("policy.yaml"), POLICY).unwrap();
        let log = log::Options::new(folder.join("audit.log"));
        config.audit = Some(Audit { policy_file: folder.join("policy.yaml"), log: Some(log), webhook: None });
    })
    .await;
    let (code, mut node) = cluster.post("admin", "/api/v1/nodes", json!({"metadata": {"name": "n"}})).await;
    assert_eq!(code, StatusCode::CREATED, "{node}");
    node["status"] = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}}});
    assert_eq!(cluster.put("/api/v1/nodes/n/status", node).await.0, StatusCode::OK);

    let proxied = |path: &str| format!("/api/v1/nodes/n/proxy/{path}");
    let (code, answer) = cluster.get("admin", &proxied("a%2Fb?c=d")).await;
    assert_eq!((code, answer), (StatusCode::OK, json!({"answered": "/a%2Fb?c=d"})));
    let configuration = json!({
        "metadata": {"name": "watch"},
        "webhooks": [{
            "name": "watch.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": format!("https://localhost:{}/x", webhook.port), "caBundle": webhook.bundle},
            "rules": [{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["nodes/proxy"]}]}],
    });
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let (code, answer) = cluster.post("admin", path, configuration).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let (code, answer) = cluster.get("admin", &proxied("metrics?c=d")).await;
    assert_eq!((code, answer), (StatusCode::OK, json!({"answered": "/stats?c=d"})));
    let (code, answer) = cluster.get("admin", &proxied("run")).await;
    assert_eq!(code, StatusCode::BAD_REQUEST, "{answer}");
    assert_eq!(kubelet.seen().len(), 2);

    let (_, metrics) = cluster.get("admin", "/metrics").await;
    let metrics = metrics.as_str().unwrap();
    let labels = "component=\"apiserver\",dry_run=\"\",group=\"\",resource=\"nodes\",scope=\"resource\"";
    for line in [
        format!(
            "apiserver_request_total{{code=\"200\",{labels},subresource=\"proxy\",verb=\"CONNECT\",version=\"v1\"}} 2"
        ),
        format!(
            "apiserver_request_total{{code=\"400\",{labels},subresource=\"proxy\",verb=\"CONNECT\",version=\"v1\"}} 1"
        ),
        format!("apiserver_request_duration_seconds_count{{{labels},subresource=\"\",verb=\"POST\",version=\"v1\"}} 1"),
        "apiserver_admission_webhook_request_total{code=\"200\",name=\"watch.example.com\",operation=\"CONNECT\",\
         rejected=\"false\",type=\"admit\"} 1"
            .to_owned(),
        "apiserver_admission_webhook_rejection_count{error_type=\"no_error\",name=\"watch.example.com\",\
         operation=\"CONNECT\",rejection_code=\"400\",type=\"admit\"} 1"
            .to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line} is not in: {metrics}");
    }

    cluster.server.close_audit().await;
    let text = std::fs::read_to_string(cluster.folder.path().join("audit.log")).unwrap();
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let asked = |uri: &str| {
        let event = events.iter().find(|event| event["requestURI"].as_str().unwrap().contains(uri));
        event.expect(uri)["annotations"]["watch.example.com/asked"].clone()
    };
    assert_eq!((asked("a%2Fb"), asked("metrics"), asked("run")), (Value::Null, json!("/metrics"), json!("/run")));
    let mutated = events
        .iter()
        .find_map(|event| event["annotations"]["mutation.webhook.admission.k8s.io/round_0_index_0"].as_str());
    let mutated: Value = serde_json::from_str(mutated.unwrap()).unwrap();
    assert_eq!(mutated, json!({"configuration": "watch", "webhook": "watch.example.com", "mutated": true}));
    // The patch itself is a piece of an object.
    assert!(!text.contains("patch.webhook.admission.k8s.io"), "{text}");
}
