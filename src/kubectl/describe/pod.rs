//! Pods.

use serde_json::Value;

use super::container::{containers, tolerations};
use super::{Writer, items, or, text, time, volume};
use crate::line;

pub fn describe(writer: &mut Writer, pod: &Value) {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    line!(writer, 0, "Name:\t{}", k3s_api::object::name(pod));
    line!(writer, 0, "Namespace:\t{}", k3s_api::object::namespace(pod));
    if let Some(priority) = spec["priority"].as_i64() {
        line!(writer, 0, "Priority:\t{priority}");
    }
    for (title, field) in [
        ("Priority Class Name", "priorityClassName"),
        ("Runtime Class Name", "runtimeClassName"),
        ("Service Account", "serviceAccountName"),
    ] {
        if !text(&spec[field]).is_empty() {
            line!(writer, 0, "{title}:\t{}", text(&spec[field]));
        }
    }
    match text(&spec["nodeName"]) {
        node if node.is_empty() => line!(writer, 0, "Node:\t<none>"),
        node => line!(writer, 0, "Node:\t{node}/{}", text(&status["hostIP"])),
    }
    if !status["startTime"].is_null() {
        line!(writer, 0, "Start Time:\t{}", time(&status["startTime"]));
    }
    writer.map(0, "Labels:", k3s_api::object::labels(pod));
    writer.annotations(pod);
    match (&pod["metadata"]["deletionTimestamp"], text(&status["phase"])) {
        (Value::Null, phase) => line!(writer, 0, "Status:\t{phase}"),
        (deleted, _) => {
            line!(writer, 0, "Status:\tTerminating (lasts {})", super::age(deleted));
            let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
            line!(writer, 0, "Termination Grace Period:\t{grace}s");
        }
    }
    for (title, field) in [("Reason", "reason"), ("Message", "message")] {
        if !text(&status[field]).is_empty() {
            line!(writer, 0, "{title}:\t{}", text(&status[field]));
        }
    }
    if let Some(kind) = spec["securityContext"]["seccompProfile"]["type"].as_str() {
        line!(writer, 0, "SeccompProfile:\t{kind}");
    }
    line!(writer, 0, "IP:\t{}", text(&status["podIP"]));
    if items(&status["podIPs"]).count() == 0 {
        line!(writer, 0, "IPs:\t<none>");
    } else {
        line!(writer, 0, "IPs:");
        for ip in items(&status["podIPs"]) {
            line!(writer, 1, "IP:\t{}", text(&ip["ip"]));
        }
    }
    writer.controlled_by(pod);
    if !text(&status["nominatedNodeName"]).is_empty() {
        line!(writer, 0, "NominatedNodeName:\t{}", text(&status["nominatedNodeName"]));
    }
    if items(&spec["initContainers"]).count() > 0 {
        containers(writer, 0, "Init Containers", &spec["initContainers"], &status["initContainerStatuses"]);
    }
    containers(writer, 0, "Containers", &spec["containers"], &status["containerStatuses"]);
    if items(&spec["ephemeralContainers"]).count() > 0 {
        containers(
            writer,
            0,
            "Ephemeral Containers",
            &spec["ephemeralContainers"],
            &status["ephemeralContainerStatuses"],
        );
    }
    if items(&spec["readinessGates"]).count() > 0 {
        line!(writer, 0, "Readiness Gates:\n  Type\tStatus");
        for gate in items(&spec["readinessGates"]) {
            let condition = items(&status["conditions"]).find(|condition| condition["type"] == gate["conditionType"]);
            let state = condition.map_or("<none>".to_owned(), |condition| text(&condition["status"]));
            line!(writer, 1, "{} \t{state} ", text(&gate["conditionType"]));
        }
    }
    if items(&status["conditions"]).count() > 0 {
        line!(writer, 0, "Conditions:\n  Type\tStatus");
        for condition in items(&status["conditions"]) {
            line!(writer, 1, "{} \t{} ", text(&condition["type"]), text(&condition["status"]));
        }
    }
    volume::describe(writer, 0, &spec["volumes"]);
    line!(writer, 0, "QoS Class:\t{}", or(&status["qosClass"], "<none>"));
    writer.map(0, "Node-Selectors:", spec["nodeSelector"].as_object());
    tolerations(writer, 0, &spec["tolerations"]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_reads_as_in_kubectl() {
        let pod = json!({"metadata": {"name": "web", "namespace": "default"},
            "spec": {"nodeName": "n1", "priority": 0, "serviceAccountName": "default",
                "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}]}],
                "volumes": [{"name": "v", "emptyDir": {}}]},
            "status": {"phase": "Running", "podIP": "10.42.0.5", "hostIP": "10.0.0.1", "podIPs": [{"ip": "10.42.0.5"}],
                "qosClass": "BestEffort", "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "c", "ready": true, "restartCount": 2, "containerID": "containerd://1", "imageID": "sha256:0",
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
        let mut writer = Writer::default();
        describe(&mut writer, &pod);
        let expected = "\
Name:             web
Namespace:        default
Priority:         0
Service Account:  default
Node:             n1/10.0.0.1
Labels:           <none>
Annotations:      <none>
Status:           Running
IP:               10.42.0.5
IPs:
  IP:  10.42.0.5
Containers:
  c:
    Container ID:   containerd://1
    Image:          i
    Image ID:       sha256:0
    Port:           80/TCP
    Host Port:      0/TCP
    State:          Waiting
      Reason:       CrashLoopBackOff
    Ready:          True
    Restart Count:  2
    Environment:    <none>
    Mounts:         <none>
Conditions:
  Type    Status
  Ready   True 
Volumes:
  v:
    Type:        EmptyDir (a temporary directory that shares a pod's lifetime)
    Medium:      
    SizeLimit:   <unset>
QoS Class:       BestEffort
Node-Selectors:  <none>
Tolerations:     <none>
";
        assert_eq!(writer.finish(), expected);
    }
}
