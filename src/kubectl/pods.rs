//! From what the user names (a pod, a deployment, a service) to pods and their containers.

use serde_json::Value;

use crate::cluster::{Cluster, Query};
use crate::discovery::Resource;
use crate::error::Error;
use crate::selector;
use crate::target::{self, Found};

/// The path of a namespace's pods.
pub fn collection(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// The object a word names: `NAME` (a pod) or `TYPE/NAME`.
pub async fn named(cluster: &Cluster, word: &str) -> Result<Found, Error> {
    match word.split_once('/') {
        None => {
            let resource = pod_resource();
            let object = cluster.get(&resource.path(&cluster.namespace, word)).await?;
            Ok(Found { resource, object })
        }
        Some((kind, name)) => {
            let resource = cluster.discovery().await?.find(kind)?.clone();
            let object = cluster.get(&resource.path(&cluster.namespace, name)).await?;
            Ok(Found { resource, object })
        }
    }
}

/// The row of pods, for which discovery need not be asked.
pub fn pod_resource() -> Resource {
    Resource {
        version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        plural: "pods".to_owned(),
        singular: "pod".to_owned(),
        namespaced: true,
        ..Resource::default()
    }
}

/// The label selector of an object that has pods.
pub fn selector_of(found: &Found) -> Result<String, Error> {
    let spec = &found.object["spec"];
    let text = match found.resource.kind.as_str() {
        "Service" | "ReplicationController" => selector::of_labels(&spec["selector"]),
        _ => selector::of_label_selector(&spec["selector"]),
    };
    if text.is_empty() {
        let (kind, name) = (&found.resource.kind, found.name());
        return Err(Error::usage(match kind.as_str() {
            "Service" => format!("invalid service '{name}': Service is defined without a selector"),
            _ => format!("cannot find the pods of {kind} \"{name}\": it has no selector"),
        }));
    }
    Ok(text)
}

/// The pods of an object: itself if it is a pod, else those its selector finds.
pub async fn of(cluster: &Cluster, found: Found) -> Result<Vec<Found>, Error> {
    if found.resource.is("", "pods") {
        return Ok(vec![found]);
    }
    let query = Query::new().with("labelSelector", &selector_of(&found)?);
    target::list(cluster, &pod_resource(), Some(found.namespace()), &query).await
}

/// The pod to work with of those of an object: a ready one before others, the newest last.
pub async fn one_of(cluster: &Cluster, found: Found) -> Result<Found, Error> {
    let named = found.named();
    let mut pods = of(cluster, found).await?;
    pods.sort_by_key(|pod| {
        let phase = pod.object["status"]["phase"].as_str().unwrap_or_default().to_owned();
        (phase != "Running", !is_ready(&pod.object), k3s_api::object::creation_timestamp(&pod.object))
    });
    pods.into_iter().next().ok_or_else(|| Error::usage(format!("no pods found for {named}")))
}

/// Whether the pod's `Ready` condition is true.
pub fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The names of the containers; init and ephemeral ones too if asked.
pub fn containers(pod: &Value, all: bool) -> Vec<String> {
    let lists: &[&str] = if all { &["initContainers", "containers", "ephemeralContainers"] } else { &["containers"] };
    let names = lists.iter().flat_map(|list| pod["spec"][*list].as_array().into_iter().flatten());
    names.filter_map(|container| container["name"].as_str().map(str::to_owned)).collect()
}

/// The container to work with if none is named: the annotated one, else the first. Says so if there is a choice.
pub fn default_container(pod: &Value, quiet: bool) -> Result<String, Error> {
    let all = containers(pod, false);
    if let Some(name) = k3s_api::object::annotation(pod, "kubectl.kubernetes.io/default-container") {
        if all.iter().any(|own| own == name) {
            return Ok(name.to_owned());
        }
        eprintln!("Default container name \"{name}\" not found in pod {}", k3s_api::object::name(pod));
    }
    let first = all.first().cloned().ok_or_else(|| Error::usage("pod has no containers"))?;
    let every = containers(pod, true);
    if every.len() > 1 && !quiet {
        eprintln!("Defaulted container \"{first}\" out of: {}", describe_containers(pod));
    }
    Ok(first)
}

/// Checks that the pod has the container.
pub fn check_container(pod: &Value, container: &str) -> Result<(), Error> {
    if containers(pod, true).iter().any(|own| own == container) {
        return Ok(());
    }
    Err(Error::usage(format!("container {container} not found in pod {}", k3s_api::object::name(pod))))
}

fn describe_containers(pod: &Value) -> String {
    let mut parts = containers(pod, false);
    let init = pod["spec"]["initContainers"].as_array().into_iter().flatten();
    parts.extend(init.filter_map(|c| c["name"].as_str()).map(|name| format!("{name} (init)")));
    let ephemeral = pod["spec"]["ephemeralContainers"].as_array().into_iter().flatten();
    parts.extend(ephemeral.filter_map(|c| c["name"].as_str()).map(|name| format!("{name} (ephem)")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_annotated_container_is_the_default() {
        let mut pod = json!({"metadata": {"name": "x"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}],
            "initContainers": [{"name": "i"}]}});
        assert_eq!(default_container(&pod, true).unwrap(), "a");
        assert_eq!(describe_containers(&pod), "a, b, i (init)");
        pod["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/default-container": "b"});
        assert_eq!(default_container(&pod, true).unwrap(), "b");
        assert!(check_container(&pod, "i").is_ok());
        assert!(check_container(&pod, "z").unwrap_err().to_string().contains("container z not found in pod x"));
    }

    #[test]
    fn a_service_without_selector_has_no_pods() {
        let resource = Resource { kind: "Service".into(), ..Resource::default() };
        let found = Found { resource, object: json!({"metadata": {"name": "s"}, "spec": {}}) };
        assert!(selector_of(&found).unwrap_err().to_string().contains("Service is defined without a selector"));
    }
}
