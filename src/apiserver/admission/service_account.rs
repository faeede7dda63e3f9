//! Every pod runs as a service account, and its containers find the account's token, the cluster's CA and the name of
//! their namespace in a projected volume.

use async_trait::async_trait;
use k3s_api::object::{self, annotation, section_mut, text};
use k3s_api::status::Status;
use serde_json::{Value, json};

use super::{Attributes, Operation, Plugin};
use crate::registry::known;

pub struct ServiceAccount;

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// An hour and seven seconds: by the odd number Kubernetes recognizes tokens it extends for old clients.
const EXPIRATION_SECONDS: u64 = 3607;

#[async_trait]
impl Plugin for ServiceAccount {
    async fn admit(&self, at: &Attributes<'_>, pod: &mut Value, _: Option<&Value>) -> Result<(), Status> {
        if !at.is("", "pods") || at.operation != Operation::Create {
            return Ok(());
        }
        if annotation(pod, MIRROR).is_some() {
            return refuse_mirror(at, pod);
        }
        let name = text(pod, &["spec", "serviceAccountName"]).filter(|name| !name.is_empty()).unwrap_or("default");
        let name = name.to_owned();
        let Some(account) = at.registry.get(known::service_accounts(), at.namespace, &name).await? else {
            let namespace = at.namespace;
            let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(at.forbidden(pod, why));
        };
        let account = account.value()?;
        let automount = |object: &Value| object.get("automountServiceAccountToken").and_then(Value::as_bool);
        let mounts = pod.get("spec").and_then(automount).or_else(|| automount(&account)).unwrap_or(true);
        let spec = section_mut(pod, "spec");
        spec.insert("serviceAccountName".to_owned(), name.clone().into());
        spec.insert("serviceAccount".to_owned(), name.into());
        let has_pull_secrets = spec.get("imagePullSecrets").and_then(Value::as_array).is_some_and(|s| !s.is_empty());
        if let Some(secrets) = account.get("imagePullSecrets").filter(|_| !has_pull_secrets) {
            spec.insert("imagePullSecrets".to_owned(), secrets.clone());
        }
        if mounts {
            mount_token(spec);
        }
        Ok(())
    }
}

/// A mirror pod shows what a kubelet runs of its own; it has no account.
fn refuse_mirror(at: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    if text(pod, &["spec", "serviceAccountName"]).is_some_and(|name| !name.is_empty()) {
        return Err(at.forbidden(pod, "a mirror pod may not reference service accounts"));
    }
    let volumes = object::at(pod, &["spec", "volumes"]).and_then(Value::as_array);
    let mut sources = volumes.into_iter().flatten().filter_map(|volume| volume.get("projected")?.get("sources"));
    let projects_token = sources.any(|sources| {
        sources.as_array().into_iter().flatten().any(|source| source.get("serviceAccountToken").is_some())
    });
    if projects_token {
        return Err(at.forbidden(pod, "a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

fn mount_token(spec: &mut serde_json::Map<String, Value>) {
    let volume = object::generated_name("kube-api-access-");
    let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
    let mut mounted = false;
    for containers in ["initContainers", "containers"] {
        for container in spec.get_mut(containers).and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(container) = container.as_object_mut() else { continue };
            let mounts = container.entry("volumeMounts").or_insert(Value::Null);
            if !mounts.is_array() {
                *mounts = Value::Array(Vec::new());
            }
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if !mounts.iter().any(|mount| mount.get("mountPath").and_then(Value::as_str) == Some(MOUNT_PATH)) {
                mounts.push(mount.clone());
                mounted = true;
            }
        }
    }
    if mounted {
        let volumes = spec.entry("volumes").or_insert(Value::Null);
        if !volumes.is_array() {
            *volumes = Value::Array(Vec::new());
        }
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(token_volume(&volume));
        }
    }
}

fn token_volume(name: &str) -> Value {
    json!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
                ]}},
            ],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_get_the_token_unless_they_mount_something_there() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]},
        ]}});
        mount_token(section_mut(&mut pod, "spec"));
        let spec = &pod["spec"];
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], spec["volumes"][0]["name"]);
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().map(Vec::len), Some(1));
        assert_eq!(spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["path"], "token");
    }
}
