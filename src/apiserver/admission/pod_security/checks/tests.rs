use serde_json::json;

use super::*;

fn against(level: Level, version: Option<u32>, spec: Value) -> String {
    describe(&violations(Standard { level, version }, Pod(&json!({ "spec": spec }))))
}

fn good() -> Value {
    json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]}}}]})
}

#[test]
fn a_hardened_pod_keeps_to_everything() {
    assert_eq!(against(Level::Restricted, None, good()), "");
}

#[test]
fn baseline_violations_are_told_in_order() {
    let spec = json!({"hostNetwork": true, "hostPID": true, "securityContext": {"sysctls": [{"name": "kernel.msgmax"}],
            "seLinuxOptions": {"type": "spc_t", "user": "u"}, "windowsOptions": {"hostProcess": true}},
        "volumes": [{"name": "v", "hostPath": {"path": "/"}}],
        "containers": [
            {"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 443}],
             "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}}},
            {"name": "b", "securityContext": {"privileged": true, "procMount": "Unmasked",
             "seccompProfile": {"type": "Unconfined"}}, "livenessProbe": {"httpGet": {"host": "h"}}}]});
    assert_eq!(
        against(Level::Baseline, None, spec),
        "host namespaces (hostNetwork=true, hostPID=true), hostPort (container \"a\" uses hostPorts 443, 80), \
         probe or lifecycle host (container \"b\" uses probe or lifecycle host \"h\"), \
         privileged (containers \"a\", \"b\" must not set securityContext.privileged=true), \
         procMount (container \"b\" must not set securityContext.procMount to \"Unmasked\"), \
         seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set), \
         forbidden sysctls (kernel.msgmax), \
         hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true), \
         non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add), \
         hostPath volumes (volume \"v\"), \
         seccompProfile (container \"b\" must not set securityContext.seccompProfile.type to \"Unconfined\")"
    );
}

#[test]
fn stricter_checks_take_the_place_of_those_of_the_baseline() {
    let mut spec = good();
    spec["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "nfs": {}}]);
    spec["containers"][0]["securityContext"]["runAsUser"] = 0.into();
    assert_eq!(
        against(Level::Restricted, None, spec),
        "restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\"), \
         runAsUser=0 (container \"c\" must not set runAsUser=0)"
    );
}

#[test]
fn checks_are_those_of_the_version() {
    let mut spec = good();
    spec["containers"][0]["livenessProbe"] = json!({"tcpSocket": {"host": "h"}});
    spec["securityContext"]["sysctls"] = json!([{"name": "net.ipv4.tcp_rmem"}]);
    assert_eq!(against(Level::Restricted, Some(32), spec.clone()), "");
    assert_eq!(against(Level::Restricted, Some(31), spec.clone()), "forbidden sysctls (net.ipv4.tcp_rmem)");
    assert!(against(Level::Restricted, Some(34), spec).contains("probe or lifecycle host"));
}

#[test]
fn a_pod_with_users_of_its_own_may_be_root() {
    let mut spec = good();
    spec["securityContext"]["runAsNonRoot"] = false.into();
    spec["securityContext"]["runAsUser"] = 0.into();
    assert!(against(Level::Restricted, None, spec.clone()).starts_with("runAsNonRoot != true (pod must not set"));
    spec["hostUsers"] = false.into();
    assert_eq!(against(Level::Restricted, None, spec), "");
}
