//! Containers.

use super::{probe, resources, security};
use crate::validation::names;
use crate::validation::node::{Errors, Node};
use crate::validation::{FieldError, Verbatim};

/// The containers of a pod.
pub fn containers(spec: &Node, errors: &mut Errors) {
    let list = spec.field("containers");
    if list.is_empty() {
        list.required(errors, "");
        return;
    }
    for container in list.items() {
        common(&container, spec, errors);
        lifecycle(&container, errors);
        probes(&container, errors);
    }
    names_differ(spec, &list, errors);
    host_ports_differ(&list, errors);
    if spec.field("hostNetwork").bool() {
        host_network_ports(&list, errors);
    }
}

/// Those that run before them, or beside them from the start.
pub fn init_containers(spec: &Node, errors: &mut Errors) {
    let list = spec.field("initContainers");
    for container in list.items() {
        common(&container, spec, errors);
        let policy = container.field("restartPolicy");
        if policy.text() == "Always" {
            lifecycle(&container, errors);
            probes(&container, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            let field = container.field(field);
            if field.is_set() {
                field.forbidden(errors, "may not be set for init containers without restartPolicy=Always");
            }
        }
    }
    names_differ(spec, &list, errors);
}

/// Those that are put into a running pod.
pub fn ephemeral_containers(spec: &Node, errors: &mut Errors) {
    let list = spec.field("ephemeralContainers");
    for container in list.items() {
        common(&container, spec, errors);
        let target = container.field("targetContainerName");
        let known = |list: &str| spec.field(list).items().any(|other| other.field("name").text() == target.text());
        if !target.is_empty() && !known("containers") && !known("initContainers") {
            errors.push(FieldError::not_found(&target.path, target.text()));
        }
        for field in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            let field = container.field(field);
            if !field.is_empty() {
                field.forbidden(errors, "field not allowed in ephemeral containers");
            }
        }
        if !container.field("resources").is_empty() {
            container.field("resources").forbidden(errors, "cannot be set for an Ephemeral Container");
        }
    }
    names_differ(spec, &list, errors);
}

/// A name is taken once in a pod, whatever the kind of container.
fn names_differ(spec: &Node, list: &Node, errors: &mut Errors) {
    let earlier: &[&str] = match list.path.name() {
        "containers" => &[],
        "initContainers" => &["containers"],
        _ => &["containers", "initContainers"],
    };
    for (index, container) in list.items().enumerate() {
        let name = container.field("name");
        let before = list.items().take(index).any(|other| other.field("name").text() == name.text());
        let elsewhere =
            earlier.iter().any(|list| spec.field(list).items().any(|other| other.field("name").text() == name.text()));
        if !name.is_empty() && (before || elsewhere) {
            errors.push(FieldError::duplicate(&name.path, name.text()));
        }
    }
}

fn common(container: &Node, spec: &Node, errors: &mut Errors) {
    let (name, image) = (container.field("name"), container.field("image"));
    if name.require(errors) {
        name.invalid_text(errors, names::dns1123_label(name.text()));
    }
    if image.text().trim() != image.text() {
        image.invalid(errors, "must not have leading or trailing whitespace");
    }
    if image.is_empty() {
        image.required(errors, "");
    }
    let policy = container.field("terminationMessagePolicy");
    match policy.text() {
        "" => policy.required(errors, ""),
        _ => policy.one_of(errors, &["FallbackToLogsOnError", "File"]),
    }
    ports(&container.field("ports"), errors);
    env(&container.field("env"), errors);
    env_from(&container.field("envFrom"), errors);
    volume_mounts(&container.field("volumeMounts"), &spec.field("volumes"), errors);
    volume_devices(&container.field("volumeDevices"), &spec.field("volumes"), errors);
    let pull = container.field("imagePullPolicy");
    match pull.text() {
        "" => pull.required(errors, ""),
        _ => pull.one_of(errors, &["Always", "IfNotPresent", "Never"]),
    }
    resources::requirements(&container.field("resources"), errors);
    security::container(&container.field("securityContext"), spec.field("hostUsers").value.as_bool(), errors);
}

fn ports(ports: &Node, errors: &mut Errors) {
    for (index, port) in ports.items().enumerate() {
        let (name, number, host) = (port.field("name"), port.field("containerPort"), port.field("hostPort"));
        if !name.is_empty() {
            let found = names::port_name(name.text());
            if found.is_empty() {
                if ports.items().take(index).any(|other| other.field("name").text() == name.text()) {
                    name.duplicate(errors);
                }
            } else {
                name.invalid_text(errors, found);
            }
        }
        match number.int().unwrap_or(0) {
            0 => number.required(errors, ""),
            value => names::port_number(value).into_iter().for_each(|message| number.invalid(errors, message)),
        }
        if let Some(value) = host.int().filter(|value| *value != 0) {
            names::port_number(value).into_iter().for_each(|message| host.invalid(errors, message));
        }
        protocol(&port.field("protocol"), errors);
    }
}

/// `TCP`, `UDP` or `SCTP`.
pub fn protocol(protocol: &Node, errors: &mut Errors) {
    match protocol.text() {
        "" => protocol.required(errors, ""),
        _ => protocol.one_of(errors, &["SCTP", "TCP", "UDP"]),
    }
}

/// A port of the host belongs to one container, per protocol and address.
fn host_ports_differ(list: &Node, errors: &mut Errors) {
    let mut taken: Vec<String> = Vec::new();
    for container in list.items() {
        for port in container.field("ports").items() {
            let host = port.field("hostPort");
            let Some(number) = host.int().filter(|number| *number != 0) else { continue };
            let key = format!("{}/{}/{number}", port.field("protocol").text(), port.field("hostIP").text());
            if taken.contains(&key) {
                errors.push(FieldError::duplicate(&host.path, &key));
            } else {
                taken.push(key);
            }
        }
    }
}

fn host_network_ports(list: &Node, errors: &mut Errors) {
    for container in list.items() {
        for port in container.field("ports").items() {
            let host = port.field("hostPort");
            if host.int().unwrap_or(0) != port.field("containerPort").int().unwrap_or(0) {
                let shown = Verbatim(host.int().unwrap_or(0).to_string());
                host.invalid_as(shown, errors, "must match `containerPort` when `hostNetwork` is true");
            }
        }
    }
}

/// Fields of the pod that a variable can hold.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

fn env(env: &Node, errors: &mut Errors) {
    for variable in env.items() {
        let name = variable.field("name");
        match name.is_empty() {
            true => name.required(errors, ""),
            false => name.invalid_text(errors, names::env_var_name(name.text())),
        }
        let source = variable.field("valueFrom");
        if !source.is_set() {
            continue;
        }
        let kinds = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
        let count = kinds.iter().filter(|kind| source.field(kind).is_set()).count();
        field_ref(&source.field("fieldRef"), &ENV_FIELDS, errors);
        let resource = source.field("resourceFieldRef");
        if resource.is_set() {
            resource.field("resource").require(errors);
        }
        for kind in ["configMapKeyRef", "secretKeyRef"] {
            let reference = source.field(kind);
            if reference.is_set() {
                let key = reference.field("key");
                match key.is_empty() {
                    true => key.required(errors, ""),
                    false => key.invalid_text(errors, names::config_map_key(key.text())),
                }
            }
        }
        let message = match (count, variable.field("value").is_empty()) {
            (0, _) => {
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            }
            (_, false) => "may not be specified when `value` is not empty",
            (1, _) => continue,
            _ => "may not have more than one field specified at a time",
        };
        source.invalid_as("", errors, message);
    }
}

/// A reference to a field of the pod, out of those that can be had there.
pub fn field_ref(reference: &Node, supported: &[&str], errors: &mut Errors) {
    if !reference.is_set() {
        return;
    }
    let (version, path) = (reference.field("apiVersion"), reference.field("fieldPath"));
    if !version.require(errors) || !path.require(errors) {
        return;
    }
    if let Some((prefix, key)) = path.text().strip_suffix("']").and_then(|text| text.split_once("['")) {
        match prefix {
            "metadata.annotations" => path.invalid_text(errors, names::qualified_name(&key.to_lowercase())),
            "metadata.labels" => path.invalid_text(errors, names::qualified_name(key)),
            _ => path.invalid(errors, format!("error converting fieldPath: {prefix:?} does not support subscript")),
        }
        return;
    }
    let known = [
        "metadata.annotations",
        "metadata.labels",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.hostNetwork",
        "status.phase",
        "status.nominatedNodeName",
    ];
    match path.text() {
        text if supported.contains(&text) => {}
        text if known.contains(&text) || ENV_FIELDS.contains(&text) => path.not_supported(errors, supported),
        text => path.invalid(errors, format!("error converting fieldPath: field label not supported: {text}")),
    }
}

fn env_from(list: &Node, errors: &mut Errors) {
    for source in list.items() {
        let prefix = source.field("prefix");
        if !prefix.is_empty() {
            prefix.invalid_text(errors, names::env_var_name(prefix.text()));
        }
        let kinds = ["configMapRef", "secretRef"];
        let count = kinds.iter().filter(|kind| source.field(kind).is_set()).count();
        for kind in kinds {
            if source.field(kind).is_set() {
                source.field(kind).field("name").require(errors);
            }
        }
        match count {
            0 => list.invalid_as("", errors, "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => list.invalid_as("", errors, "may not have more than one field specified at a time"),
        }
    }
}

fn volume_mounts(mounts: &Node, volumes: &Node, errors: &mut Errors) {
    for (index, mount) in mounts.items().enumerate() {
        let (name, path) = (mount.field("name"), mount.field("mountPath"));
        name.require(errors);
        if !volumes.items().any(|volume| volume.field("name").text() == name.text()) {
            errors.push(FieldError::not_found(&name.path, name.text()));
        }
        path.require(errors);
        if mounts.items().take(index).any(|other| other.field("mountPath").text() == path.text()) {
            path.invalid(errors, "must be unique");
        }
        let (sub_path, expression) = (mount.field("subPath"), mount.field("subPathExpr"));
        if !expression.is_empty() && !sub_path.is_empty() {
            expression.invalid(errors, "subPathExpr and subPath are mutually exclusive");
        }
        for (field, node) in [("subPath", &sub_path), ("subPathExpr", &expression)] {
            descending_path(node, &mounts.field(field), errors);
        }
        let propagation = mount.field("mountPropagation");
        if propagation.is_set() {
            propagation.one_of(errors, &["Bidirectional", "HostToContainer", "None"]);
        }
    }
}

/// A path below a volume; Kubernetes tells it at the list, not at its element.
fn descending_path(path: &Node, told_at: &Node, errors: &mut Errors) {
    let text = path.text();
    if text.starts_with('/') {
        errors.push(FieldError::invalid(&told_at.path, text, "must be a relative path"));
    }
    if text.split('/').any(|step| step == "..") {
        errors.push(FieldError::invalid(&told_at.path, text, "must not contain '..'"));
    }
}

fn volume_devices(devices: &Node, volumes: &Node, errors: &mut Errors) {
    for device in devices.items() {
        let (name, path) = (device.field("name"), device.field("devicePath"));
        name.require(errors);
        if !volumes.items().any(|volume| volume.field("name").text() == name.text()) {
            errors.push(FieldError::not_found(&name.path, name.text()));
        }
        path.require(errors);
        if path.text().split('/').any(|step| step == "..") {
            path.invalid(errors, "must not contain '..'");
        }
    }
}

fn lifecycle(container: &Node, errors: &mut Errors) {
    let lifecycle = container.field("lifecycle");
    for hook in ["postStart", "preStop"] {
        let hook = lifecycle.field(hook);
        if hook.is_set() {
            probe::handler(&hook, errors);
        }
    }
}

fn probes(container: &Node, errors: &mut Errors) {
    for (name, once) in [("livenessProbe", true), ("readinessProbe", false), ("startupProbe", true)] {
        let node = container.field(name);
        if node.is_set() {
            probe::probe(&node, once, errors);
        }
    }
}
