//! What a namespace's labels ask for: a level of the Pod Security Standards, as of a version.

use std::fmt;

use k3s_api::object;
use serde_json::Value;

/// How much is forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Privileged,
    /// Known ways to more rights.
    Baseline,
    /// All that isn't good practice.
    Restricted,
}

/// What happens to a pod that doesn't keep to the standard. (`audit` is for the audit log alone.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    Warn,
}

/// A level as a version of Kubernetes defines it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standard {
    pub level: Level,
    /// The minor version; `None` is the latest.
    pub version: Option<u32>,
}

impl Standard {
    /// What the labels of a namespace ask for in that mode. A label that cannot be read asks for the strictest.
    pub fn of(namespace: &Value, mode: Mode) -> Self {
        let label = |name: &str| object::label(namespace, &format!("pod-security.kubernetes.io/{name}"));
        let mode_name = match mode {
            Mode::Enforce => "enforce",
            Mode::Warn => "warn",
        };
        let level = match label(mode_name) {
            None | Some("privileged") => Level::Privileged,
            Some("baseline") => Level::Baseline,
            Some(_) => Level::Restricted,
        };
        let version = label(&format!("{mode_name}-version"))
            .and_then(|version| version.strip_prefix("v1."))
            .and_then(|minor| minor.parse().ok());
        let asked = Self { level, version };
        // An enforced standard is warned about as well, unless the labels say something else.
        match (mode, label("warn"), label("enforce")) {
            (Mode::Warn, None, Some(_)) => {
                let enforced = Self::of(namespace, Mode::Enforce);
                if enforced.level > asked.level { enforced } else { asked }
            }
            _ => asked,
        }
    }

    /// Whether the standard is of that minor version or a later one.
    pub fn since(self, minor: u32) -> bool {
        self.version.is_none_or(|version| version >= minor)
    }
}

/// `restricted:latest`, `baseline:v1.30`
impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        })?;
        match self.version {
            None => f.write_str(":latest"),
            Some(minor) => write!(f, ":v1.{minor}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn standard(labels: Value, mode: Mode) -> String {
        Standard::of(&json!({"metadata": {"labels": labels}}), mode).to_string()
    }

    #[test]
    fn labels_name_level_and_version() {
        assert_eq!(standard(json!({}), Mode::Enforce), "privileged:latest");
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/enforce-version": "v1.30", "pod-security.kubernetes.io/warn": "restricted"});
        assert_eq!(standard(labels.clone(), Mode::Enforce), "baseline:v1.30");
        assert_eq!(standard(labels, Mode::Warn), "restricted:latest");
    }

    #[test]
    fn what_is_enforced_is_warned_about() {
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        assert_eq!(standard(labels, Mode::Warn), "restricted:latest");
    }
}
