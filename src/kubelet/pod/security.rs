//! Security contexts of pods and containers as the runtime takes them.

use k3s_cri::{Image, SecurityContext, SecurityProfile, SupplementalGroupsPolicy};
use k8s_openapi::api::core::v1::{Container, Pod, SecurityContext as ContainerSecurity};

use crate::config::Config;

/// Why a container may not run as it is.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum Error {
    #[error("container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})")]
    RunsAsRoot { pod: String, container: String },
    #[error("container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})")]
    ImageRunsAsRoot { pod: String, container: String },
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \
         \"{pod}\", container: {container})"
    )]
    ImageUserUnknown { user: String, pod: String, container: String },
    #[error("{field} {value} is no user or group id")]
    NoId { field: &'static str, value: i64 },
}

/// The security context of a container: its own settings before those of the pod.
pub(super) fn context(config: &Config, pod: &Pod, container: &Container) -> Result<SecurityContext, Error> {
    let own = container.security_context.as_ref();
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let id = |field, value: Option<i64>| {
        value.map(|value| u32::try_from(value).map_err(|_| Error::NoId { field, value })).transpose()
    };
    let user = own.and_then(|s| s.run_as_user).or_else(|| of_pod.and_then(|s| s.run_as_user));
    let group = own.and_then(|s| s.run_as_group).or_else(|| of_pod.and_then(|s| s.run_as_group));
    let fs_group = of_pod.and_then(|s| s.fs_group);
    let supplemental = of_pod.and_then(|s| s.supplemental_groups.as_ref()).into_iter().flatten().copied();
    let mut supplemental_groups = Vec::new();
    for value in supplemental.chain(fs_group) {
        supplemental_groups.extend(id("supplemental group", Some(value))?);
    }
    let privileged = own.is_some_and(|s| s.privileged == Some(true));
    let capabilities = own.and_then(|s| s.capabilities.as_ref());
    let unmasked = own.and_then(|s| s.proc_mount.as_deref()) == Some("Unmasked");
    Ok(SecurityContext {
        privileged,
        add_capabilities: capabilities.and_then(|c| c.add.clone()).unwrap_or_default(),
        drop_capabilities: capabilities.and_then(|c| c.drop.clone()).unwrap_or_default(),
        ambient_capabilities: Vec::new(),
        run_as_user: id("runAsUser", user)?,
        run_as_username: String::new(),
        run_as_group: id("runAsGroup", group)?,
        supplemental_groups,
        supplemental_groups_policy: match of_pod.and_then(|s| s.supplemental_groups_policy.as_deref()) {
            Some("Strict") => SupplementalGroupsPolicy::Strict,
            _ => SupplementalGroupsPolicy::Merge,
        },
        readonly_rootfs: own.is_some_and(|s| s.read_only_root_filesystem == Some(true)),
        no_new_privs: own.is_some_and(|s| s.allow_privilege_escalation == Some(false)),
        masked_paths: (unmasked || privileged).then(Vec::new),
        readonly_paths: (unmasked || privileged).then(Vec::new),
        seccomp: seccomp(config, pod, own, privileged),
        apparmor: apparmor(pod, own, privileged),
    })
}

fn seccomp(config: &Config, pod: &Pod, own: Option<&ContainerSecurity>, privileged: bool) -> SecurityProfile {
    if privileged {
        return SecurityProfile::Unconfined;
    }
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.seccomp_profile.as_ref());
    match own.and_then(|s| s.seccomp_profile.as_ref()).or(of_pod) {
        Some(profile) => match profile.type_.as_str() {
            "RuntimeDefault" => SecurityProfile::RuntimeDefault,
            "Localhost" => {
                let name = profile.localhost_profile.as_deref().unwrap_or_default();
                SecurityProfile::Localhost(config.root_dir.join("seccomp").join(name).to_string_lossy().into_owned())
            }
            _ => SecurityProfile::Unconfined,
        },
        None if config.seccomp_default => SecurityProfile::RuntimeDefault,
        None => SecurityProfile::Unconfined,
    }
}

fn apparmor(pod: &Pod, own: Option<&ContainerSecurity>, privileged: bool) -> SecurityProfile {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref()?.app_armor_profile.as_ref());
    match own.and_then(|s| s.app_armor_profile.as_ref()).or(of_pod) {
        Some(profile) => match profile.type_.as_str() {
            "Localhost" => SecurityProfile::Localhost(profile.localhost_profile.clone().unwrap_or_default()),
            "Unconfined" => SecurityProfile::Unconfined,
            _ => SecurityProfile::RuntimeDefault,
        },
        None if privileged => SecurityProfile::Unconfined,
        None => SecurityProfile::RuntimeDefault,
    }
}

/// Refuses a container that would run as root where the pod says it must not.
pub(super) fn verify_non_root(pod: &Pod, container: &Container, image: &Image) -> Result<(), Error> {
    let own = container.security_context.as_ref();
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let required = own.and_then(|s| s.run_as_non_root).or_else(|| of_pod.and_then(|s| s.run_as_non_root));
    if required != Some(true) {
        return Ok(());
    }
    let name = container.name.clone();
    let pod_name = super::spec::describe(pod);
    let user = own.and_then(|s| s.run_as_user).or_else(|| of_pod.and_then(|s| s.run_as_user));
    match (user, image.uid, image.username.as_str()) {
        (Some(0), _, _) => Err(Error::RunsAsRoot { pod: pod_name, container: name }),
        (Some(_), _, _) => Ok(()),
        (None, Some(0), _) | (None, None, "") => Err(Error::ImageRunsAsRoot { pod: pod_name, container: name }),
        (None, Some(_), _) => Ok(()),
        (None, None, user) => Err(Error::ImageUserUnknown { user: user.into(), pod: pod_name, container: name }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(pod_security: serde_json::Value, own: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": pod_security, "containers": [{"name": "c", "securityContext": own}]}}))
        .unwrap()
    }

    fn image(uid: Option<u32>, username: &str) -> Image {
        Image {
            id: "i".into(),
            repo_tags: vec![],
            repo_digests: vec![],
            size: 0,
            uid,
            username: username.into(),
            pinned: false,
        }
    }

    #[test]
    fn a_containers_own_settings_win() {
        let pod = pod(
            serde_json::json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4], "supplementalGroupsPolicy": "Strict",
                "seccompProfile": {"type": "RuntimeDefault"}}),
            serde_json::json!({"runAsUser": 5, "allowPrivilegeEscalation": false}),
        );
        let context = context(&Config::new("n"), &pod, &pod.spec.as_ref().unwrap().containers[0]).unwrap();
        assert_eq!((context.run_as_user, context.run_as_group), (Some(5), Some(2)));
        assert_eq!(context.supplemental_groups, [4, 3]);
        assert_eq!(context.supplemental_groups_policy, SupplementalGroupsPolicy::Strict);
        assert!(context.no_new_privs);
        assert_eq!(context.seccomp, SecurityProfile::RuntimeDefault);
    }

    #[test]
    fn run_as_non_root_is_checked_against_pod_and_image() {
        let required = serde_json::json!({"runAsNonRoot": true});
        let plain = pod(required.clone(), serde_json::json!({}));
        let container = |pod: &Pod| pod.spec.as_ref().unwrap().containers[0].clone();
        let check = |pod: &Pod, image: Image| verify_non_root(pod, &container(pod), &image);
        assert!(matches!(check(&plain, image(None, "")), Err(Error::ImageRunsAsRoot { .. })));
        assert!(matches!(check(&plain, image(Some(0), "")), Err(Error::ImageRunsAsRoot { .. })));
        assert!(matches!(check(&plain, image(None, "nobody")), Err(Error::ImageUserUnknown { .. })));
        assert_eq!(check(&plain, image(Some(7), "")), Ok(()));
        let root = pod(required, serde_json::json!({"runAsUser": 0}));
        assert!(matches!(check(&root, image(Some(7), "")), Err(Error::RunsAsRoot { .. })));
    }
}
