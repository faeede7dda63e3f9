//! What the launcher needs of the host, by its own checks.

use k3s_rootless::checks::{HostPaths, all, user_name};

use super::{Finding, Host, Section};

/// For an ordinary user, or the one behind `sudo`. Root itself runs without a launcher.
pub fn section(host: &Host) -> Option<Section> {
    let uid = if host.is_root() { host.sudo_uid? } else { host.uid };
    let paths = HostPaths::default();
    let findings = all(&paths, uid).into_iter().map(|check| match check.result {
        Ok(()) => Finding::pass(check.name, "good"),
        // The message has the command in it. Root may do without.
        Err(error) if host.is_root() => Finding::warn(check.name, error.to_string(), ""),
        Err(error) => Finding::fail(check.name, error.to_string(), ""),
    });
    Some(Section { title: format!("Rootless, as user {}", user_name(&paths, uid)), findings: findings.collect() })
}
