use serde_json::json;

use super::*;
use crate::resource::find;

fn now() -> Timestamp {
    crate::time::parse("2026-01-02T03:04:05Z").expect("a time")
}

fn shown(group: &str, version: &str, plural: &str, mut object: Value) -> Value {
    object["metadata"]["creationTimestamp"] = "2026-01-02T03:02:05Z".into();
    let resource = find(group, version, plural).expect("built in");
    let cells = cells(resource, &object, now());
    assert_eq!(columns(resource).as_array().map(Vec::len), Some(cells.len()), "{plural}");
    Value::Array(cells)
}

#[test]
fn every_resource_has_as_many_cells_as_columns() {
    for resource in crate::resource::builtin() {
        let columns = columns(resource);
        let columns = columns.as_array().expect("a list");
        // Kubernetes has no column for the age that it prints of these.
        let unnamed = usize::from(resource.plural == "ipaddresses");
        assert_eq!(columns.len() + unnamed, cells(resource, &json!({}), now()).len(), "{}", resource.plural);
        for column in columns {
            let documented = column["description"] != "" || column["name"] == "Handler";
            assert!(documented, "{} {}", resource.plural, column["name"]);
        }
    }
}

#[test]
fn pods_say_what_they_are_up_to() {
    let pod = |spec: Value, status: Value| {
        let cells = shown("", "v1", "pods", json!({"metadata": {"name": "p"}, "spec": spec, "status": status}));
        [cells[1].clone(), cells[2].clone(), cells[3].clone()].map(|cell| cell.as_str().unwrap_or_default().to_owned())
    };
    let one = || json!({"containers": [{"name": "c"}]});
    let with = |status: Value| json!({"phase": "Running", "containerStatuses": [status]});
    assert_eq!(pod(one(), json!({"phase": "Pending"})), ["0/1", "Pending", "0"]);
    assert_eq!(pod(one(), with(json!({"ready": true, "state": {"running": {}}}))), ["1/1", "Running", "0"]);
    assert_eq!(
        pod(
            one(),
            with(json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "2026-01-02T03:03:00Z"}}}))
        ),
        ["0/1", "CrashLoopBackOff", "3 (65s ago)"]
    );
    assert_eq!(pod(one(), with(json!({"state": {"terminated": {"exitCode": 2}}}))), ["0/1", "ExitCode:2", "0"]);
    let init = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
    assert_eq!(
        pod(
            init.clone(),
            json!({"phase": "Pending", "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]})
        ),
        ["0/1", "Init:1/2", "0"]
    );
    assert_eq!(
        pod(
            init,
            json!({"phase": "Pending", "initContainerStatuses": [
            {"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]})
        ),
        ["0/1", "Init:Error", "0"]
    );
    let sidecar = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
    assert_eq!(
        pod(
            sidecar,
            json!({"phase": "Running",
            "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}],
            "containerStatuses": [{"ready": true, "state": {"running": {}}}]})
        ),
        ["2/2", "Running", "1"]
    );
}

#[test]
fn a_deleted_pod_is_terminating_and_a_finished_one_completed() {
    let object =
        json!({"metadata": {"name": "p", "deletionTimestamp": "2026-01-02T03:04:00Z"}, "status": {"phase": "Running"}});
    assert_eq!(shown("", "v1", "pods", object)[2], "Terminating");
    let pods = find("", "v1", "pods").expect("built in");
    let done = json!({"metadata": {"name": "p"}, "status": {"phase": "Succeeded"}});
    let row = row(pods, &done, IncludeObject::Metadata, now());
    assert_eq!(row["conditions"][0]["reason"], "Succeeded");
    assert_eq!(
        row["object"],
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": "p"}})
    );
}

#[test]
fn services_show_ports_and_addresses() {
    let service = |spec: Value, status: Value| {
        let cells = shown("", "v1", "services", json!({"metadata": {"name": "s"}, "spec": spec, "status": status}));
        (cells[2].clone(), cells[3].clone(), cells[4].clone())
    };
    assert_eq!(
        service(
            json!({"type": "NodePort", "clusterIP": "10.43.0.2", "clusterIPs": ["10.43.0.2"], "ports": [
            {"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 81, "protocol": "UDP"}]}),
            json!({})
        ),
        (json!("10.43.0.2"), json!("<none>"), json!("80:30080/TCP,81/UDP"))
    );
    assert_eq!(
        service(json!({"type": "ExternalName", "externalName": "a.example"}), json!({})),
        (json!("<none>"), json!("a.example"), json!("<none>"))
    );
    let balancer = json!({"type": "LoadBalancer", "clusterIPs": ["10.43.0.3"], "ports": []});
    assert_eq!(service(balancer.clone(), json!({})).1, "<pending>");
    assert_eq!(service(balancer, json!({"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}})).1, "10.0.0.1");
}

#[test]
fn nodes_show_state_roles_and_addresses() {
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": "true",
            "node-role.kubernetes.io/master": "true"}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.36.2+k3s1"},
            "addresses": [{"type": "InternalIP", "address": "192.168.0.2"}]}});
    assert_eq!(
        shown("", "v1", "nodes", node),
        json!([
            "n",
            "Ready,SchedulingDisabled",
            "control-plane,master",
            "2m",
            "v1.36.2+k3s1",
            "192.168.0.2",
            "<none>",
            "<unknown>",
            "<unknown>",
            "<unknown>"
        ])
    );
}

#[test]
fn events_of_both_groups_look_alike() {
    let event = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Started", "message": " started\n",
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"}, "count": 2,
        "source": {"component": "kubelet", "host": "n"},
        "firstTimestamp": "2026-01-02T03:00:05Z", "lastTimestamp": "2026-01-02T03:04:00Z"});
    let wanted =
        json!(["5s", "Normal", "Started", "pod/p", "spec.containers{c}", "kubelet, n", "started", "4m", 2, "e"]);
    assert_eq!(shown("", "v1", "events", event), wanted);
    let event = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "Started", "note": "started",
        "regarding": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"}, "deprecatedCount": 2,
        "deprecatedSource": {"component": "kubelet", "host": "n"},
        "deprecatedFirstTimestamp": "2026-01-02T03:00:05Z", "deprecatedLastTimestamp": "2026-01-02T03:04:00Z"});
    assert_eq!(shown("events.k8s.io", "v1", "events", event), wanted);
}
