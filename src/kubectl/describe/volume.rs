//! Volumes of a pod.

use serde_json::Value;

use super::{Writer, items, or, text};
use crate::line;

/// `Volumes:` and what each is.
pub fn describe(writer: &mut Writer, level: usize, volumes: &Value) {
    if items(volumes).count() == 0 {
        return line!(writer, level, "Volumes:\t<none>");
    }
    line!(writer, level, "Volumes:");
    for volume in items(volumes) {
        // In a template kubectl indents by one blank only.
        line!(writer, 1, "{}{}:", " ".repeat(level), text(&volume["name"]));
        one(writer, 2, volume);
    }
}

fn one(writer: &mut Writer, level: usize, volume: &Value) {
    let Some((kind, source)) =
        volume.as_object().into_iter().flatten().find(|(key, value)| *key != "name" && value.is_object())
    else {
        return line!(writer, level, "<unknown>");
    };
    let says = |writer: &mut Writer, title: &str, what: &str| line!(writer, level, "Type:\t{title} ({what})");
    match kind.as_str() {
        "hostPath" => {
            says(writer, "HostPath", "bare host directory volume");
            line!(writer, level, "Path:\t{}", text(&source["path"]));
            line!(writer, level, "HostPathType:\t{}", text(&source["type"]));
        }
        "emptyDir" => {
            says(writer, "EmptyDir", "a temporary directory that shares a pod's lifetime");
            line!(writer, level, "Medium:\t{}", text(&source["medium"]));
            line!(writer, level, "SizeLimit:\t{}", or(&source["sizeLimit"], "<unset>"));
        }
        "configMap" => {
            says(writer, "ConfigMap", "a volume populated by a ConfigMap");
            line!(writer, level, "Name:\t{}", text(&source["name"]));
            line!(writer, level, "Optional:\t{}", source["optional"] == true);
        }
        "secret" => {
            says(writer, "Secret", "a volume populated by a Secret");
            line!(writer, level, "SecretName:\t{}", text(&source["secretName"]));
            line!(writer, level, "Optional:\t{}", source["optional"] == true);
        }
        "persistentVolumeClaim" => {
            says(writer, "PersistentVolumeClaim", "a reference to a PersistentVolumeClaim in the same namespace");
            line!(writer, level, "ClaimName:\t{}", text(&source["claimName"]));
            line!(writer, level, "ReadOnly:\t{}", source["readOnly"] == true);
        }
        "downwardAPI" => {
            says(writer, "DownwardAPI", "a volume populated by information about the pod");
            line!(writer, level, "Items:");
            for item in items(&source["items"]) {
                line!(writer, level + 1, "{} -> {}", text(&item["fieldRef"]["fieldPath"]), text(&item["path"]));
            }
        }
        "projected" => {
            says(writer, "Projected", "a volume that contains injected data from multiple sources");
            for part in items(&source["sources"]) {
                if part["secret"].is_object() {
                    line!(writer, level, "SecretName:\t{}", text(&part["secret"]["name"]));
                    line!(writer, level, "Optional:\t{}", part["secret"]["optional"] == true);
                } else if part["downwardAPI"].is_object() {
                    line!(writer, level, "DownwardAPI:\ttrue");
                } else if part["configMap"].is_object() {
                    line!(writer, level, "ConfigMapName:\t{}", text(&part["configMap"]["name"]));
                    line!(writer, level, "Optional:\t{}", part["configMap"]["optional"] == true);
                } else if part["serviceAccountToken"].is_object() {
                    let seconds = part["serviceAccountToken"]["expirationSeconds"].as_i64().unwrap_or(3600);
                    line!(writer, level, "TokenExpirationSeconds:\t{seconds}");
                }
            }
        }
        other => {
            line!(writer, level, "Type:\t{other}");
            for (key, value) in source.as_object().into_iter().flatten() {
                line!(writer, level, "{key}:\t{}", text(value));
            }
        }
    }
}
