//! Persistent volumes, claims and storage classes.

use serde_json::Value;

use super::{Writer, items, or, text};
use crate::cluster::{Cluster, Query};
use crate::error::Error;
use crate::line;
use crate::target::CHUNK;

/// `RWO,ROX`
fn access_modes(modes: &Value) -> String {
    let short = |mode: &Value| match mode.as_str().unwrap_or_default() {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "",
    };
    items(modes).map(short).collect::<Vec<_>>().join(",")
}

fn status(object: &Value) -> String {
    match &object["metadata"]["deletionTimestamp"] {
        Value::Null => text(&object["status"]["phase"]),
        deleted => format!("Terminating (lasts {})", super::age(deleted)),
    }
}

fn finalizers(object: &Value) -> String {
    format!("[{}]", k3s_api::object::finalizers(object).collect::<Vec<_>>().join(" "))
}

pub async fn claim(writer: &mut Writer, cluster: &Cluster, object: &Value) -> Result<(), Error> {
    let spec = &object["spec"];
    let (name, namespace) = (k3s_api::object::name(object), k3s_api::object::namespace(object));
    line!(writer, 0, "Name:\t{name}");
    line!(writer, 0, "Namespace:\t{namespace}");
    line!(writer, 0, "StorageClass:\t{}", text(&spec["storageClassName"]));
    line!(writer, 0, "Status:\t{}", status(object));
    line!(writer, 0, "Volume:\t{}", text(&spec["volumeName"]));
    writer.map(0, "Labels:", k3s_api::object::labels(object));
    writer.annotations(object);
    line!(writer, 0, "Finalizers:\t{}", finalizers(object));
    let bound = !text(&spec["volumeName"]).is_empty();
    line!(
        writer,
        0,
        "Capacity:\t{}",
        if bound { text(&object["status"]["capacity"]["storage"]) } else { String::new() }
    );
    line!(
        writer,
        0,
        "Access Modes:\t{}",
        if bound { access_modes(&object["status"]["accessModes"]) } else { String::new() }
    );
    line!(writer, 0, "VolumeMode:\t{}", text(&spec["volumeMode"]));
    let pods = cluster.list(&format!("/api/v1/namespaces/{namespace}/pods"), &Query::new(), CHUNK).await?;
    let uses = |pod: &&Value| {
        items(&pod["spec"]["volumes"]).any(|volume| volume["persistentVolumeClaim"]["claimName"] == name)
    };
    let users: Vec<&str> = items(&pods["items"]).filter(uses).map(k3s_api::object::name).collect();
    line!(writer, 0, "Used By:\t{}", users.first().unwrap_or(&"<none>"));
    for user in users.iter().skip(1) {
        line!(writer, 0, "\t{user}");
    }
    Ok(())
}

pub fn volume(writer: &mut Writer, object: &Value) {
    let spec = &object["spec"];
    writer.head(object);
    line!(writer, 0, "Finalizers:\t{}", finalizers(object));
    line!(writer, 0, "StorageClass:\t{}", text(&spec["storageClassName"]));
    line!(writer, 0, "Status:\t{}", status(object));
    let claim = &spec["claimRef"];
    let claim = if claim.is_object() {
        format!("{}/{}", text(&claim["namespace"]), text(&claim["name"]))
    } else {
        String::new()
    };
    line!(writer, 0, "Claim:\t{claim}");
    line!(writer, 0, "Reclaim Policy:\t{}", text(&spec["persistentVolumeReclaimPolicy"]));
    line!(writer, 0, "Access Modes:\t{}", access_modes(&spec["accessModes"]));
    line!(writer, 0, "VolumeMode:\t{}", text(&spec["volumeMode"]));
    line!(writer, 0, "Capacity:\t{}", text(&spec["capacity"]["storage"]));
    if items(&spec["nodeAffinity"]["required"]["nodeSelectorTerms"]).count() == 0 {
        line!(writer, 0, "Node Affinity:\t<none>");
    } else {
        line!(writer, 0, "Node Affinity:\n  Required Terms:");
        for (index, term) in items(&spec["nodeAffinity"]["required"]["nodeSelectorTerms"]).enumerate() {
            let expressions = items(&term["matchExpressions"]).map(|expression| {
                let operator = text(&expression["operator"]).to_lowercase();
                format!("{} {operator} [{}]", text(&expression["key"]), super::joined(&expression["values"], ", "))
            });
            line!(writer, 2, "Term {index}:\t{}", expressions.collect::<Vec<_>>().join(", "));
        }
    }
    line!(writer, 0, "Message:\t{}", text(&object["status"]["message"]));
    line!(writer, 0, "Source:");
    for (field, title) in [
        ("hostPath", "HostPath (bare host directory volume)"),
        ("local", "LocalVolume (a persistent volume backed by local storage on a node)"),
        ("csi", "CSI (a Container Storage Interface (CSI) volume source)"),
    ] {
        if spec[field].is_object() {
            line!(writer, 1, "Type:\t{title}");
            for (key, value) in spec[field].as_object().into_iter().flatten() {
                line!(writer, 1, "{key}:\t{}", text(value));
            }
        }
    }
}

pub fn class(writer: &mut Writer, object: &Value) {
    line!(writer, 0, "Name:\t{}", k3s_api::object::name(object));
    let default = k3s_api::object::annotation(object, "storageclass.kubernetes.io/is-default-class") == Some("true");
    line!(writer, 0, "IsDefaultClass:\t{}", if default { "Yes" } else { "No" });
    writer.annotations(object);
    line!(writer, 0, "Provisioner:\t{}", text(&object["provisioner"]));
    writer.map(0, "Parameters:", object["parameters"].as_object());
    line!(writer, 0, "AllowVolumeExpansion:\t{}", or(&object["allowVolumeExpansion"], "<unset>"));
    let options = super::joined(&object["mountOptions"], "\n\t");
    line!(writer, 0, "MountOptions:\t{}", if options.is_empty() { "<none>" } else { &options });
    line!(writer, 0, "ReclaimPolicy:\t{}", or(&object["reclaimPolicy"], "<unset>"));
    line!(writer, 0, "VolumeBindingMode:\t{}", or(&object["volumeBindingMode"], "<unset>"));
}
