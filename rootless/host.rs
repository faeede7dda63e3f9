//! The server's side inside the namespaces: what it can know of the host and ask of it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupInfo;
use crate::channel::Channel;
use crate::config::{Cidr, PortDriver};
use crate::port::{HostPort, PortError, PortReply, PortRequest, Protocol};
use crate::{CHILD_FD, lifeline, name_resolution, namespaces};

static HOST: OnceLock<Host> = OnceLock::new();

/// What the launcher tells the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// The launcher's pid on the host.
    pub launcher_pid: u32,
    /// The user who launched, as on the host; 0 inside.
    pub uid: u32,
    pub gid: u32,
    pub user: String,
    /// The init of the namespaces, by its pid on the host: the one for nsenter(1).
    pub init_pid: i32,
    /// Name of the network driver.
    pub net_driver: String,
    pub network: NetworkInfo,
    /// How ports of the host come inside.
    pub port_driver: PortDriver,
    /// Whether the host's loopback can't be reached.
    pub disable_host_loopback: bool,
    /// Where `api.sock` is to be served.
    pub state_dir: PathBuf,
    /// Where pods' cgroups go.
    pub cgroup: CgroupInfo,
    /// What the kernel did not permit, worth a line in the log.
    pub warnings: Vec<String>,
}

/// The device to the network driver, and what lies behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkInfo {
    /// Name of the device.
    pub device: String,
    /// Its own address.
    pub address: Ipv4Addr,
    /// The default route, where there is a way out.
    pub gateway: Option<Ipv4Addr>,
    /// The driver's DNS forwarder.
    pub dns: Option<Ipv4Addr>,
    pub cidr: Cidr,
    /// In bytes.
    pub mtu: u32,
    /// Whether the driver carries IPv6.
    pub ipv6: bool,
}

/// The host, as the server inside reaches it. Clones are the same host.
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    info: Info,
    /// One question at a time; the launcher answers within microseconds.
    channel: Mutex<Channel>,
    /// Its other end closes when the launcher dies, see [`lifeline::tie_to`].
    _lifeline: OwnedFd,
}

/// The server could not be set up inside.
#[derive(Debug, thiserror::Error)]
pub enum EnterError {
    #[error("{CHILD_FD}={value} is no descriptor; it is set by the launcher only")]
    Marker { value: String },
    #[error("the launcher is gone: {0}")]
    Launcher(io::Error),
    #[error("cannot have the network driver's IPv6 router heard in the namespaces: {0}")]
    Router(io::Error),
    #[error("cannot write /etc/resolv.conf and /etc/hosts in the namespaces: {0}")]
    NameResolution(io::Error),
}

impl Host {
    /// The host, where this process is the server in the namespaces; `None` elsewhere.
    pub fn from_env() -> Option<Self> {
        HOST.get().cloned()
    }

    /// What the launcher said.
    pub fn info(&self) -> &Info {
        &self.0.info
    }

    /// A listener on the host's own network. Closing it frees the port. With the port driver `none` it is a listener on
    /// the loopback inside; with `slirp4netns` it listens inside, and the port is led to it until [`Self::close`].
    ///
    /// # Errors
    /// The port is in use, not permitted, or the host has no such address.
    pub fn listen_tcp(&self, address: SocketAddr) -> Result<TcpListener, PortError> {
        if self.0.info.port_driver == PortDriver::None {
            let inside = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port());
            return TcpListener::bind(inside).map_err(|e| inside_error(Protocol::Tcp, address, e));
        }
        self.open(HostPort { protocol: Protocol::Tcp, address }).map(TcpListener::from)
    }

    /// A bound socket on the host's own network. Closing it frees the port, as with [`Self::listen_tcp`].
    ///
    /// # Errors
    /// As [`Self::listen_tcp`], and always with the port driver `none`.
    pub fn bind_udp(&self, address: SocketAddr) -> Result<UdpSocket, PortError> {
        self.open(HostPort { protocol: Protocol::Udp, address }).map(UdpSocket::from)
    }

    /// Has the port driver give a port up whose socket has been closed. Closing what is not open is no error.
    ///
    /// # Errors
    /// The driver can't, or the launcher is gone.
    pub fn close(&self, protocol: Protocol, address: SocketAddr) -> Result<(), PortError> {
        let port = HostPort { protocol, address };
        self.ask(port, PortRequest::Close { port }).map(drop)
    }

    fn open(&self, port: HostPort) -> Result<OwnedFd, PortError> {
        if self.0.info.port_driver != PortDriver::Slirp4netns {
            let none = || PortError::launcher(port, io::Error::other("no socket came with the answer"));
            return self.ask(port, PortRequest::Open { port, inside: None })?.ok_or_else(none);
        }
        let failed = |e| inside_error(port.protocol, port.address, e);
        // Not the device's address: it is gone for a moment when the network driver is started anew.
        let any = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let (address, socket) = match port.protocol {
            Protocol::Tcp => TcpListener::bind(any).and_then(|s| Ok((s.local_addr()?, OwnedFd::from(s)))),
            Protocol::Udp => UdpSocket::bind(any).and_then(|s| Ok((s.local_addr()?, OwnedFd::from(s)))),
        }
        .map_err(failed)?;
        let inside = SocketAddr::new(self.0.info.network.address.into(), address.port());
        self.ask(port, PortRequest::Open { port, inside: Some(inside) })?;
        Ok(socket)
    }

    fn ask(&self, port: HostPort, request: PortRequest) -> Result<Option<OwnedFd>, PortError> {
        let failed = |source| PortError::launcher(port, source);
        // A panic elsewhere cannot leave a question half asked: a packet is sent whole.
        let channel = self.0.channel.lock().unwrap_or_else(PoisonError::into_inner);
        channel.send(&request, None).map_err(failed)?;
        match channel.receive::<PortReply>().map_err(failed)? {
            Some((PortReply::Done, socket)) => Ok(socket),
            Some((PortReply::Failed { errno }, _)) => Err(PortError::host(port, errno)),
            Some((PortReply::Refused { reason }, _)) => {
                Err(PortError::Refused { protocol: port.protocol, address: port.address, reason })
            }
            None => Err(failed(io::ErrorKind::BrokenPipe.into())),
        }
    }
}

fn inside_error(protocol: Protocol, address: SocketAddr, source: io::Error) -> PortError {
    PortError::Host { protocol, address, source }
}

/// Whether this process was started by the launcher, in the namespaces.
pub fn is_child() -> bool {
    HOST.get().is_some()
}

/// Finishes the set-up if this process was started by the launcher; returns at once otherwise.
pub(crate) fn if_asked() -> Result<(), EnterError> {
    let Some(value) = std::env::var_os(CHILD_FD) else { return Ok(()) };
    // SAFETY: this is called before the process has a second thread (see `crate::enter`).
    unsafe { std::env::remove_var(CHILD_FD) };
    let fd: Option<RawFd> = value.to_str().and_then(|v| v.parse().ok()).filter(|&fd| fd > 2);
    // SAFETY: F_GETFD only looks the number up, and fails if it is no descriptor.
    let fd = fd.filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0);
    let Some(fd) = fd else {
        return Err(EnterError::Marker { value: value.to_string_lossy().into_owned() });
    };
    // SAFETY: the launcher has passed this descriptor on to us, and nothing else in this process
    // knows it yet.
    let channel = Channel::from_fd(unsafe { OwnedFd::from_raw_fd(fd) });
    rustix::io::fcntl_setfd(&channel, rustix::io::FdFlags::CLOEXEC).map_err(|e| EnterError::Launcher(e.into()))?;
    namespaces::die_with_parent(&channel).map_err(EnterError::Launcher)?;
    let gone = || EnterError::Launcher(io::ErrorKind::BrokenPipe.into());
    let (info, lifeline) = channel.receive::<Info>().map_err(EnterError::Launcher)?.ok_or_else(gone)?;
    let lifeline = lifeline.ok_or_else(gone)?;
    lifeline::tie_to(&lifeline).map_err(EnterError::Launcher)?;
    if info.network.ipv6 {
        hear_routers(&info.network.device).map_err(EnterError::Router)?;
    }
    name_resolution::write(&info.network).map_err(EnterError::NameResolution)?;
    HOST.get_or_init(|| Host(Arc::new(Inner { info, channel: Mutex::new(channel), _lifeline: lifeline })));
    Ok(())
}

/// Drivers give the device an IPv6 address and the route by advertisements. A node forwards packets for its pods, and the
/// kernel has what forwards not listen to other routers, unless this is 2. Also by default, for the device of a driver that
/// is started anew.
fn hear_routers(device: &str) -> io::Result<()> {
    for of in ["default", device] {
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{of}/accept_ra"), "2")?;
    }
    Ok(())
}
