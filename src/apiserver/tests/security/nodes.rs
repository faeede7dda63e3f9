//! What a node may do: the Node authorizer lets it read what its pods use, and NodeRestriction checks what it writes.

use http::StatusCode;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// With the nodes `n1` and `n2`, and the pod `p` on `n1`, which uses the secret `used`, the claim `claim` and its volume.
async fn cluster() -> Cluster {
    let cluster = Cluster::start(|config, folder| {
        let key = KeyPair::generate().unwrap().serialize_pem();
        config.authentication.service_account_signing_key = Some(key.into_bytes());
        let nodes = ["n1", "n2"].map(|node| format!("{node},system:node:{node},{node},\"system:nodes\"\n")).concat();
        let file = folder.join("tokens.csv");
        let users = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, users + &nodes).unwrap();
    })
    .await;
    for (path, object) in [
        ("/api/v1/namespaces", json!({"metadata": {"name": "a"}})),
        ("/api/v1/namespaces/a/serviceaccounts", json!({"metadata": {"name": "default"}})),
        ("/api/v1/nodes", json!({"metadata": {"name": "n1"}})),
        ("/api/v1/nodes", json!({"metadata": {"name": "n2"}})),
        ("/api/v1/namespaces/a/secrets", json!({"metadata": {"name": "used"}})),
        ("/api/v1/namespaces/a/secrets", json!({"metadata": {"name": "other"}})),
        ("/api/v1/namespaces/a/secrets", json!({"metadata": {"name": "of-the-volume"}})),
        (
            "/api/v1/persistentvolumes",
            json!({"metadata": {"name": "volume"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "claimRef": {"namespace": "a", "name": "claim"},
                "csi": {"driver": "driver", "volumeHandle": "h", "nodeStageSecretRef": {"name": "of-the-volume", "namespace": "a"}}}}),
        ),
        (
            "/api/v1/namespaces/a/persistentvolumeclaims",
            json!({"metadata": {"name": "claim"}, "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": "volume",
                "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        (
            "/apis/storage.k8s.io/v1/csidrivers",
            json!({"metadata": {"name": "driver"}, "spec": {"tokenRequests": [{"audience": "of-the-driver"}]}}),
        ),
        (
            "/apis/storage.k8s.io/v1/volumeattachments",
            json!({"metadata": {"name": "attached"}, "spec": {"attacher": "driver", "nodeName": "n1",
                "source": {"persistentVolumeName": "volume"}}}),
        ),
        (
            "/api/v1/namespaces/a/pods",
            json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i",
                "envFrom": [{"secretRef": {"name": "used"}}]}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}]}}),
        ),
    ] {
        let (code, answer) = cluster.post("admin", path, object).await;
        assert_eq!(code, StatusCode::CREATED, "{path}: {answer}");
    }
    cluster
}

/// Code and message of a refusal.
fn refusal(answer: &(StatusCode, Value)) -> (u16, &str) {
    (answer.0.as_u16(), answer.1["message"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn a_node_reads_what_its_pods_use() {
    let cluster = cluster().await;
    for (path, allowed) in [
        ("/api/v1/namespaces/a/pods/p", true),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1", true),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dn2", false),
        ("/api/v1/pods", false),
        ("/api/v1/namespaces/a/pods?fieldSelector=metadata.name%3Dp", true),
        ("/api/v1/nodes/n1", true),
        ("/api/v1/nodes/n2", false),
        ("/api/v1/nodes?fieldSelector=metadata.name%3Dn1", true),
        ("/api/v1/nodes", false),
        ("/api/v1/namespaces/a/secrets/used", true),
        ("/api/v1/namespaces/a/secrets/of-the-volume", true),
        ("/api/v1/namespaces/a/secrets/other", false),
        ("/api/v1/namespaces/a/secrets", false),
        ("/api/v1/namespaces/a/persistentvolumeclaims/claim", true),
        ("/api/v1/persistentvolumes/volume", true),
        ("/api/v1/namespaces/a/serviceaccounts/default", true),
        ("/apis/storage.k8s.io/v1/volumeattachments/attached", true),
        ("/api/v1/services", true),
        ("/apis/discovery.k8s.io/v1/endpointslices", false),
    ] {
        let (code, answer) = cluster.get("n1", path).await;
        let expected = if allowed { StatusCode::OK } else { StatusCode::FORBIDDEN };
        assert_eq!(code, expected, "{path}: {answer}");
        // Of another node, nothing is related.
        let shared = path.ends_with("services") || path.contains("n2");
        if allowed && !shared {
            assert_eq!(cluster.get("n2", path).await.0, StatusCode::FORBIDDEN, "n2 {path}");
        }
    }
    let (code, answer) = cluster.get("n1", "/api/v1/namespaces/a/secrets/other").await;
    assert_eq!(code, StatusCode::FORBIDDEN);
    let message = answer["message"].as_str().unwrap();
    assert!(message.ends_with("no relationship found between node 'n1' and this object"), "{message}");
}

#[tokio::test]
async fn a_node_creates_mirror_pods_that_are_its_own() {
    let cluster = cluster().await;
    let uid = cluster.get("admin", "/api/v1/nodes/n1").await.1["metadata"]["uid"].clone();
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true});
    let good = json!({"metadata": {"name": "mirror", "annotations": {"kubernetes.io/config.mirror": "x"},
        "ownerReferences": [owner]}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
    let with = |pointer: &str, value: Value| {
        let mut pod = good.clone();
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[field] = value;
        pod
    };
    let mut foreign = owner.clone();
    foreign["uid"] = json!("another");
    for (pod, expected) in [
        (with("/metadata/annotations", json!({})), "can only create mirror pods"),
        (with("/spec/nodeName", json!("n2")), "can only create pods with spec.nodeName set to itself"),
        (with("/metadata/ownerReferences", json!([])), "can only create pods with an owner reference set to itself"),
        (with("/metadata/ownerReferences", json!([foreign])), "node n1 UID mismatch: expected another got"),
        (
            with(
                "/spec/containers",
                json!([{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "other"}}]}]),
            ),
            "can not create pods that reference secrets",
        ),
    ] {
        let answer = cluster.post("n1", "/api/v1/namespaces/a/pods", pod).await;
        let (code, message) = refusal(&answer);
        assert!(code == 403 && message.contains(expected), "{code} {message}");
    }
    let (code, answer) = cluster.post("n1", "/api/v1/namespaces/a/pods", good).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let answer = cluster.delete("n2", "/api/v1/namespaces/a/pods/mirror").await;
    assert!(refusal(&answer).1.contains("can only delete pods with spec.nodeName set to itself"), "{answer:?}");
    assert_eq!(cluster.delete("n1", "/api/v1/namespaces/a/pods/mirror").await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_node_says_how_its_pods_are_and_no_more() {
    let cluster = cluster().await;
    let status = "/api/v1/namespaces/a/pods/p/status";
    let merge = |token: &'static str, path: &'static str, body: Value| cluster.merge(token, path, body);
    assert_eq!(merge("n1", status, json!({"status": {"phase": "Running"}})).await.0, StatusCode::OK);
    for (token, body, expected) in [
        ("n2", json!({"status": {"phase": "Failed"}}), "can only update pod status for pods with spec.nodeName"),
        ("n1", json!({"metadata": {"labels": {"a": "b"}}}), "cannot update labels through pod status"),
        (
            "n1",
            json!({"status": {"resourceClaimStatuses": [{"name": "a", "resourceClaimName": "b"}]}}),
            "cannot update resource claim statues",
        ),
    ] {
        let answer = merge(token, status, body).await;
        let (code, message) = refusal(&answer);
        assert!(code == 403 && message.contains(expected), "{code} {message}");
    }
    let claim = "/api/v1/namespaces/a/persistentvolumeclaims/claim/status";
    let grown = json!({"status": {"capacity": {"storage": "2Gi"}}});
    assert_eq!(merge("n1", claim, grown.clone()).await.0, StatusCode::OK);
    assert_eq!(merge("n2", claim, grown).await.0, StatusCode::FORBIDDEN);
    let answer = merge("n1", claim, json!({"status": {"phase": "Lost"}})).await;
    assert!(refusal(&answer).1.contains("other than status.capacity and status.conditions"), "{answer:?}");
}

#[tokio::test]
async fn a_node_changes_its_own_labels_but_not_its_taints() {
    let cluster = cluster().await;
    let node = "/api/v1/nodes/n1";
    for (body, expected) in [
        (json!({"metadata": {"labels": {"zone": "a", "kubernetes.io/os": "linux"}}}), ""),
        (
            json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "a"}}}),
            "is not allowed to modify labels: node-restriction.kubernetes.io/x",
        ),
        (
            json!({"metadata": {"labels": {"node-role.kubernetes.io/x": "a"}}}),
            "is not allowed to modify labels: node-role.kubernetes.io/x",
        ),
        (
            json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}),
            "node \"n1\" is not allowed to modify taints",
        ),
    ] {
        let answer = cluster.merge("n1", node, body).await;
        let (code, message) = refusal(&answer);
        assert!(message.contains(expected) && (code == 200) == expected.is_empty(), "{code} {message}");
    }
    let answer = cluster.merge("n2", node, json!({"metadata": {"labels": {"zone": "b"}}})).await;
    assert!(refusal(&answer).1.contains("node \"n2\" is not allowed to modify node \"n1\""), "{answer:?}");
    let own = |name: &str| json!({"metadata": {"name": name}, "spec": {"drivers": []}});
    let csi_nodes = "/apis/storage.k8s.io/v1/csinodes";
    assert_eq!(cluster.post("n1", csi_nodes, own("n1")).await.0, StatusCode::CREATED);
    assert_eq!(cluster.post("n1", csi_nodes, own("n2")).await.0, StatusCode::FORBIDDEN);
    let slices = "/apis/resource.k8s.io/v1/resourceslices";
    let slice = |name: &str, node: &str| {
        json!({"metadata": {"name": name}, "spec": {"driver": "d.example.com",
        "nodeName": node, "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": []}})
    };
    assert_eq!(cluster.post("n1", slices, slice("s", "n1")).await.0, StatusCode::CREATED);
    let answer = cluster.post("n1", slices, slice("t", "n2")).await;
    assert!(refusal(&answer).1.contains("can only create ResourceSlice with the same NodeName"), "{answer:?}");
    let path = format!("{slices}/s");
    assert_eq!(cluster.get("n1", &path).await.0, StatusCode::OK);
    assert_eq!(cluster.get("n2", &path).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_node_gets_tokens_for_its_pods_and_their_audiences() {
    let cluster = cluster().await;
    let uid = cluster.get("admin", "/api/v1/namespaces/a/pods/p").await.1["metadata"]["uid"].clone();
    let path = "/api/v1/namespaces/a/serviceaccounts/default/token";
    let request = |audiences: Value| {
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": audiences, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}})
    };
    for (audiences, expected) in [
        (json!([]), ""),
        (json!(["of-the-driver"]), ""),
        (json!(["vault"]), "audience \"vault\" not found in pod spec volume, system:node:n1 is not authorized"),
        (json!(["of-the-driver", "vault"]), "node may only request 0 or 1 audiences"),
    ] {
        let answer = cluster.post("n1", path, request(audiences)).await;
        let (code, message) = refusal(&answer);
        assert!(message.contains(expected) && (code == 201) == expected.is_empty(), "{code} {message}");
    }
    let mut unbound = request(json!([]));
    unbound["spec"]["boundObjectRef"] = Value::Null;
    let answer = cluster.post("n1", path, unbound).await;
    assert!(refusal(&answer).1.contains("node requested token not bound to a pod"), "{answer:?}");
    assert_eq!(cluster.post("n2", path, request(json!([]))).await.0, StatusCode::FORBIDDEN);
    // A role gives a node more.
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": "vault"}, "rules": [{"apiGroups": [""], "resources": ["vault"],
        "verbs": ["request-serviceaccounts-token-audience"], "resourceNames": ["default"]}]});
    let binding = json!({"metadata": {"name": "vault"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "vault"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}]});
    for (resource, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        assert_eq!(cluster.post("admin", &format!("{rbac}/{resource}"), object).await.0, StatusCode::CREATED);
    }
    let (code, answer) = cluster.post("n1", path, request(json!(["vault"]))).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
}

#[tokio::test]
async fn a_node_asks_for_certificates_in_its_own_name() {
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    let cluster = cluster().await;
    let request = |name: &str, common_name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, common_name);
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        json!({"metadata": {"name": name}, "spec": {"request": BASE64_STANDARD.encode(pem),
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["client auth", "digital signature"]}})
    };
    let path = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let (code, answer) = cluster.post("n1", path, request("own", "system:node:n1")).await;
    assert_eq!(code, StatusCode::CREATED, "{answer}");
    let answer = cluster.post("n1", path, request("other", "system:node:n2")).await;
    assert!(refusal(&answer).1.contains("can only create a node CSR with CN=system:node:n1"), "{answer:?}");
}
