//! What the launcher needs of the host, by its own checks.

use k3s_rootless::Config;
use k3s_rootless::checks::{Level, Outcome, all, user_name};

use super::{Finding, Host, Section};

/// For an ordinary user, or the one behind `sudo`. Root itself runs without a launcher.
pub fn section(host: &Host) -> Option<Section> {
    let uid = if host.is_root() { host.sudo_uid? } else { host.uid };
    let variables = std::env::vars_os().filter_map(|(n, v)| Some((n.into_string().ok()?, v.into_string().ok()?)));
    let data_dir = match host.is_root() {
        false => host.data_dir.clone(),
        true => std::env::home_dir().unwrap_or_default().join(".rancher/k3s"),
    };
    let config = match Config::from_env(variables, &data_dir, false) {
        Ok(config) => config,
        Err(error) => {
            let finding = Finding::fail("K3S_ROOTLESS_*", error.to_string(), "");
            return Some(Section { title: "Rootless".to_owned(), findings: vec![finding] });
        }
    };
    let findings = all(&config, uid).into_iter().map(|check| match check.outcome {
        Outcome::Ok => Finding::pass(check.name, "good"),
        // Root may do without.
        Outcome::Problem { problem, remedy } if host.is_root() || check.level == Level::Optional => {
            Finding::warn(check.name, problem, remedy)
        }
        Outcome::Problem { problem, remedy } => Finding::fail(check.name, problem, remedy),
    });
    Some(Section { title: format!("Rootless, as user {}", user_name(&config.host, uid)), findings: findings.collect() })
}
