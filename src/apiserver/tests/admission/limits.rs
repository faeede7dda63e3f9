//! LimitRanger: what a namespace's limit ranges add, and what they refuse.

use serde_json::{Value, json};

use crate::cluster::Cluster;

const PODS: &str = "/api/v1/namespaces/a/pods";

async fn limits(cluster: &Cluster, limits: Value) {
    let range = json!({"metadata": {"name": "limits"}, "spec": {"limits": limits}});
    cluster.post("/api/v1/namespaces/a/limitranges", range).await.ok();
}

fn pod(name: &str, resources: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}})
}

#[tokio::test]
async fn what_a_container_does_not_say_it_gets_from_the_range() {
    let cluster = Cluster::start().await;
    limits(
        &cluster,
        json!([{"type": "Container", "default": {"cpu": "500m", "memory": "64Mi"},
        "defaultRequest": {"cpu": "100m"}}]),
    )
    .await;
    let made = cluster.post(PODS, pod("p", json!({}))).await.ok();
    assert_eq!(
        made["spec"]["containers"][0]["resources"],
        json!({"limits": {"cpu": "500m", "memory": "64Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}})
    );
    let annotation = &made["metadata"]["annotations"]["kubernetes.io/limit-ranger"];
    assert_eq!(
        *annotation,
        "LimitRanger plugin set: cpu, memory request for container c; cpu, memory limit for container c"
    );
    let given = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
    let made = cluster.post(PODS, pod("q", given.clone())).await.ok();
    assert_eq!(made["spec"]["containers"][0]["resources"], given);
    assert_eq!(made["metadata"].get("annotations"), None);
}

#[tokio::test]
async fn what_is_too_little_too_much_or_out_of_proportion_is_refused() {
    let cluster = Cluster::start().await;
    limits(
        &cluster,
        json!([
            {"type": "Container", "min": {"cpu": "100m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "4"}},
            {"type": "Pod", "max": {"memory": "1Gi"}},
            {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "10Gi"}},
        ]),
    )
    .await;
    let of =
        |request: &str, limit: &str| json!({"requests": {"cpu": request}, "limits": {"cpu": limit, "memory": "1Gi"}});
    for (resources, wanted) in [
        (of("50m", "100m"), "minimum cpu usage per Container is 100m, but request is 50m"),
        (of("1", "2"), "maximum cpu usage per Container is 1, but limit is 2"),
        (of("100m", "900m"), "cpu max limit to request ratio per Container is 4, but provided ratio is 9.000000"),
        (json!({"limits": {"cpu": "1", "memory": "2Gi"}}), "maximum memory usage per Pod is 1Gi, but limit is 2Gi"),
    ] {
        let answer = cluster.post(PODS, pod("p", resources.clone())).await;
        let (code, message) = answer.error();
        assert_eq!(code, 403, "{resources}");
        assert!(message.starts_with("pods \"p\" is forbidden: ") && message.contains(wanted), "{message}");
    }
    cluster.post(PODS, pod("p", of("300m", "1"))).await.ok();
    let claims = "/api/v1/namespaces/a/persistentvolumeclaims";
    let claim = |storage: &str| {
        json!({"metadata": {"name": "d"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": storage}}}})
    };
    for (storage, wanted) in [
        ("100Mi", "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 100Mi"),
        ("11Gi", "maximum storage usage per PersistentVolumeClaim is 10Gi, but request is 11Gi"),
    ] {
        let answer = cluster.post(claims, claim(storage)).await;
        let (code, message) = answer.error();
        assert_eq!(code, 403);
        assert!(message.contains(wanted), "{message}");
    }
    cluster.post(claims, claim("5Gi")).await.ok();
}
