//! Containers, of pods and of pod templates.

use serde_json::Value;

use super::{Writer, items, joined, or, text, time, volume};
use crate::line;

/// A pod template, as below `Pod Template:`.
pub fn template(writer: &mut Writer, template: &Value) {
    writer.map(1, "Labels:", template["metadata"]["labels"].as_object());
    if template["metadata"]["annotations"].as_object().is_some_and(|map| !map.is_empty()) {
        let annotations = template["metadata"]["annotations"].as_object().into_iter().flatten();
        for (index, (key, value)) in annotations.enumerate() {
            line!(writer, 1, "{}\t{key}: {}", if index == 0 { "Annotations:" } else { "" }, text(value));
        }
    }
    let spec = &template["spec"];
    if !text(&spec["serviceAccountName"]).is_empty() {
        line!(writer, 1, "Service Account:\t{}", text(&spec["serviceAccountName"]));
    }
    if spec["initContainers"].as_array().is_some_and(|list| !list.is_empty()) {
        containers(writer, 1, "Init Containers", &spec["initContainers"], &Value::Null);
    }
    containers(writer, 1, "Containers", &spec["containers"], &Value::Null);
    volume::describe(writer, 1, &spec["volumes"]);
    if !text(&spec["priorityClassName"]).is_empty() {
        line!(writer, 1, "Priority Class Name:\t{}", text(&spec["priorityClassName"]));
    }
    writer.map(1, "Node-Selectors:", spec["nodeSelector"].as_object());
    tolerations(writer, 1, &spec["tolerations"]);
}

/// The containers of a list; with the statuses of a pod their state too.
pub fn containers(writer: &mut Writer, level: usize, title: &str, list: &Value, statuses: &Value) {
    line!(writer, level, "{title}:");
    for container in items(list) {
        let name = text(&container["name"]);
        let status = items(statuses).find(|status| status["name"] == container["name"]);
        let name = if name.is_empty() { "<none>" } else { &name };
        // In a template kubectl indents by one blank only.
        line!(writer, 1, "{}{name}:", " ".repeat(level));
        basics(writer, 2, container, status);
        command(writer, 2, "Command", &container["command"]);
        command(writer, 2, "Args", &container["args"]);
        if let Some(status) = status {
            state(writer, 2, "State", &status["state"]);
            if status["lastState"].as_object().is_some_and(|state| !state.is_empty()) {
                state(writer, 2, "Last State", &status["lastState"]);
            }
            line!(writer, 2, "Ready:\t{}", if status["ready"] == true { "True" } else { "False" });
            line!(writer, 2, "Restart Count:\t{}", status["restartCount"].as_i64().unwrap_or(0));
        }
        for (title, field) in [("Limits", "limits"), ("Requests", "requests")] {
            if let Some(resources) = container["resources"][field].as_object().filter(|map| !map.is_empty()) {
                line!(writer, 2, "{title}:");
                for (name, quantity) in resources {
                    line!(writer, 3, "{name}:\t{}", text(quantity));
                }
            }
        }
        for (title, field) in
            [("Liveness", "livenessProbe"), ("Readiness", "readinessProbe"), ("Startup", "startupProbe")]
        {
            if container[field].is_object() {
                line!(writer, 2, "{title}:\t{}", probe(&container[field]));
            }
        }
        environment(writer, 2, container);
        mounts(writer, 2, container);
    }
}

fn basics(writer: &mut Writer, level: usize, container: &Value, status: Option<&Value>) {
    if let Some(status) = status {
        line!(writer, level, "Container ID:\t{}", text(&status["containerID"]));
    }
    line!(writer, level, "Image:\t{}", text(&container["image"]));
    if let Some(status) = status {
        line!(writer, level, "Image ID:\t{}", text(&status["imageID"]));
    }
    let ports = |field: &str| {
        let ports = items(&container["ports"]);
        let texts: Vec<String> = ports
            .map(|port| {
                let name = text(&port["name"]);
                let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
                format!("{}/{}{name}", port[field].as_i64().unwrap_or(0), or(&port["protocol"], "TCP"))
            })
            .collect();
        if texts.is_empty() { "<none>".to_owned() } else { texts.join(", ") }
    };
    let plural = if items(&container["ports"]).count() > 1 { "s" } else { "" };
    line!(writer, level, "Port{plural}:\t{}", ports("containerPort"));
    line!(writer, level, "Host Port{plural}:\t{}", ports("hostPort"));
}

fn command(writer: &mut Writer, level: usize, title: &str, words: &Value) {
    let mut words = items(words).peekable();
    if words.peek().is_none() {
        return;
    }
    line!(writer, level, "{title}:");
    for word in words {
        for part in text(word).lines() {
            line!(writer, level + 1, "{part}");
        }
    }
}

fn state(writer: &mut Writer, level: usize, title: &str, state: &Value) {
    if let Some(running) = state.get("running") {
        line!(writer, level, "{title}:\tRunning");
        line!(writer, level + 1, "Started:\t{}", time(&running["startedAt"]));
    } else if let Some(waiting) = state.get("waiting") {
        line!(writer, level, "{title}:\tWaiting");
        for (label, field) in [("Reason", "reason"), ("Message", "message")] {
            if !text(&waiting[field]).is_empty() && (field == "reason" || title == "Last State") {
                line!(writer, level + 1, "{label}:\t{}", text(&waiting[field]));
            }
        }
    } else if let Some(ended) = state.get("terminated") {
        line!(writer, level, "{title}:\tTerminated");
        for (label, field) in [("Reason", "reason"), ("Message", "message")] {
            if !text(&ended[field]).is_empty() {
                line!(writer, level + 1, "{label}:\t{}", text(&ended[field]));
            }
        }
        line!(writer, level + 1, "Exit Code:\t{}", ended["exitCode"].as_i64().unwrap_or(0));
        if let Some(signal) = ended["signal"].as_i64().filter(|signal| *signal > 0) {
            line!(writer, level + 1, "Signal:\t{signal}");
        }
        line!(writer, level + 1, "Started:\t{}", time(&ended["startedAt"]));
        line!(writer, level + 1, "Finished:\t{}", time(&ended["finishedAt"]));
    } else {
        line!(writer, level, "{title}:\tWaiting");
    }
}

/// `http-get http://:80/ delay=0s timeout=1s period=10s #success=1 #failure=3`
fn probe(probe: &Value) -> String {
    let number = |field: &str| probe[field].as_i64().unwrap_or(0);
    let attributes = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        number("initialDelaySeconds"),
        number("timeoutSeconds"),
        number("periodSeconds"),
        number("successThreshold"),
        number("failureThreshold")
    );
    let how = if probe["exec"].is_object() {
        format!("exec [{}]", joined(&probe["exec"]["command"], " "))
    } else if probe["httpGet"].is_object() {
        let get = &probe["httpGet"];
        let scheme = or(&get["scheme"], "http").to_lowercase();
        let path = text(&get["path"]);
        let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
        format!("http-get {scheme}://{}:{}{slash}{path}", text(&get["host"]), text(&get["port"]))
    } else if probe["tcpSocket"].is_object() {
        format!("tcp-socket {}:{}", text(&probe["tcpSocket"]["host"]), text(&probe["tcpSocket"]["port"]))
    } else if probe["grpc"].is_object() {
        format!("grpc <pod>:{} {}", text(&probe["grpc"]["port"]), text(&probe["grpc"]["service"]))
    } else {
        "unknown".to_owned()
    };
    format!("{how} {attributes}")
}

fn environment(writer: &mut Writer, level: usize, container: &Value) {
    if items(&container["envFrom"]).count() > 0 {
        line!(writer, level, "Environment Variables from:");
        for source in items(&container["envFrom"]) {
            for (field, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
                if source[field].is_object() {
                    let optional = source[field]["optional"] == true;
                    let prefix = text(&source["prefix"]);
                    let prefix = if prefix.is_empty() { prefix } else { format!(" with prefix '{prefix}'") };
                    line!(writer, level + 1, "{}\t{kind}{prefix}\tOptional: {optional}", text(&source[field]["name"]));
                }
            }
        }
    }
    if items(&container["env"]).count() == 0 {
        return line!(writer, level, "Environment:\t<none>");
    }
    line!(writer, level, "Environment:");
    for variable in items(&container["env"]) {
        let name = text(&variable["name"]);
        let from = &variable["valueFrom"];
        let value = if from["fieldRef"].is_object() {
            format!(" ({}:{})", or(&from["fieldRef"]["apiVersion"], "v1"), text(&from["fieldRef"]["fieldPath"]))
        } else if from["resourceFieldRef"].is_object() {
            format!(" ({})", text(&from["resourceFieldRef"]["resource"]))
        } else if from["secretKeyRef"].is_object() {
            let key = &from["secretKeyRef"];
            format!(
                "<set to the key '{}' in secret '{}'>\tOptional: {}",
                text(&key["key"]),
                text(&key["name"]),
                key["optional"] == true
            )
        } else if from["configMapKeyRef"].is_object() {
            let key = &from["configMapKeyRef"];
            format!(
                "<set to the key '{}' of config map '{}'>\tOptional: {}",
                text(&key["key"]),
                text(&key["name"]),
                key["optional"] == true
            )
        } else {
            text(&variable["value"]).replace('\n', "\n\t      ")
        };
        line!(writer, level + 1, "{name}:\t{value}");
    }
}

fn mounts(writer: &mut Writer, level: usize, container: &Value) {
    if items(&container["volumeMounts"]).count() == 0 {
        line!(writer, level, "Mounts:\t<none>");
    } else {
        line!(writer, level, "Mounts:");
    }
    let mut mounts: Vec<&Value> = items(&container["volumeMounts"]).collect();
    mounts.sort_by_key(|mount| text(&mount["mountPath"]));
    for mount in mounts {
        let mut flags = vec![if mount["readOnly"] == true { "ro".to_owned() } else { "rw".to_owned() }];
        if !text(&mount["subPath"]).is_empty() {
            flags.push(format!("path=\"{}\"", text(&mount["subPath"])));
        }
        line!(writer, level + 1, "{} from {} ({})", text(&mount["mountPath"]), text(&mount["name"]), flags.join(","));
    }
}

/// The tolerations of a pod.
pub fn tolerations(writer: &mut Writer, level: usize, tolerations: &Value) {
    let mut title = "Tolerations:";
    for toleration in items(tolerations) {
        let mut cell = text(&toleration["key"]);
        if !text(&toleration["value"]).is_empty() {
            cell = format!("{cell}={}", text(&toleration["value"]));
        }
        if !text(&toleration["effect"]).is_empty() {
            cell = format!("{cell}:{}", text(&toleration["effect"]));
        }
        if toleration["operator"] == "Exists" && text(&toleration["value"]).is_empty() {
            cell = if text(&toleration["key"]).is_empty() && text(&toleration["effect"]).is_empty() {
                "op=Exists".to_owned()
            } else {
                format!("{cell} op=Exists")
            };
        }
        if let Some(seconds) = toleration["tolerationSeconds"].as_i64() {
            cell = format!("{cell} for {seconds}s");
        }
        line!(writer, level, "{title}\t{cell}");
        title = "";
    }
    if !title.is_empty() {
        line!(writer, level, "{title}\t<none>");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_probe_is_a_line() {
        let http = json!({"httpGet": {"path": "/x", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
            "successThreshold": 1, "failureThreshold": 3});
        assert_eq!(probe(&http), "http-get http://:80/x delay=0s timeout=1s period=10s #success=1 #failure=3");
    }

    #[test]
    fn tolerations_are_lines() {
        let mut writer = Writer::default();
        let list = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            {"operator": "Exists"}, {"key": "a", "operator": "Equal", "value": "b", "effect": "NoSchedule"}]);
        tolerations(&mut writer, 0, &list);
        assert_eq!(
            writer.finish(),
            "Tolerations:  node.kubernetes.io/not-ready:NoExecute op=Exists for 300s\n              op=Exists\n              a=b:NoSchedule\n"
        );
    }
}
