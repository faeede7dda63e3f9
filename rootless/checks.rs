//! What the host must have, each thing checked on its own, with what mends it.
//!
//! The launcher stops at the first that fails; `check-config` prints [`all`]. Nothing here changes the host.

mod cidr;
mod data_dir;
mod error;
mod host_paths;
mod kernel;
mod sub_ids;
#[cfg(test)]
pub(crate) mod test_host;

use std::path::PathBuf;

use crate::config::{Config, NetDriver};
use crate::network::pasta::Pasta;
use crate::network::slirp4netns::{Slirp4netns, Slirp4netnsDriver};
use crate::state::StateDir;
use crate::subid::{IdKind, IdMap};

pub use cidr::cidr;
pub use data_dir::data_dir;
pub use error::{CheckError, SubIdSource};
pub use host_paths::HostPaths;
pub use kernel::{low_ports, no_new_privileges, tun, user_namespaces};
pub use sub_ids::{mapping_tool, sub_ids, user_name};

/// What a first launch needs, found and checked.
#[derive(Debug)]
pub struct IdMapping {
    pub uids: IdMap,
    pub gids: IdMap,
    pub newuidmap: PathBuf,
    pub newgidmap: PathBuf,
}

/// Whether k3s starts without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Required,
    Optional,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// What is wrong, and what mends it; both are text for a person.
    Problem {
        problem: String,
        remedy: String,
    },
}

/// One check and its outcome, for `check-config`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, in a few words.
    pub name: &'static str,
    pub level: Level,
    pub outcome: Outcome,
}

/// Every check that matters to a launch with this configuration by this user.
pub fn all(config: &Config, uid: u32) -> Vec<Check> {
    let host = &config.host;
    let user = user_name(host, uid);
    let check = |name, level, result: Result<(), CheckError>| Check { name, level, outcome: result.into() };
    // With what the settings ask of it.
    let suits = |program| Slirp4netnsDriver::new(program, config, &StateDir::open(&config.state_dir)).map(drop);
    let slirp4netns = || Slirp4netns::find(host).and_then(suits).map_err(CheckError::from);
    let pasta = || Pasta::find(host).map(drop).map_err(CheckError::from);
    let needed = |needed: bool| if needed { Level::Required } else { Level::Optional };
    let driver = config.net_driver;
    let way_out = needed(driver != NetDriver::None);
    vec![
        check("user namespaces", Level::Required, user_namespaces(host)),
        check("no_new_privs", Level::Required, no_new_privileges(host)),
        check("sub-uids", Level::Required, sub_ids(host, IdKind::Uid, &user, uid).map(drop)),
        check("sub-gids", Level::Required, sub_ids(host, IdKind::Gid, &user, uid).map(drop)),
        check("newuidmap", Level::Required, mapping_tool(host, IdKind::Uid).map(drop)),
        check("newgidmap", Level::Required, mapping_tool(host, IdKind::Gid).map(drop)),
        check("data directory", Level::Required, data_dir(host, config.data_dir())),
        check("/dev/net/tun", way_out, tun(host)),
        check("K3S_ROOTLESS_CIDR", way_out, cidr(host, config.cidr.network())),
        check("slirp4netns", needed(driver == NetDriver::Slirp4netns), slirp4netns()),
        check("pasta", needed(driver == NetDriver::Pasta), pasta()),
        check("ports below 1024", Level::Optional, low_ports(host)),
    ]
}

impl From<Result<(), CheckError>> for Outcome {
    fn from(result: Result<(), CheckError>) -> Self {
        match result {
            Ok(()) => Self::Ok,
            Err(error) => Self::Problem { problem: error.to_string(), remedy: error.remedy() },
        }
    }
}

/// All that is needed to make namespaces and map ids into them.
///
/// # Errors
/// The first thing that is missing.
pub fn id_mapping(host: &HostPaths, uid: u32, gid: u32) -> Result<IdMapping, CheckError> {
    user_namespaces(host)?;
    no_new_privileges(host)?;
    let user = user_name(host, uid);
    let uids = sub_ids(host, IdKind::Uid, &user, uid)?;
    let gids = sub_ids(host, IdKind::Gid, &user, uid)?;
    Ok(IdMapping {
        uids: IdMap { kind: IdKind::Uid, own: uid, ranges: uids },
        gids: IdMap { kind: IdKind::Gid, own: gid, ranges: gids },
        newuidmap: mapping_tool(host, IdKind::Uid)?,
        newgidmap: mapping_tool(host, IdKind::Gid)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use test_host::TestHost;

    #[test]
    fn check_config_sees_every_check_with_its_level() {
        let host = TestHost::new("all");
        let mut config = Config::from_env([], &host.root.join("data"), false).unwrap();
        config.host = host.paths.clone();
        let failed = |config: &Config, level| -> Vec<_> {
            let checks = all(config, 1001).into_iter();
            checks.filter(|c| c.outcome != Outcome::Ok && c.level == level).map(|c| c.name).collect()
        };
        assert_eq!(failed(&config, Level::Required), ["newuidmap", "newgidmap", "slirp4netns"]);
        assert_eq!(failed(&config, Level::Optional), ["pasta", "ports below 1024"]);
        config.net_driver = NetDriver::Pasta;
        assert_eq!(failed(&config, Level::Required), ["newuidmap", "newgidmap", "pasta"]);
        let checks = all(&config, 1001);
        let Outcome::Problem { problem, remedy } = &checks[4].outcome else { panic!("no problem") };
        assert_eq!(problem, "newuidmap is missing");
        assert!(remedy.contains("sudo apt-get install uidmap"), "{remedy}");
    }

    #[test]
    fn check_config_sees_that_a_setting_asks_too_much() {
        let host = TestHost::new("all-asks");
        host.script("slirp4netns", "echo slirp4netns version 1.0.0");
        let ipv6 = [("K3S_ROOTLESS_ENABLE_IPV6".to_owned(), "true".to_owned())];
        let mut config = Config::from_env(ipv6, &host.root.join("data"), false).unwrap();
        config.host = host.paths.clone();
        let checks = all(&config, 1001);
        let check = checks.iter().find(|check| check.name == "slirp4netns").unwrap();
        let Outcome::Problem { problem, .. } = &check.outcome else { panic!("no problem") };
        assert!(problem.contains("--enable-ipv6"), "{problem}");
    }
}
