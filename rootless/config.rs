//! What a launch is to look like, from the `K3S_ROOTLESS_*` variables.

mod cidr;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checks::HostPaths;

pub use cidr::{Cidr, CidrError};

/// Directories that get a writable copy inside, as in k3s.
const COPY_UP: [&str; 4] = ["/etc", "/run", "/var/run", "/var/lib"];

/// slirp4netns refuses anything larger.
const MTU_MAX: u32 = 65_521;
/// What IPv4 asks of every link (RFC 791).
const MTU_MIN: u32 = 68;
/// What IPv6 asks of every link (RFC 8200).
const MTU_MIN_IPV6: u32 = 1280;

/// Everything [`crate::launch`] needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Lock, record of the namespaces, driver log; `<data-dir>/rootless`. Made with mode 0700.
    pub state_dir: PathBuf,
    /// Who connects the namespace with the network (`K3S_ROOTLESS_NET_DRIVER`).
    pub net_driver: NetDriver,
    /// MTU of the tap device in bytes (`K3S_ROOTLESS_MTU`).
    pub mtu: u32,
    /// The network between the namespace and its driver (`K3S_ROOTLESS_CIDR`).
    pub cidr: Cidr,
    /// IPv6 through the driver (`K3S_ROOTLESS_ENABLE_IPV6`).
    pub enable_ipv6: bool,
    /// How ports of the host come inside (`K3S_ROOTLESS_PORT_DRIVER`).
    pub port_driver: PortDriver,
    /// Whether 127.0.0.1 of the host stays out of reach (`K3S_ROOTLESS_DISABLE_HOST_LOOPBACK`).
    pub disable_host_loopback: bool,
    /// Directories to copy up: k3s's four, then those of `K3S_ROOTLESS_COPYUPDIRS`.
    pub copy_up_dirs: Vec<PathBuf>,
    /// System paths that lie in the data directory instead, so that they outlive the namespaces.
    pub binds: Vec<Bind>,
    /// Where the host keeps what the launcher reads and calls.
    pub host: HostPaths,
}

/// A directory that is shown at another path inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Where it really is; made when missing.
    pub source: PathBuf,
    /// Where it shows.
    pub target: PathBuf,
}

/// How the namespace reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetDriver {
    Slirp4netns,
    /// Faster, and in fewer distributions.
    Pasta,
    /// Not at all.
    None,
}

/// How ports of the host reach the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortDriver {
    /// The launcher binds on the host and hands the socket itself inside.
    Builtin,
    /// slirp4netns forwards them. It must be the network driver, too.
    Slirp4netns,
    /// Not at all.
    None,
}

impl PortDriver {
    /// As in `K3S_ROOTLESS_PORT_DRIVER`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Slirp4netns => "slirp4netns",
            Self::None => "none",
        }
    }
}

/// A variable that does not say what it should.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("K3S_ROOTLESS_MTU={value}: not a number of bytes from {min} to {MTU_MAX}")]
    Mtu { value: String, min: u32 },
    #[error("K3S_ROOTLESS_CIDR={value}: {source}")]
    Cidr { value: String, source: CidrError },
    #[error("{name}={value}: neither true nor false")]
    Bool { name: &'static str, value: String },
    #[error("K3S_ROOTLESS_PORT_DRIVER={value}: unknown port driver; there are: builtin, slirp4netns, none")]
    PortDriver { value: String },
    #[error("K3S_ROOTLESS_NET_DRIVER={value}: unknown network driver; there are: slirp4netns, pasta, none")]
    NetDriver { value: String },
    #[error("K3S_ROOTLESS_PORT_DRIVER=slirp4netns needs K3S_ROOTLESS_NET_DRIVER=slirp4netns as well")]
    PortDriverAlone,
    #[error(
        "K3S_ROOTLESS_COPYUPDIRS: {path:?} cannot be copied up; name directories by their absolute path, other than /, /proc, /sys and /dev"
    )]
    CopyUpDir { path: PathBuf },
    #[error("the data directory {path:?} is not an absolute path")]
    DataDir { path: PathBuf },
}

impl Config {
    /// Reads the variables. `dual_stack` says whether the cluster has IPv6, which is what
    /// `K3S_ROOTLESS_ENABLE_IPV6` follows when it is not set. An empty value counts as not set.
    ///
    /// # Errors
    /// A value that cannot be understood is an error, never silently the default.
    pub fn from_env(
        vars: impl IntoIterator<Item = (String, String)>,
        data_dir: &Path,
        dual_stack: bool,
    ) -> Result<Self, ConfigError> {
        if !data_dir.is_absolute() {
            return Err(ConfigError::DataDir { path: data_dir.to_owned() });
        }
        let mut config = Self {
            state_dir: data_dir.join("rootless"),
            net_driver: NetDriver::Slirp4netns,
            mtu: 1500,
            cidr: Cidr::default(),
            enable_ipv6: dual_stack,
            port_driver: PortDriver::Builtin,
            disable_host_loopback: true,
            copy_up_dirs: COPY_UP.iter().map(PathBuf::from).collect(),
            binds: binds(data_dir),
            host: HostPaths::default(),
        };
        let mut mtu = None;
        for (name, value) in vars {
            if value.is_empty() {
                continue;
            }
            match name.as_str() {
                "K3S_ROOTLESS_MTU" => mtu = Some(value),
                "K3S_ROOTLESS_CIDR" => {
                    config.cidr = value.parse().map_err(|source| ConfigError::Cidr { value, source })?;
                }
                "K3S_ROOTLESS_ENABLE_IPV6" => {
                    config.enable_ipv6 = parse_bool("K3S_ROOTLESS_ENABLE_IPV6", value)?;
                }
                "K3S_ROOTLESS_DISABLE_HOST_LOOPBACK" => {
                    config.disable_host_loopback = parse_bool("K3S_ROOTLESS_DISABLE_HOST_LOOPBACK", value)?;
                }
                "K3S_ROOTLESS_PORT_DRIVER" => match value.to_ascii_lowercase().as_str() {
                    "builtin" => config.port_driver = PortDriver::Builtin,
                    "slirp4netns" => config.port_driver = PortDriver::Slirp4netns,
                    "none" => config.port_driver = PortDriver::None,
                    _ => return Err(ConfigError::PortDriver { value }),
                },
                "K3S_ROOTLESS_NET_DRIVER" => match value.to_ascii_lowercase().as_str() {
                    "slirp4netns" => config.net_driver = NetDriver::Slirp4netns,
                    "pasta" => config.net_driver = NetDriver::Pasta,
                    "none" => config.net_driver = NetDriver::None,
                    _ => return Err(ConfigError::NetDriver { value }),
                },
                "K3S_ROOTLESS_COPYUPDIRS" => {
                    for dir in value.split(',').map(str::trim).filter(|d| !d.is_empty()) {
                        let dir = copy_up_dir(Path::new(dir))?;
                        if !config.copy_up_dirs.contains(&dir) {
                            config.copy_up_dirs.push(dir);
                        }
                    }
                }
                _ => {}
            }
        }
        if config.port_driver == PortDriver::Slirp4netns && config.net_driver != NetDriver::Slirp4netns {
            return Err(ConfigError::PortDriverAlone);
        }
        if config.net_driver == NetDriver::Pasta {
            // What pasta is fast with; each packet costs the same.
            config.mtu = 65_520;
        }
        // Last, since the smallest MTU depends on IPv6 and variables come in any order.
        if let Some(value) = mtu {
            let min = if config.enable_ipv6 { MTU_MIN_IPV6 } else { MTU_MIN };
            config.mtu = match value.parse() {
                Ok(mtu) if (min..=MTU_MAX).contains(&mtu) => mtu,
                _ => return Err(ConfigError::Mtu { value, min }),
            };
        }
        Ok(config)
    }

    /// The state directory's parent: where containers' files are.
    pub(crate) fn data_dir(&self) -> &Path {
        self.state_dir.parent().unwrap_or(&self.state_dir)
    }
}

/// What k3s keeps in the data directory of a rootless server under its usual path.
fn binds(data_dir: &Path) -> Vec<Bind> {
    [("logs", "/var/log"), ("cni", "/var/lib/cni"), ("kubelet", "/var/lib/kubelet"), ("etc/rancher", "/etc/rancher")]
        .into_iter()
        .map(|(source, target)| Bind { source: data_dir.join(source), target: target.into() })
        .collect()
}

/// What Go's `strconv.ParseBool` takes.
fn parse_bool(name: &'static str, value: String) -> Result<bool, ConfigError> {
    match value.as_str() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ConfigError::Bool { name, value }),
    }
}

fn copy_up_dir(path: &Path) -> Result<PathBuf, ConfigError> {
    // Components drop a trailing slash and "." so that a directory is not copied up twice.
    let clean: PathBuf = path.components().collect();
    let kernels = ["/", "/proc", "/sys", "/dev"].iter().any(|p| clean == Path::new(p));
    let dots = clean.components().any(|c| c == std::path::Component::ParentDir);
    if !clean.is_absolute() || kernels || dots {
        return Err(ConfigError::CopyUpDir { path: path.to_owned() });
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn parse(vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let vars = vars.iter().map(|(n, v)| (n.to_string(), v.to_string()));
        Config::from_env(vars, Path::new("/home/edge/.rancher/k3s"), false)
    }

    #[test]
    fn without_variables_it_is_as_in_k3s() {
        let config = parse(&[("PATH", "/bin"), ("K3S_ROOTLESS_MTU", "")]).unwrap();
        assert_eq!(config.state_dir, Path::new("/home/edge/.rancher/k3s/rootless"));
        assert_eq!((config.mtu, config.enable_ipv6, config.disable_host_loopback), (1500, false, true));
        assert_eq!(config.cidr.to_string(), "10.41.0.0/16");
        assert_eq!(config.cidr.tap(), Ipv4Addr::new(10, 41, 0, 100));
        assert_eq!(config.cidr.gateway(), Ipv4Addr::new(10, 41, 0, 2));
        assert_eq!(config.cidr.dns(), Ipv4Addr::new(10, 41, 0, 3));
        let dirs: Vec<_> = COPY_UP.iter().map(PathBuf::from).collect();
        assert_eq!(config.copy_up_dirs, dirs);
    }

    #[test]
    fn ipv6_follows_the_cluster_unless_set() {
        let auto = Config::from_env([], Path::new("/d"), true).unwrap();
        assert!(auto.enable_ipv6);
        assert!(parse(&[("K3S_ROOTLESS_ENABLE_IPV6", "1")]).unwrap().enable_ipv6);
    }

    #[test]
    fn every_variable_is_heard() {
        let config = parse(&[
            ("K3S_ROOTLESS_MTU", "65520"),
            ("K3S_ROOTLESS_CIDR", "192.168.128.0/24"),
            ("K3S_ROOTLESS_DISABLE_HOST_LOOPBACK", "False"),
            ("K3S_ROOTLESS_PORT_DRIVER", "Builtin"),
            ("K3S_ROOTLESS_COPYUPDIRS", "/opt/, /srv,/etc"),
        ])
        .unwrap();
        assert_eq!((config.mtu, config.disable_host_loopback), (65520, false));
        assert_eq!(config.cidr.tap(), Ipv4Addr::new(192, 168, 128, 100));
        assert_eq!(config.copy_up_dirs[4..], [PathBuf::from("/opt"), PathBuf::from("/srv")]);
    }

    #[test]
    fn drivers_are_chosen_by_name() {
        let config = parse(&[("K3S_ROOTLESS_NET_DRIVER", "pasta"), ("K3S_ROOTLESS_PORT_DRIVER", "none")]).unwrap();
        assert_eq!((config.net_driver, config.port_driver, config.mtu), (NetDriver::Pasta, PortDriver::None, 65_520));
        let config = parse(&[("K3S_ROOTLESS_NET_DRIVER", "pasta"), ("K3S_ROOTLESS_MTU", "1400")]).unwrap();
        assert_eq!(config.mtu, 1400);
        let both = [("K3S_ROOTLESS_PORT_DRIVER", "slirp4netns"), ("K3S_ROOTLESS_NET_DRIVER", "pasta")];
        assert_eq!(parse(&both).unwrap_err(), ConfigError::PortDriverAlone);
    }

    #[test]
    fn what_cannot_be_understood_is_an_error() {
        for (name, value) in [
            ("K3S_ROOTLESS_MTU", "a lot"),
            ("K3S_ROOTLESS_MTU", "67"),
            ("K3S_ROOTLESS_MTU", "65522"),
            ("K3S_ROOTLESS_CIDR", "10.41.0.1/16"),
            ("K3S_ROOTLESS_CIDR", "10.41.0.0"),
            ("K3S_ROOTLESS_CIDR", "10.41.0.0/26"),
            ("K3S_ROOTLESS_CIDR", "fd00::/64"),
            ("K3S_ROOTLESS_ENABLE_IPV6", "maybe"),
            ("K3S_ROOTLESS_DISABLE_HOST_LOOPBACK", "yes"),
            ("K3S_ROOTLESS_PORT_DRIVER", "magic"),
            ("K3S_ROOTLESS_NET_DRIVER", "vpnkit"),
            ("K3S_ROOTLESS_COPYUPDIRS", "opt"),
            ("K3S_ROOTLESS_COPYUPDIRS", "/opt,/"),
            ("K3S_ROOTLESS_COPYUPDIRS", "/opt/../etc"),
        ] {
            let error = parse(&[(name, value)]).expect_err(value).to_string();
            assert!(error.starts_with(name), "{name}={value}: {error}");
        }
        let both = [("K3S_ROOTLESS_MTU", "1000"), ("K3S_ROOTLESS_ENABLE_IPV6", "true")];
        assert!(parse(&both).is_err(), "IPv6 needs an MTU of 1280");
    }

    #[test]
    fn a_cidr_with_host_bits_is_told_its_network() {
        let error = parse(&[("K3S_ROOTLESS_CIDR", "10.41.7.1/16")]).unwrap_err();
        assert!(error.to_string().contains("10.41.0.0/16"), "{error}");
    }
}
