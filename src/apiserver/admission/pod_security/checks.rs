//! The controls of the Pod Security Standards, and what pods do against them, in Kubernetes' words.
//!
//! Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/>.

use std::collections::BTreeSet;

use k3s_api::object::{annotations, at, text};
use serde_json::Value;

use super::policy::{Level, Standard};

/// A pod, or the template of one.
#[derive(Clone, Copy)]
pub struct Pod<'a>(pub &'a Value);

/// What a pod does against a standard.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    pub reason: &'static str,
    /// Where, and what would help; empty if the reason says all.
    pub detail: String,
}

/// `reason (detail), reason (detail)`
pub fn describe(violations: &[Violation]) -> String {
    let describe = |violation: &Violation| match violation.detail.as_str() {
        "" => violation.reason.to_owned(),
        detail => format!("{} ({detail})", violation.reason),
    };
    violations.iter().map(describe).collect::<Vec<_>>().join(", ")
}

type Check = fn(Pod<'_>, Standard) -> Option<Violation>;

/// Checks of the baseline, in the order in which they are told of.
const BASELINE: [Check; 9] = [
    app_armor_profile,
    host_namespaces,
    host_ports,
    host_probes,
    privileged,
    proc_mount,
    selinux_options,
    sysctls,
    windows_host_process,
];
/// Those of the baseline that a stricter one takes the place of at the restricted level.
const BASELINE_ONLY: [Check; 3] = [capabilities_baseline, host_path_volumes, seccomp_baseline];
const RESTRICTED: [Check; 6] = [
    allow_privilege_escalation,
    capabilities_restricted,
    restricted_volumes,
    run_as_non_root,
    run_as_user,
    seccomp_restricted,
];

/// All that the pod does against the standard.
pub fn violations(standard: Standard, pod: Pod<'_>) -> Vec<Violation> {
    let more: &[Check] = match standard.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => &BASELINE_ONLY,
        Level::Restricted => &RESTRICTED,
    };
    BASELINE.iter().chain(more).filter_map(|check| check(pod, standard)).collect()
}

fn violation(reason: &'static str, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation { reason, detail: detail.into() })
}

impl<'a> Pod<'a> {
    fn spec(self, path: &[&str]) -> Option<&'a Value> {
        at(self.0.get("spec")?, path)
    }

    fn containers(self) -> impl Iterator<Item = &'a Value> {
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .filter_map(move |list| self.spec(&[list])?.as_array())
            .flatten()
    }

    /// The names of the containers that are so.
    fn named(self, mut is: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| is(container)).map(|c| text(c, &["name"]).unwrap_or_default()).collect()
    }

    /// `pod and containers "a", "b"`, of those whose security context is so; empty if none is.
    fn setters(self, mut is: impl FnMut(&'a Value) -> bool) -> String {
        let mut setters = Vec::new();
        if self.spec(&["securityContext"]).is_some_and(&mut is) {
            setters.push("pod".to_owned());
        }
        let containers = self.named(|container| container.get("securityContext").is_some_and(&mut is));
        if !containers.is_empty() {
            setters.push(containers_named(&containers));
        }
        setters.join(" and ")
    }

    fn is_windows(self) -> bool {
        self.spec(&["os", "name"]).is_some_and(|os| os == "windows")
    }

    /// Pods with users of their own are given more freedom.
    fn has_user_namespace(self) -> bool {
        self.spec(&["hostUsers"]) == Some(&Value::Bool(false))
    }
}

fn plural(one: &'static str, many: &'static str, count: usize) -> &'static str {
    if count == 1 { one } else { many }
}

fn quoted<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    names.into_iter().map(|name| format!("\"{}\"", name.as_ref())).collect::<Vec<_>>().join(", ")
}

fn containers_named(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn app_armor_profile(pod: Pod<'_>, _: Standard) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut bad = BTreeSet::new();
    let mut setters = pod.setters(|context| match text(context, &["appArmorProfile", "type"]) {
        None | Some("RuntimeDefault" | "Localhost") => false,
        Some(other) => bad.insert(other.to_owned()) || bad.contains(other),
    });
    let mut values: Vec<String> = bad.into_iter().collect();
    let mut annotated: Vec<String> = annotations(pod.0)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.starts_with(ANNOTATION).then_some(key)?, value.as_str()?)))
        .filter(|(_, profile)| !matches!(*profile, "" | "runtime/default") && !profile.starts_with("localhost/"))
        .map(|(key, profile)| format!("{key}={profile:?}"))
        .collect();
    if !annotated.is_empty() {
        annotated.sort();
        let what = plural("annotation", "annotations", annotated.len());
        setters = if setters.is_empty() { what.to_owned() } else { format!("{setters} and {what}") };
        values.append(&mut annotated);
    }
    if setters.is_empty() {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    violation(reason, format!("{setters} must not set AppArmor profile type to {}", quoted(values)))
}

fn host_namespaces(pod: Pod<'_>, _: Standard) -> Option<Violation> {
    let is_set = |name: &&str| pod.spec(&[name]) == Some(&Value::Bool(true));
    let set: Vec<String> =
        ["hostNetwork", "hostPID", "hostIPC"].iter().filter(|n| is_set(n)).map(|n| format!("{n}=true")).collect();
    if set.is_empty() { None } else { violation("host namespaces", set.join(", ")) }
}

fn host_ports(pod: Pod<'_>, _: Standard) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let names = pod.named(|container| {
        let own = container.get("ports").and_then(Value::as_array).into_iter().flatten();
        let own: Vec<i64> = own.filter_map(|port| port.get("hostPort")?.as_i64()).filter(|port| *port != 0).collect();
        ports.extend(own.iter().map(ToString::to_string));
        !own.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let (uses, what) = (plural("uses", "use", names.len()), plural("hostPort", "hostPorts", ports.len()));
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    violation("hostPort", format!("{} {uses} {what} {ports}", containers_named(&names)))
}

/// Since 1.34: a probe or handler makes the kubelet connect from the host, to where a pod says.
fn host_probes(pod: Pod<'_>, standard: Standard) -> Option<Violation> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    if !standard.since(34) {
        return None;
    }
    let mut hosts = BTreeSet::new();
    let names: BTreeSet<&str> = pod
        .named(|container| {
            let own: Vec<&str> = HANDLERS
                .iter()
                .filter_map(|path| at(container, path))
                .flat_map(|handler| ["httpGet", "tcpSocket"].map(|action| text(handler, &[action, "host"])))
                .flatten()
                .filter(|host| !host.is_empty())
                .collect();
            hosts.extend(own.iter().copied());
            !own.is_empty()
        })
        .into_iter()
        .collect();
    if names.is_empty() {
        return None;
    }
    let names: Vec<&str> = names.into_iter().collect();
    let uses = plural("uses", "use", names.len());
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    let detail = format!("{} {uses} {what} {}", containers_named(&names), quoted(hosts));
    violation("probe or lifecycle host", detail)
}

fn privileged(pod: Pod<'_>, _: Standard) -> Option<Violation> {
    let names = pod.named(|c| at(c, &["securityContext", "privileged"]) == Some(&Value::Bool(true)));
    if names.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", containers_named(&names)))
}

fn proc_mount(pod: Pod<'_>, standard: Standard) -> Option<Violation> {
    if standard.since(35) && pod.has_user_namespace() {
        return None;
    }
    let mut types = BTreeSet::new();
    let names = pod.named(|container| match text(container, &["securityContext", "procMount"]) {
        None | Some("Default") => false,
        Some(other) => {
            types.insert(other);
            true
        }
    });
    if names.is_empty() {
        return None;
    }
    let containers = containers_named(&names);
    violation("procMount", format!("{containers} must not set securityContext.procMount to {}", quoted(types)))
}

fn selinux_options(pod: Pod<'_>, standard: Standard) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let setters = pod.setters(|context| {
        let option = |name| text(context, &["seLinuxOptions", name]).filter(|value| !value.is_empty());
        let bad_type = option("type").filter(|name| match *name {
            "container_t" | "container_init_t" | "container_kvm_t" => false,
            "container_engine_t" => !standard.since(31),
            _ => true,
        });
        types.extend(bad_type);
        user |= option("user").is_some();
        role |= option("role").is_some();
        bad_type.is_some() || option("user").is_some() || option("role").is_some()
    });
    if setters.is_empty() {
        return None;
    }
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    what.extend(user.then(|| "user may not be set".to_owned()));
    what.extend(role.then(|| "role may not be set".to_owned()));
    let detail = format!("{setters} set forbidden securityContext.seLinuxOptions: {}", what.join("; "));
    violation("seLinuxOptions", detail)
}

fn sysctls(pod: Pod<'_>, standard: Standard) -> Option<Violation> {
    let is_safe = |name: &str| match name {
        "kernel.shm_rmid_forced"
        | "net.ipv4.ip_local_port_range"
        | "net.ipv4.tcp_syncookies"
        | "net.ipv4.ping_group_range"
        | "net.ipv4.ip_unprivileged_port_start" => true,
        "net.ipv4.ip_local_reserved_ports" => standard.since(27),
        "net.ipv4.tcp_keepalive_time"
        | "net.ipv4.tcp_fin_timeout"
        | "net.ipv4.tcp_keepalive_intvl"
        | "net.ipv4.tcp_keepalive_probes" => standard.since(29),
        "net.ipv4.tcp_rmem" | "net.ipv4.tcp_wmem" => standard.since(32),
        _ => false,
    };
    let sysctls = pod.spec(&["securityContext", "sysctls"]).and_then(Value::as_array).into_iter().flatten();
    let bad: Vec<&str> = sysctls.filter_map(|s| text(s, &["name"])).filter(|name| !is_safe(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn windows_host_process(pod: Pod<'_>, _: Standard) -> Option<Violation> {
    let setters = pod.setters(|context| at(context, &["windowsOptions", "hostProcess"]) == Some(&Value::Bool(true)));
    if setters.is_empty() {
        return None;
    }
    violation("hostProcess", format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn capabilities_baseline(pod: Pod<'_>, _: Standard) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let detail = added_capabilities(pod, &ALLOWED)?;
    violation("non-default capabilities", detail)
}

/// What is said of containers that add capabilities other than those.
fn added_capabilities(pod: Pod<'_>, allowed: &[&str]) -> Option<String> {
    let mut bad = BTreeSet::new();
    let names = pod.named(|container| {
        let added = strings(at(container, &["securityContext", "capabilities", "add"]));
        let own: Vec<&str> = added.filter(|capability| !allowed.contains(capability)).collect();
        bad.extend(own.iter().copied());
        !own.is_empty()
    });
    if names.is_empty() {
        return None;
    }
    let containers = containers_named(&names);
    Some(format!("{containers} must not include {} in securityContext.capabilities.add", quoted(bad)))
}

fn host_path_volumes(pod: Pod<'_>, _: Standard) -> Option<Violation> {
    let volumes = pod.spec(&["volumes"]).and_then(Value::as_array).into_iter().flatten();
    let names: Vec<&str> = volumes.filter(|v| v.get("hostPath").is_some()).filter_map(|v| text(v, &["name"])).collect();
    if names.is_empty() {
        return None;
    }
    violation("hostPath volumes", format!("{} {}", plural("volume", "volumes", names.len()), quoted(names)))
}

fn is_allowed_seccomp(context: &Value) -> Option<bool> {
    text(context, &["seccompProfile", "type"]).map(|name| matches!(name, "RuntimeDefault" | "Localhost"))
}

fn seccomp_baseline(pod: Pod<'_>, standard: Standard) -> Option<Violation> {
    if !standard.since(19) {
        return None;
    }
    let mut bad = BTreeSet::new();
    let setters = pod.setters(|context| {
        let is_bad = is_allowed_seccomp(context) == Some(false);
        bad.extend(text(context, &["seccompProfile", "type"]).filter(|_| is_bad));
        is_bad
    });
    if setters.is_empty() {
        return None;
    }
    let detail = format!("{setters} must not set securityContext.seccompProfile.type to {}", quoted(bad));
    violation("seccompProfile", detail)
}

fn seccomp_restricted(pod: Pod<'_>, standard: Standard) -> Option<Violation> {
    if !standard.since(19) || (standard.since(25) && pod.is_windows()) {
        return None;
    }
    if let Some(violation) = seccomp_baseline(pod, standard) {
        return Some(violation);
    }
    let of_pod = pod.spec(&["securityContext"]).and_then(is_allowed_seccomp) == Some(true);
    let names = pod.named(|c| !of_pod && c.get("securityContext").and_then(is_allowed_seccomp).is_none());
    if names.is_empty() {
        return None;
    }
    let what = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    violation("seccompProfile", format!("pod or {} {what}", containers_named(&names)))
}

fn allow_privilege_escalation(pod: Pod<'_>, standard: Standard) -> Option<Violation> {
    if !standard.since(8) || (standard.since(25) && pod.is_windows()) {
        return None;
    }
    let names = pod.named(|c| at(c, &["securityContext", "allowPrivilegeEscalation"]) != Some(&Value::Bool(false)));
    if names.is_empty() {
        return None;
    }
    let containers = containers_named(&names);
    let detail = format!("{containers} must set securityContext.allowPrivilegeEscalation=false");
    violation("allowPrivilegeEscalation != false", detail)
}

fn capabilities_restricted(pod: Pod<'_>, standard: Standard) -> Option<Violation> {
    if !standard.since(22) || (standard.since(25) && pod.is_windows()) {
        // Before, what the baseline says was all.
        return if standard.since(22) { None } else { capabilities_baseline(pod, standard) };
    }
    let mut details = Vec::new();
    let names = pod.named(|c| !strings(at(c, &["securityContext", "capabilities", "drop"])).any(|name| name == "ALL"));
    if !names.is_empty() {
        let containers = containers_named(&names);
        details.push(format!("{containers} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    details.extend(added_capabilities(pod, &["NET_BIND_SERVICE"]));
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

fn restricted_volumes(pod: Pod<'_>, _: Standard) -> Option<Violation> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
        "image",
    ];
    let volumes = pod.spec(&["volumes"]).and_then(Value::as_array).into_iter().flatten();
    let (mut names, mut types) = (Vec::new(), BTreeSet::new());
    for volume in volumes.filter_map(Value::as_object) {
        let source = volume.keys().find(|key| *key != "name").map_or("unknown", String::as_str);
        if !ALLOWED.contains(&source) {
            names.push(volume.get("name").and_then(Value::as_str).unwrap_or_default());
            types.insert(source);
        }
    }
    if names.is_empty() {
        return None;
    }
    let uses = plural("uses", "use", names.len());
    let what = plural("restricted volume type", "restricted volume types", types.len());
    let volumes = plural("volume", "volumes", names.len());
    violation("restricted volume types", format!("{volumes} {} {uses} {what} {}", quoted(names), quoted(types)))
}

fn run_as_non_root(pod: Pod<'_>, standard: Standard) -> Option<Violation> {
    if standard.since(35) && pod.has_user_namespace() {
        return None;
    }
    let said = |context: &Value| context.get("runAsNonRoot").and_then(Value::as_bool);
    let setters = pod.setters(|context| said(context) == Some(false));
    if !setters.is_empty() {
        let detail = format!("{setters} must not set securityContext.runAsNonRoot=false");
        return violation("runAsNonRoot != true", detail);
    }
    let of_pod = pod.spec(&["securityContext"]).and_then(said) == Some(true);
    let names = pod.named(|c| !of_pod && c.get("securityContext").and_then(said).is_none());
    if names.is_empty() {
        return None;
    }
    let containers = containers_named(&names);
    violation("runAsNonRoot != true", format!("pod or {containers} must set securityContext.runAsNonRoot=true"))
}

fn run_as_user(pod: Pod<'_>, standard: Standard) -> Option<Violation> {
    if !standard.since(23) || (standard.since(35) && pod.has_user_namespace()) {
        return None;
    }
    let setters = pod.setters(|context| context.get("runAsUser").and_then(Value::as_i64) == Some(0));
    if setters.is_empty() { None } else { violation("runAsUser=0", format!("{setters} must not set runAsUser=0")) }
}

#[cfg(test)]
mod tests;
