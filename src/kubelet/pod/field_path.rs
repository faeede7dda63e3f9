//! What the downward API tells a container about its pod.

use std::collections::BTreeMap;
use std::fmt::Write;

use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};

use crate::node::facts::Facts;
use crate::quantity::{ResourceList, millis, value};

/// Why a field can't be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("unsupported fieldPath: {path}")]
    UnsupportedField { path: String },
    #[error("unsupported container resource: {resource}")]
    UnsupportedResource { resource: String },
    #[error("container {container} not found")]
    NoContainer { container: String },
    #[error("invalid divisor {divisor:?} of resource {resource}")]
    Divisor { resource: String, divisor: String },
}

/// The addresses of a pod and its node, which its status may not show yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Addresses {
    pub pod_ips: Vec<String>,
    pub host_ips: Vec<String>,
}

/// The value of a `fieldRef`.
pub(crate) fn field(pod: &Pod, addresses: &Addresses, selector: &ObjectFieldSelector) -> Result<String, Error> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let path = selector.field_path.as_str();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return Err(Error::UnsupportedField { path: path.into() }),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => format_map(metadata.labels.as_ref()),
        "metadata.annotations" => format_map(metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => addresses.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => addresses.host_ips.join(","),
        "status.podIP" => addresses.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => addresses.pod_ips.join(","),
        _ => return Err(Error::UnsupportedField { path: path.into() }),
    })
}

/// Splits `metadata.labels['key']`.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, key))
}

/// `key="value"` lines in order of the keys, values quoted as Go does.
fn format_map(map: Option<&BTreeMap<String, String>>) -> String {
    let mut lines = Vec::new();
    for (key, value) in map.into_iter().flatten() {
        lines.push(format!("{key}={}", quote(value)));
    }
    lines.join("\n")
}

fn quote(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for c in value.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                // Writing to a String does not fail.
                let _ = write!(quoted, "\\x{:02x}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The value of a `resourceFieldRef`; `own` is the container it stands in, if it does in one. Limits that are not set
/// are those of the node.
pub(crate) fn resource(
    pod: &Pod,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
    facts: &Facts,
) -> Result<String, Error> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        None => own,
        Some(name) => pod
            .spec
            .iter()
            .flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
            .find(|container| container.name == name),
    };
    let container = container.ok_or_else(|| Error::NoContainer { container: named.unwrap_or_default().into() })?;
    let unsupported = || Error::UnsupportedResource { resource: selector.resource.clone() };
    let (which, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|r| r.limits.as_ref());
    let requests = resources.and_then(|r| r.requests.as_ref());
    let of = |list: Option<&ResourceList>| list.and_then(|list| list.get(name)).cloned();
    let quantity = match which {
        "limits" => of(limits).or_else(|| facts.allocatable().get(name).cloned()),
        "requests" => of(requests).or_else(|| of(limits)),
        _ => return Err(unsupported()),
    };
    let divisor = selector.divisor.clone().filter(|divisor| !matches!(divisor.0.as_str(), "" | "0"));
    let bad = || Error::Divisor {
        resource: selector.resource.clone(),
        divisor: divisor.as_ref().map(|divisor| divisor.0.clone()).unwrap_or_default(),
    };
    // CPU is divided in thousandths, everything else in bytes; both round up.
    let (amount, divisor) = match name {
        "cpu" => (
            quantity.as_ref().and_then(millis).unwrap_or(0),
            divisor.as_ref().map_or(Some(1000), millis).ok_or_else(bad)?,
        ),
        "memory" | "ephemeral-storage" => {
            (quantity.as_ref().and_then(value).unwrap_or(0), divisor.as_ref().map_or(Some(1), value).ok_or_else(bad)?)
        }
        name if name.starts_with("hugepages-") => {
            (quantity.as_ref().and_then(value).unwrap_or(0), divisor.as_ref().map_or(Some(1), value).ok_or_else(bad)?)
        }
        _ => return Err(unsupported()),
    };
    if divisor <= 0 {
        return Err(bad());
    }
    Ok((amount / divisor + i64::from(amount % divisor != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "a\"b", "tier": "x"}},
            "spec": {"nodeName": "node", "serviceAccountName": "sa", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m", "memory": "1Mi"}}}]}
        }))
        .unwrap()
    }

    #[test]
    fn fields_have_their_values() {
        let addresses = Addresses { pod_ips: vec!["10.0.0.1".into(), "fd00::1".into()], host_ips: vec![] };
        for (path, expected) in [
            ("metadata.name", "p"),
            ("metadata.labels['tier']", "x"),
            ("metadata.labels['none']", ""),
            ("metadata.labels", "app=\"a\\\"b\"\ntier=\"x\""),
            ("spec.nodeName", "node"),
            ("spec.serviceAccountName", "sa"),
            ("status.podIP", "10.0.0.1"),
            ("status.podIPs", "10.0.0.1,fd00::1"),
        ] {
            let selector = ObjectFieldSelector { field_path: path.into(), api_version: None };
            assert_eq!(field(&pod(), &addresses, &selector).unwrap(), expected, "{path}");
        }
        let selector = ObjectFieldSelector { field_path: "spec.containers".into(), api_version: None };
        assert!(field(&pod(), &addresses, &selector).is_err());
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let facts = Facts::for_tests();
        for (name, divisor, expected) in
            [("limits.cpu", None, "2"), ("limits.cpu", Some("1m"), "1500"), ("requests.memory", Some("1Ki"), "1024")]
        {
            let selector = ResourceFieldSelector {
                container_name: Some("c".into()),
                resource: name.into(),
                divisor: divisor.map(|divisor| k8s_openapi::apimachinery::pkg::api::resource::Quantity(divisor.into())),
            };
            assert_eq!(resource(&pod(), None, &selector, &facts).unwrap(), expected, "{name}");
        }
    }
}
