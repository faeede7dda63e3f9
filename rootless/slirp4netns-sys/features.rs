//! What an installed slirp4netns can do, by what it says of itself.

use std::fmt;

/// A released version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

/// The first with `--exit-fd`, `--ready-fd`, `--cidr` and `--disable-host-loopback` together.
pub const OLDEST: Version = Version { major: 0, minor: 4, patch: 0 };

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Flags that not every version has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    pub version: Version,
    /// `--enable-sandbox`, since 0.4.0.
    pub sandbox: bool,
    /// `--enable-seccomp`, since 0.4.0, where it was built with libseccomp.
    pub seccomp: bool,
    /// `--enable-ipv6`.
    pub ipv6: bool,
    /// `--api-socket`, since 0.3.0.
    pub api_socket: bool,
}

/// It is no slirp4netns that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    #[error("it does not say its version but {said:?}")]
    Unknown { said: String },
    #[error("it is version {found}, and {OLDEST} is the oldest that will do")]
    TooOld { found: Version },
}

impl Features {
    /// Reads what `slirp4netns --version` and `slirp4netns --help` print.
    ///
    /// # Errors
    /// The version is not there, or older than [`OLDEST`].
    pub fn parse(version: &str, help: &str) -> Result<Self, FeatureError> {
        let first = version.lines().next().unwrap_or_default();
        let found = parse_version(first).ok_or_else(|| FeatureError::Unknown { said: first.to_owned() })?;
        if found < OLDEST {
            return Err(FeatureError::TooOld { found });
        }
        let has = |flag| help.contains(flag);
        Ok(Self {
            version: found,
            sandbox: has("--enable-sandbox"),
            seccomp: has("--enable-seccomp"),
            ipv6: has("--enable-ipv6"),
            api_socket: has("--api-socket"),
        })
    }
}

/// `slirp4netns version 1.2.0-beta.1` is 1.2.0.
fn parse_version(line: &str) -> Option<Version> {
    let found = line.strip_prefix("slirp4netns version ")?.trim();
    let mut numbers = found.split(['.', '-', '+']).map(|n| n.parse().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    Some(Version { major, minor, patch: numbers.next().flatten().unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "-6, --enable-ipv6        enable IPv6 (experimental)\n-a, --api-socket=PATH\n--enable-sandbox\n";

    #[test]
    fn version_and_flags_are_read_from_its_own_words() {
        let features = Features::parse("slirp4netns version 1.2.0\ncommit: 656041d\n", HELP).unwrap();
        assert_eq!(features.version, Version { major: 1, minor: 2, patch: 0 });
        assert!(features.sandbox && features.ipv6 && features.api_socket && !features.seccomp);
    }

    #[test]
    fn pre_releases_and_short_versions_count_as_their_release() {
        for (text, version) in [("1.3.0-beta.1", "1.3.0"), ("0.4.0+dev", "0.4.0"), ("2.1", "2.1.0")] {
            let features = Features::parse(&format!("slirp4netns version {text}"), "").unwrap();
            assert_eq!(features.version.to_string(), version);
        }
    }

    #[test]
    fn an_old_one_and_another_program_are_refused() {
        let error = Features::parse("slirp4netns version 0.3.9", HELP).unwrap_err();
        assert!(error.to_string().contains("0.3.9") && error.to_string().contains("0.4.0"), "{error}");
        let error = Features::parse("hello", HELP).unwrap_err();
        assert_eq!(error, FeatureError::Unknown { said: "hello".into() });
    }
}
