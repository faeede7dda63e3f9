//! User namespaces of pods (`hostUsers: false`): whether there can be any here, and what they can't go together with.

use std::path::Path;

use k3s_cri::{Error, IdMappings, PidMode, PodSandboxConfig};

use crate::runtime::Runtime;

impl Runtime {
    /// Why pods can't have user namespaces of their own here; `Ok` if they can, on file systems that map ids.
    pub(crate) fn user_namespaces(&self) -> Result<(), String> {
        if self.options.rootless {
            return Err(
                "k3s runs rootless: the kernel maps the ids of a file system only for the user namespace that it \
                        was mounted in"
                    .to_owned(),
            );
        }
        let limit = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
        if matches!(limit.trim(), "" | "0") {
            return Err("this kernel makes no user namespaces (sysctl user.max_user_namespaces)".to_owned());
        }
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        if kernel(&release) < (6, 3) {
            // tmpfs came last.
            return Err(format!("id-mapped mounts of a tmpfs need Linux 6.3, and this is {release}"));
        }
        Ok(())
    }

    pub(crate) fn check_users(&self, config: &PodSandboxConfig) -> Result<(), Error> {
        let Some(users) = &config.namespaces.user else { return Ok(()) };
        let invalid = |detail: String| Err(Error::InvalidArgument { detail });
        let shared = &config.namespaces;
        if shared.host_network || shared.host_ipc || shared.pid == PidMode::Host {
            return invalid(
                "a pod with a user namespace of its own can't use the node's network, pid or IPC namespace".to_owned(),
            );
        }
        for mapping in [&users.uids, &users.gids] {
            if mapping.container_id != 0 || mapping.length == 0 || mapping.host_id.checked_add(mapping.length).is_none()
            {
                return invalid(format!("id mapping {mapping:?} is no range that begins with the pod's id 0"));
            }
        }
        if !config.runtime_handler.is_empty() {
            let detail =
                format!("handler {:?} can't run pods with a user namespace of their own", config.runtime_handler);
            return Err(Error::Unimplemented { detail });
        }
        self.user_namespaces().map_err(|reason| Error::FailedPrecondition {
            detail: format!("pods can't have user namespaces (hostUsers: false) on this node: {reason}"),
        })
    }
}

/// Mounts whose ids are mapped must be mapped as the pod is.
pub(crate) fn check_mapping(given: &IdMappings, of_pod: Option<&IdMappings>, path: &Path) -> Result<(), Error> {
    if Some(given) == of_pod {
        return Ok(());
    }
    let detail = format!("mount {}: its id mappings are not those of the pod's user namespace", path.display());
    Err(Error::InvalidArgument { detail })
}

/// Major and minor version of a release (`6.18.44-generic`); zeros for what is none.
fn kernel(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_kernels_are_compared_by_number() {
        assert!(kernel("6.18.44-fc") > kernel("6.3.0"));
        assert!(kernel("5.15.0-91-generic") < (6, 3));
        assert_eq!(kernel("7.0"), (7, 0));
        assert_eq!(kernel("unknown"), (0, 0));
    }
}
