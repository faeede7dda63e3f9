//! Pods from the API to the runtime and back.

mod fake;

use fake::Node;
use fake::api::Api;
use fake::runtime::Runtime;
use serde_json::{Value, json};

const PODS: &str = "/api/v1/namespaces/n/pods";

fn pod(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "uid-p", "generation": 1},
        "spec": spec, "status": {"phase": "Pending"}})
}

fn condition<'a>(pod: &'a Value, type_: &str) -> &'a str {
    let list = pod["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().find(|c| c["type"] == type_).and_then(|c| c["status"].as_str()).unwrap_or("")
}

fn ready(pod: &Value) -> bool {
    condition(pod, "Ready") == "True"
}

#[tokio::test]
async fn a_pod_is_run_reported_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (api, runtime) = (Api::new(), Runtime::new());
    let config_map = json!({"metadata": {"name": "settings", "namespace": "n"}, "data": {"color": "green"}});
    api.put("/api/v1/namespaces/n/configmaps", config_map);
    let node = Node::start(dir.path(), &api, &runtime);
    api.put(
        PODS,
        pod(json!({
            "nodeName": "node", "restartPolicy": "Always", "serviceAccountName": "default",
            "initContainers": [{"name": "init", "image": "image", "imagePullPolicy": "IfNotPresent"}],
            "containers": [{"name": "main", "image": "image", "imagePullPolicy": "IfNotPresent",
                "env": [{"name": "COLOR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
                        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
                "command": ["serve", "$(COLOR)"],
                "volumeMounts": [{"name": "settings", "mountPath": "/settings"},
                                 {"name": "token", "mountPath": "/token"}]}],
            "volumes": [{"name": "settings", "configMap": {"name": "settings"}},
                {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}]})),
    );
    runtime.wait_started("init", 1).await;
    let initializing = api.wait(PODS, "p", "initializing", |pod| {
        pod["status"]["initContainerStatuses"][0]["state"]["running"].is_object()
    });
    let initializing = initializing.await;
    assert_eq!(initializing["status"]["phase"], "Pending");
    assert_eq!(initializing["status"]["containerStatuses"][0]["state"]["waiting"]["reason"], "PodInitializing");
    runtime.exit("init", 0);
    let running = api.wait(PODS, "p", "ready", ready).await;
    let status = &running["status"];
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "127.0.0.1");
    assert_eq!(status["hostIP"], "192.0.2.1");
    assert_eq!(status["qosClass"], "BestEffort");
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["initContainerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    assert!(status["containerStatuses"][0]["containerID"].as_str().unwrap().starts_with("k3s://container-"));

    let config = runtime.config("main");
    assert_eq!(config.command, ["serve", "green"]);
    let env = |name: &str| config.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!((env("IP"), env("KUBERNETES_SERVICE_HOST")), (Some("127.0.0.1"), Some("10.43.0.1")));
    let mount = |at: &str| config.mounts.iter().find(|m| m.container_path == std::path::Path::new(at)).unwrap();
    let read = |at: &str, name: &str| std::fs::read_to_string(mount(at).host_path.join(name)).unwrap();
    assert_eq!((read("/settings", "color"), read("/token", "token")), ("green".into(), "a-token".into()));

    let mut deleted = api.get(PODS, "p").unwrap();
    deleted["metadata"]["deletionTimestamp"] = "2024-01-01T00:00:00Z".into();
    deleted["metadata"]["deletionGracePeriodSeconds"] = 5.into();
    api.put(PODS, deleted);
    api.wait(PODS, "p", "gone", Value::is_null).await;
    assert!(runtime.is_empty(), "nothing is left in the runtime");
    assert_eq!(std::fs::read_dir(dir.path().join("kubelet/pods")).unwrap().count(), 0, "nor on the disk");
    node.stop().await;
}

#[tokio::test]
async fn a_crashing_container_restarts_at_once_and_then_backs_off() {
    let dir = tempfile::tempdir().unwrap();
    let (api, runtime) = (Api::new(), Runtime::new());
    let node = Node::start(dir.path(), &api, &runtime);
    let containers = json!([{"name": "main", "image": "image", "imagePullPolicy": "IfNotPresent"}]);
    api.put(PODS, pod(json!({"nodeName": "node", "containers": containers})));
    api.wait(PODS, "p", "ready", ready).await;
    runtime.exit("main", 1);
    runtime.wait_started("main", 2).await;
    api.wait(PODS, "p", "ready again", |pod| ready(pod) && pod["status"]["containerStatuses"][0]["restartCount"] == 1)
        .await;
    runtime.exit("main", 2);
    let waiting = api
        .wait(PODS, "p", "backing off", |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let container = &waiting["status"]["containerStatuses"][0];
    let message = "back-off 10s restarting failed container=main pod=p_n(uid-p)";
    assert_eq!(container["state"]["waiting"]["message"], message);
    assert_eq!(container["lastState"]["terminated"]["exitCode"], 2);
    assert_eq!(waiting["status"]["phase"], "Running");
    assert!(!ready(&waiting));
    node.stop().await;
}

#[tokio::test]
async fn a_new_kubelet_takes_running_pods_up_and_removes_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (api, runtime) = (Api::new(), Runtime::new());
    let node = Node::start(dir.path(), &api, &runtime);
    let containers = json!([{"name": "main", "image": "image", "imagePullPolicy": "IfNotPresent"}]);
    api.put(PODS, pod(json!({"nodeName": "node", "containers": containers})));
    let before = api.wait(PODS, "p", "ready", ready).await;
    node.stop().await;

    let node = Node::start(dir.path(), &api, &runtime);
    let mut other = pod(json!({"nodeName": "node", "containers": containers}));
    other["metadata"]["name"] = "q".into();
    other["metadata"]["uid"] = "uid-q".into();
    api.put(PODS, other);
    // When a later pod is ready, the earlier one has long been looked at.
    api.wait(PODS, "q", "ready", ready).await;
    assert_eq!(runtime.started(), ["main", "main"], "one for each pod");
    assert_eq!(api.get(PODS, "p").unwrap()["status"], before["status"]);
    node.stop().await;

    api.remove(PODS, "p");
    api.remove(PODS, "q");
    let node = Node::start(dir.path(), &api, &runtime);
    let empty = async {
        while !runtime.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), empty).await.expect("orphans are removed");
    node.stop().await;
}

#[tokio::test]
async fn a_pod_that_ends_is_over_and_a_missing_image_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (api, runtime) = (Api::new(), Runtime::new());
    let node = Node::start(dir.path(), &api, &runtime);
    let containers = json!([{"name": "main", "image": "image", "imagePullPolicy": "IfNotPresent"}]);
    api.put(PODS, pod(json!({"nodeName": "node", "restartPolicy": "Never", "containers": containers})));
    let mut missing = pod(json!({"nodeName": "node", "containers": [{"name": "lost", "image": "missing:1"}]}));
    missing["metadata"]["name"] = "q".into();
    missing["metadata"]["uid"] = "uid-q".into();
    api.put(PODS, missing);
    runtime.wait_started("main", 1).await;
    runtime.exit("main", 0);
    let over = api.wait(PODS, "p", "over", |pod| pod["status"]["phase"] == "Succeeded").await;
    assert_eq!(over["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    for reason in ["ErrImagePull", "ImagePullBackOff"] {
        api.wait(PODS, "q", reason, |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
        })
        .await;
    }
    node.stop().await;
}

#[tokio::test]
async fn the_node_is_registered_and_ready_with_a_lease() {
    let dir = tempfile::tempdir().unwrap();
    let (api, runtime) = (Api::new(), Runtime::new());
    let node = Node::start(dir.path(), &api, &runtime);
    let registered = api.wait("/api/v1/nodes", "node", "ready", |node| condition(node, "Ready") == "True").await;
    assert_eq!(registered["spec"]["providerID"], "k3s://node");
    assert_eq!(registered["metadata"]["labels"]["node.kubernetes.io/instance-type"], "k3s");
    let addresses = &registered["status"]["addresses"];
    assert_eq!(addresses[0], json!({"type": "InternalIP", "address": "192.0.2.1"}));
    api.wait("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases", "node", "renewed", |lease| {
        lease["spec"]["holderIdentity"] == "node"
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_pod_with_a_user_namespace_keeps_its_ids_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (api, runtime) = (Api::new(), Runtime::new());
    let node = Node::start(dir.path(), &api, &runtime);
    let named = |name: &str, host_users: bool| {
        let mut pod =
            pod(json!({"nodeName": "node", "hostUsers": host_users, "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [{"name": name, "image": "image", "imagePullPolicy": "IfNotPresent",
                "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}));
        (pod["metadata"]["name"], pod["metadata"]["uid"]) = (name.into(), format!("uid-{name}").into());
        pod
    };
    let first_ids = |name: &str| {
        let mounts = runtime.config(name).mounts;
        let ids: Vec<_> = mounts.iter().map(|mount| mount.id_mappings.map(|ids| ids.uids.host_id)).collect();
        assert!(ids.len() == 3 && ids.iter().all(|of_mount| *of_mount == ids[0]), "{mounts:?}");
        ids[0]
    };
    for (name, host_users) in [("a", false), ("b", false), ("plain", true)] {
        api.put(PODS, named(name, host_users));
        runtime.wait_started(name, 1).await;
    }
    assert_eq!(first_ids("plain"), None);
    let mut given = [first_ids("a"), first_ids("b")];
    let before = given;
    given.sort_unstable();
    assert_eq!(given, [Some(65536), Some(131_072)]);
    assert_eq!(runtime.users(), given.into_iter().flatten().collect::<Vec<_>>());
    node.stop().await;

    let node = Node::start(dir.path(), &api, &runtime);
    api.wait(PODS, "b", "ready", ready).await;
    runtime.exit("b", 1);
    runtime.wait_started("b", 2).await;
    assert_eq!([first_ids("a"), first_ids("b")], before);
    node.stop().await;
}

#[tokio::test]
async fn an_ephemeral_container_joins_its_target() {
    let dir = tempfile::tempdir().unwrap();
    let (api, runtime) = (Api::new(), Runtime::new());
    let node = Node::start(dir.path(), &api, &runtime);
    let containers = json!([{"name": "main", "image": "image", "imagePullPolicy": "IfNotPresent"}]);
    api.put(PODS, pod(json!({"nodeName": "node", "containers": containers})));
    let running = api.wait(PODS, "p", "ready", ready).await;
    let mut debugged = api.get(PODS, "p").unwrap();
    let debugger = |name: &str, target: &str| json!({"name": name, "image": "image", "imagePullPolicy": "IfNotPresent", "targetContainerName": target});
    debugged["spec"]["ephemeralContainers"] = json!([debugger("lost", "nothing"), debugger("debugger", "main")]);
    api.put(PODS, debugged);
    runtime.wait_started("debugger", 1).await;
    let id = running["status"]["containerStatuses"][0]["containerID"].as_str().unwrap().trim_start_matches("k3s://");
    assert_eq!(runtime.config("debugger").target.as_deref(), Some(id));
    assert_eq!(runtime.config("main").target, None);
    let waiting = |pod: &Value| {
        let statuses = pod["status"]["ephemeralContainerStatuses"].as_array().cloned().unwrap_or_default();
        statuses.iter().any(|status| {
            let waiting = &status["state"]["waiting"];
            waiting["reason"] == "CreateContainerConfigError"
                && waiting["message"] == "unable to find target container nothing"
        })
    };
    api.wait(PODS, "p", "told that there is no such target", waiting).await;
    node.stop().await;
}

#[tokio::test]
async fn an_image_is_pulled_for_a_volume_and_a_missing_one_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (api, runtime) = (Api::new(), Runtime::new());
    let node = Node::start(dir.path(), &api, &runtime);
    let named = |name: &str, image: &str| {
        let mut pod = pod(json!({"nodeName": "node",
            "volumes": [{"name": "v", "image": {"reference": image, "pullPolicy": "IfNotPresent"}},
                        {"name": "unused", "image": {"reference": "missing:2"}}],
            "containers": [{"name": name, "image": "image", "imagePullPolicy": "IfNotPresent",
                "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "part"}]}]}));
        (pod["metadata"]["name"], pod["metadata"]["uid"]) = (name.into(), format!("uid-{name}").into());
        pod
    };
    api.put(PODS, named("has", "image"));
    api.put(PODS, named("lacks", "missing:1"));
    runtime.wait_started("has", 1).await;
    let mounts = runtime.config("has").mounts;
    let volume = mounts.iter().find_map(|mount| mount.image.as_ref()).unwrap();
    assert_eq!((volume.image_id.as_str(), volume.sub_path.to_str()), ("sha256:image", Some("part")));
    for reason in ["ErrImagePull", "ImagePullBackOff"] {
        api.wait(PODS, "lacks", reason, |pod| {
            pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == reason
        })
        .await;
    }
    node.stop().await;
}
