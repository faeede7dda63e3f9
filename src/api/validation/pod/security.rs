//! Security contexts.

use serde_json::Value;

use crate::validation::node::{Errors, Node, go_struct};
use crate::validation::selector::unique;

const MAX_ID: i64 = i32::MAX as i64;

/// The security context of a container.
pub fn container(context: &Node, host_users: Option<bool>, errors: &mut Errors) {
    if !context.is_set() {
        return;
    }
    for field in ["runAsUser", "runAsGroup"] {
        context.field(field).in_range(0, MAX_ID, errors);
    }
    let proc_mount = context.field("procMount");
    if proc_mount.is_set() {
        proc_mount.one_of(errors, &["Default", "Unmasked"]);
        if proc_mount.text() == "Unmasked" && host_users != Some(false) {
            proc_mount.invalid(errors, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(&context.field("seccompProfile"), errors);
    if context.field("allowPrivilegeEscalation").value == &Value::Bool(false) {
        let shown = || {
            go_struct(
                context.value,
                &[
                    ("Capabilities", "capabilities"),
                    ("Privileged", "privileged"),
                    ("SELinuxOptions", "seLinuxOptions"),
                    ("WindowsOptions", "windowsOptions"),
                    ("RunAsUser", "runAsUser"),
                    ("RunAsGroup", "runAsGroup"),
                    ("RunAsNonRoot", "runAsNonRoot"),
                    ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem"),
                    ("AllowPrivilegeEscalation", "allowPrivilegeEscalation"),
                    ("ProcMount", "procMount"),
                    ("SeccompProfile", "seccompProfile"),
                    ("AppArmorProfile", "appArmorProfile"),
                ],
            )
        };
        if context.field("privileged").bool() {
            let message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            context.invalid_as(shown(), errors, message);
        }
        if context.field("capabilities").field("add").items().any(|capability| capability.text() == "CAP_SYS_ADMIN") {
            let message = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            context.invalid_as(shown(), errors, message);
        }
    }
    app_armor(&context.field("appArmorProfile"), errors);
}

/// The security context of a pod.
pub fn pod(spec: &Node, errors: &mut Errors) {
    if spec.field("hostUsers").value == &Value::Bool(false) {
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            if spec.field(field).bool() {
                spec.field(field).forbidden(errors, "when `hostUsers` is false");
            }
        }
    }
    let context = spec.field("securityContext");
    let share = spec.field("shareProcessNamespace");
    if share.bool() && spec.field("hostPID").bool() {
        share.invalid(errors, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    context.field("fsGroup").in_range(0, MAX_ID, errors);
    for field in ["runAsUser", "runAsGroup"] {
        context.field(field).in_range(0, MAX_ID, errors);
    }
    for group in context.field("supplementalGroups").items() {
        group.in_range(0, MAX_ID, errors);
    }
    sysctls(&context.field("sysctls"), errors);
    for (field, supported) in
        [("fsGroupChangePolicy", ["Always", "OnRootMismatch"]), ("supplementalGroupsPolicy", ["Merge", "Strict"])]
    {
        let policy = context.field(field);
        if policy.is_set() {
            policy.one_of(errors, &supported);
        }
    }
    seccomp(&context.field("seccompProfile"), errors);
    app_armor(&context.field("appArmorProfile"), errors);
}

const SYSCTL: &str = r"must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn sysctls(sysctls: &Node, errors: &mut Errors) {
    for sysctl in sysctls.items() {
        let name = sysctl.field("name");
        let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = name.text().len() <= 253
            && name.text().split(['.', '/']).all(|part| match (part.bytes().next(), part.bytes().last()) {
                (Some(first), Some(last)) => {
                    edge(first) && edge(last) && part.bytes().all(|byte| edge(byte) || matches!(byte, b'-' | b'_'))
                }
                _ => false,
            });
        match name.is_empty() {
            true => name.required(errors, ""),
            false if !fits => name.invalid(errors, SYSCTL),
            false => {}
        }
    }
    let values: Vec<Node> = sysctls.items().collect();
    unique(values.iter().map(|sysctl| sysctl.field("name")), errors);
}

fn seccomp(profile: &Node, errors: &mut Errors) {
    profile_type(profile, "Localhost", &["Localhost", "RuntimeDefault", "Unconfined"], errors);
}

fn app_armor(profile: &Node, errors: &mut Errors) {
    profile_type(profile, "Localhost", &["Localhost", "RuntimeDefault", "Unconfined"], errors);
}

/// A profile of a file on the node needs its name; no other has one.
fn profile_type(profile: &Node, local: &str, supported: &[&str], errors: &mut Errors) {
    if !profile.is_set() {
        return;
    }
    let (kind, file) = (profile.field("type"), profile.field("localhostProfile"));
    match kind.text() {
        "" => kind.required(errors, "type is required when seccompProfile is set"),
        text if text == local => {
            if file.is_empty() {
                file.required(errors, "must be set when type is Localhost");
            } else if file.text().starts_with('/') {
                file.invalid(errors, "must be a relative path");
            } else if file.text().split('/').any(|step| step == "..") {
                file.invalid(errors, "must not contain '..'");
            }
        }
        text if supported.contains(&text) => {
            if file.is_set() {
                file.invalid(errors, "can only be set when type is Localhost");
            }
        }
        _ => kind.not_supported(errors, supported),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_with_users_of_its_own_has_no_namespace_of_the_node() {
        let wrong = |spec: Value| {
            crate::validation::wrong(|spec: &Value, errors: &mut Errors| pod(&Node::root(spec), errors), spec)
        };
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            let told = wrong(serde_json::json!({"hostUsers": false, field: true}));
            assert_eq!(told, [format!("{field}: Forbidden: when `hostUsers` is false")]);
            assert_eq!(wrong(serde_json::json!({"hostUsers": true, field: true})), [""; 0]);
        }
    }
}
