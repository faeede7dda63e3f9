//! What a host may lack, and the command that mends each.

use std::io;
use std::path::PathBuf;

use ipnet::Ipv4Net;

use crate::network::pasta::PastaError;
use crate::network::slirp4netns::SlirpError;
use crate::subid::{IdKind, NEEDED};

/// One thing the host lacks. Its text is the problem; [`Self::remedy`] says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    #[error("no {kind} for user {user}: {place} has no line for it")]
    NoSubIds { kind: IdKind, user: String, place: SubIdSource, first: u32 },
    #[error("too few {kind} for user {user}: {place} gives {count}, and {NEEDED} are needed")]
    TooFewSubIds { kind: IdKind, user: String, place: SubIdSource, count: u64, first: u32 },
    #[error("cannot read {file:?} for the {kind} of user {user}: {error}")]
    SubIdFile { kind: IdKind, user: String, file: PathBuf, error: io::Error },
    #[error("cannot run getsubids for the {kind} of user {user}, though nsswitch.conf names {service}: {error}")]
    GetSubIds { kind: IdKind, user: String, service: String, error: String },
    #[error("{tool} is missing")]
    NoMappingTool { tool: &'static str },
    #[error("{path:?} is neither set-user-id root nor has cap_set{id}")]
    UnprivilegedMappingTool { path: PathBuf, id: &'static str },
    #[error("the process may not gain privileges (no_new_privs), so newuidmap cannot map sub-ids")]
    NoNewPrivileges,
    #[error("user namespaces are switched off (user.max_user_namespaces=0)")]
    MaxUserNamespaces,
    #[error("ordinary users may not make user namespaces (kernel.unprivileged_userns_clone=0)")]
    UnprivilegedUsernsClone,
    #[error("AppArmor keeps ordinary users from user namespaces (kernel.apparmor_restrict_unprivileged_userns=1)")]
    AppArmor { exe: String },
    #[error("{path:?} is missing")]
    NoTun { path: PathBuf },
    #[error("{path:?} may not be opened by this user")]
    TunPermission { path: PathBuf },
    #[error("cannot open {path:?}: {source}")]
    Tun { path: PathBuf, source: io::Error },
    #[error("{cidr}, the network to the network driver, collides with {network} of the host's device {device}")]
    CidrCollides { cidr: Ipv4Net, network: Ipv4Net, device: String, free: Ipv4Net },
    #[error("the data directory {path:?} is on a file system mounted noexec ({mount_point:?}): containers cannot run")]
    NoExec { path: PathBuf, mount_point: PathBuf },
    #[error("the data directory {path:?} is on {kind}, which knows neither sub-ids nor overlays")]
    NetworkFileSystem { path: PathBuf, kind: &'static str },
    #[error("cannot look at the file system of the data directory {path:?}: {source}")]
    FileSystem { path: PathBuf, source: io::Error },
    #[error("ports below {first} of the host are not for ordinary users; they are opened 10000 higher")]
    PrivilegedPorts { first: u16 },
    #[error(transparent)]
    Slirp4netns(#[from] SlirpError),
    #[error(transparent)]
    Pasta(#[from] PastaError),
}

/// Where sub-ids are written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubIdSource {
    File(PathBuf),
    /// A service that nsswitch.conf names for `subid`, such as `sss`.
    Service(String),
}

impl std::fmt::Display for SubIdSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{path:?}"),
            Self::Service(service) => write!(f, "the service {service:?} of nsswitch.conf"),
        }
    }
}

impl CheckError {
    /// What mends it: a command, or what to change.
    pub fn remedy(&self) -> String {
        match self {
            Self::NoSubIds { place: SubIdSource::Service(service), user, .. }
            | Self::TooFewSubIds { place: SubIdSource::Service(service), user, .. } => {
                format!("give {user} a range of {NEEDED} in {service:?}; getsubids {user} shows what there is")
            }
            Self::NoSubIds { kind, user, first, .. } | Self::TooFewSubIds { kind, user, first, .. } => {
                let option = kind.usermod_option();
                format!("add a range with: sudo usermod {option} {first}-{} {user}", first + (NEEDED - 1))
            }
            Self::SubIdFile { file, .. } => format!("make it readable with: sudo chmod 0644 {}", file.display()),
            Self::GetSubIds { .. } => {
                "install it with: sudo apt-get install uidmap; or take the line subid: out of /etc/nsswitch.conf".into()
            }
            Self::NoMappingTool { .. } => {
                "install it with: sudo apt-get install uidmap (Fedora: shadow-utils, Alpine: shadow-subids)".into()
            }
            Self::UnprivilegedMappingTool { path, .. } => format!("mend it with: sudo chmod u+s {}", path.display()),
            Self::NoNewPrivileges => "start k3s without it (systemd: NoNewPrivileges=no)".into(),
            Self::MaxUserNamespaces => allow("user.max_user_namespaces=28633"),
            Self::UnprivilegedUsernsClone => allow("kernel.unprivileged_userns_clone=1"),
            Self::AppArmor { exe } => format!(
                "either write a profile for {exe} that has 'userns,', or {}",
                allow("kernel.apparmor_restrict_unprivileged_userns=0")
            ),
            Self::NoTun { .. } => {
                "load it with: sudo modprobe tun (and: echo tun | sudo tee /etc/modules-load.d/tun.conf)".into()
            }
            Self::TunPermission { path } => format!("allow it with: sudo chmod 0666 {}", path.display()),
            Self::Tun { .. } => "load the driver with: sudo modprobe tun".into(),
            Self::CidrCollides { free, .. } => {
                format!("choose another network, as in: export K3S_ROOTLESS_CIDR={free}")
            }
            Self::NoExec { mount_point, .. } => format!(
                "use another --data-dir, or allow it with: sudo mount -o remount,exec {}",
                mount_point.display()
            ),
            Self::NetworkFileSystem { .. } | Self::FileSystem { .. } => {
                "put it on a local disk, as in: k3s server --rootless --data-dir=/var/tmp/k3s-$(id -un)".into()
            }
            Self::PrivilegedPorts { .. } => allow("net.ipv4.ip_unprivileged_port_start=0"),
            Self::Slirp4netns(error) => error.remedy(),
            Self::Pasta(error) => error.remedy(),
        }
    }
}

fn allow(setting: &str) -> String {
    format!("allow it with: sudo sysctl -w {setting} (and in /etc/sysctl.d to keep it)")
}
