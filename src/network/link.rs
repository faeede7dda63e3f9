//! Interfaces, addresses and routes by route netlink, in this or another network namespace.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use futures::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage, State};
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::rule::RuleAction;
use nix::sched::{CloneFlags, setns};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::Error;

/// A route netlink socket; it stays in the network namespace it was opened in.
#[derive(Clone)]
pub(crate) struct Links {
    handle: Handle,
}

/// One interface.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu: u32,
    /// It takes packets. The kernel gets there some time after it was brought up; until then it drops them.
    operational: bool,
    /// The bridge it is a port of.
    controller: Option<u32>,
    hardware_address: Vec<u8>,
}

impl Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mtu: 0,
            operational: false,
            controller: None,
            hardware_address: Vec::new(),
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::OperState(state) => link.operational = state == State::Up,
                LinkAttribute::Controller(index) => link.controller = Some(index),
                LinkAttribute::Address(address) => link.hardware_address = address,
                _ => {}
            }
        }
        link
    }
}

/// How long the kernel may take until an interface that is up takes packets.
const OPERATIONAL_WITHIN: Duration = Duration::from_secs(3);

/// MTU where no route says a better one.
const ETHERNET_MTU: u32 = 1500;

impl Links {
    /// Opens a socket in the caller's network namespace. Needs a tokio runtime.
    pub(crate) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        // It ends when the last handle is dropped.
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// Opens a socket in the network namespace of the file. A thread of its own enters it and ends: a namespace is a
    /// thread's, and one of the runtime's would have to find its way back.
    pub(crate) async fn open_in(namespace: &File) -> io::Result<Self> {
        let namespace = namespace.try_clone()?;
        let runtime = tokio::runtime::Handle::current();
        let (sender, receiver) = oneshot::channel();
        std::thread::Builder::new().name("setns".into()).spawn(move || {
            let opened = setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from).and_then(|()| {
                let _entered = runtime.enter();
                Self::open()
            });
            // Nobody waits any more: the socket is closed again.
            let _ = sender.send(opened);
        })?;
        receiver.await.map_err(|_| io::Error::other("the thread that enters the namespace died"))?
    }

    /// The interface of that name.
    pub(crate) async fn find(&self, name: &str) -> Result<Option<Link>, Error> {
        let mut found = self.handle.link().get().match_name(name).execute();
        match found.try_next().await {
            Ok(message) => Ok(message.map(Link::from)),
            Err(error) if errno(&error) == Some(nix::libc::ENODEV) => Ok(None),
            Err(error) => Err(refused(format!("look for interface {name}"), error)),
        }
    }

    /// Every port of a bridge.
    pub(crate) async fn ports(&self, bridge: &Link) -> Result<Vec<Link>, Error> {
        let links: Vec<_> = self
            .handle
            .link()
            .get()
            .execute()
            .map_ok(Link::from)
            .try_collect()
            .await
            .map_err(|error| refused("list interfaces".into(), error))?;
        Ok(links.into_iter().filter(|link| link.controller == Some(bridge.index)).collect())
    }

    /// MTU of the interface the default route leads to; Ethernet's if there is none.
    pub(crate) async fn default_route_mtu(&self) -> Result<u32, Error> {
        let routes: Vec<RouteMessage> = self
            .handle
            .route()
            .get(RouteMessageBuilder::<std::net::Ipv4Addr>::new().build())
            .execute()
            .try_collect()
            .await
            .map_err(|error| refused("list routes".into(), error))?;
        // Every table's routes come; the one for marked packets leads nowhere outside.
        let default = |route: &&RouteMessage| {
            route.header.destination_prefix_length == 0 && route.header.kind == RouteType::Unicast
        };
        let index = routes.iter().filter(default).find_map(|route| {
            route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Oif(index) => Some(*index),
                _ => None,
            })
        });
        let Some(index) = index else { return Ok(ETHERNET_MTU) };
        let link = self
            .handle
            .link()
            .get()
            .match_index(index)
            .execute()
            .try_next()
            .await
            .map_err(|error| refused(format!("look at interface {index}"), error))?;
        Ok(link.map(Link::from).map_or(ETHERNET_MTU, |link| link.mtu))
    }

    /// Makes the bridge or brings it to the wanted state: its address is `gateway` and no other.
    pub(crate) async fn ensure_bridge(&self, name: &str, gateway: IpNet, mtu: u32) -> Result<Link, Error> {
        let doing = || format!("set up bridge {name}");
        let hardware_address = hardware_address(gateway.addr());
        if self.find(name).await?.is_none() {
            let bridge = LinkBridge::new(name).address(hardware_address.clone()).mtu(mtu).build();
            self.handle.link().add(bridge).execute().await.or_else(if_exists).map_err(|e| refused(doing(), e))?;
        }
        let Some(bridge) = self.find(name).await? else {
            return Err(Error::Link { doing: doing(), source: io::ErrorKind::NotFound.into() });
        };
        let mut change = LinkUnspec::new_with_index(bridge.index).mtu(mtu).up();
        if bridge.hardware_address != hardware_address {
            change = change.address(hardware_address);
        }
        self.handle.link().set(change.build()).execute().await.map_err(|e| refused(doing(), e))?;
        self.set_address(&bridge, gateway).await?;
        Ok(bridge)
    }

    /// Gives the interface this IPv4 address and takes any other.
    pub(crate) async fn set_address(&self, link: &Link, address: IpNet) -> Result<(), Error> {
        let doing = || format!("give interface {} the address {address}", link.name);
        let present: Vec<_> = self
            .handle
            .address()
            .get()
            .set_link_index_filter(link.index)
            .execute()
            .try_collect()
            .await
            .map_err(|error| refused(doing(), error))?;
        let mut there = false;
        for message in present.into_iter().filter(|message| message.header.family == AddressFamily::Inet) {
            let same = message.header.prefix_len == address.prefix_len()
                && message.attributes.contains(&AddressAttribute::Local(address.addr()));
            if same {
                there = true;
            } else {
                self.handle.address().del(message).execute().await.map_err(|error| refused(doing(), error))?;
            }
        }
        if there {
            return Ok(());
        }
        let add = self.handle.address().add(link.index, address.addr(), address.prefix_len());
        add.execute().await.or_else(if_exists).map_err(|error| refused(doing(), error))
    }

    /// Brings the interface up.
    pub(crate) async fn up(&self, link: &Link) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(link.index).up().build();
        let set = self.handle.link().set(message).execute().await;
        set.map_err(|error| refused(format!("bring interface {} up", link.name), error))
    }

    /// Waits until the interface takes packets, but not for ever: a bridge is down while all its ports are.
    pub(crate) async fn operational(&self, name: &str) -> Result<(), Error> {
        let deadline = Instant::now() + OPERATIONAL_WITHIN;
        while !self.find(name).await?.is_some_and(|link| link.operational) {
            if Instant::now() > deadline {
                let doing = format!("bring interface {name} up");
                return Err(Error::Link { doing, source: io::ErrorKind::TimedOut.into() });
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Routes `destination` to an interface, or through `gateway` if there is one; replaces another such route.
    pub(crate) async fn route(&self, destination: IpNet, link: &Link, gateway: Option<IpAddr>) -> Result<(), Error> {
        let doing = || format!("route {destination} through interface {}", link.name);
        let invalid = |_| Error::Link { doing: doing(), source: io::ErrorKind::InvalidInput.into() };
        let mut route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(destination.network(), destination.prefix_len())
            .map_err(invalid)?
            .output_interface(link.index);
        route = match gateway {
            Some(gateway) => route.gateway(gateway).map_err(invalid)?,
            None => route.scope(netlink_packet_route::route::RouteScope::Link),
        };
        let add = self.handle.route().add(route.build()).replace().execute().await;
        add.map_err(|error| refused(doing(), error))
    }

    /// Has packets of this firewall mark delivered here, whatever their address. The routing table of that number is for
    /// this alone.
    pub(crate) async fn deliver_marked(&self, mark: u32, table: u32, priority: u32) -> Result<(), Error> {
        let doing = || format!("deliver packets with mark {mark:#x} here");
        let absent = || Error::Link { doing: doing(), source: io::ErrorKind::NotFound.into() };
        let loopback = self.find("lo").await?.ok_or_else(absent)?;
        let everything = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(Ipv4Addr::UNSPECIFIED, 0)
            .output_interface(loopback.index)
            .table_id(table)
            .scope(netlink_packet_route::route::RouteScope::Host)
            .kind(RouteType::Local)
            .build();
        let route = self.handle.route().add(everything).replace().execute().await;
        route.map_err(|error| refused(doing(), error))?;
        let rule = self.handle.rule().add().v4().fw_mark(mark).table_id(table).priority(priority);
        let rule = rule.action(RuleAction::ToTable).execute().await;
        rule.or_else(if_exists).map_err(|error| refused(doing(), error))
    }

    /// Makes a veth pair: one end here, a hairpin port of `bridge` and up; the other in `namespace` as `peer`.
    pub(crate) async fn add_veth(
        &self,
        name: &str,
        bridge: &Link,
        peer: &str,
        namespace: BorrowedFd<'_>,
        peer_address: IpAddr,
    ) -> Result<(), Error> {
        let doing = || format!("make veth pair {name}");
        let mut pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name)
            .mtu(bridge.mtu)
            .controller(bridge.index);
        let peer = LinkMessageBuilder::<LinkUnspec>::default()
            .name(peer)
            .mtu(bridge.mtu)
            // Fixed by the address, so that no neighbour's cache is stale when the address has another pod.
            .address(hardware_address(peer_address))
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        pair = pair.set_info_data(InfoData::Veth(InfoVeth::Peer(peer)));
        self.handle.link().add(pair.build()).execute().await.map_err(|error| refused(doing(), error))?;
        self.bring_up_port(name).await
    }

    /// Makes a bridge port reflect what its own pod sends to itself through a service, and brings it up.
    pub(crate) async fn bring_up_port(&self, name: &str) -> Result<(), Error> {
        let Some(port) = self.find(name).await? else {
            let doing = format!("set up bridge port {name}");
            return Err(Error::Link { doing, source: io::ErrorKind::NotFound.into() });
        };
        let hairpin = LinkBridgePort::new(port.index).hairpin(true).build();
        let set = self.handle.link().set_port(hairpin).execute().await;
        set.map_err(|error| refused(format!("set hairpin mode of bridge port {name}"), error))?;
        self.up(&port).await
    }

    /// Removes an interface, if it is there.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), Error> {
        let Some(link) = self.find(name).await? else { return Ok(()) };
        match self.handle.link().del(link.index).execute().await {
            Err(error) if errno(&error) != Some(nix::libc::ENODEV) => {
                Err(refused(format!("remove interface {name}"), error))
            }
            _ => Ok(()),
        }
    }
}

/// Opens the file of a network namespace.
pub(crate) fn namespace(path: &Path) -> Result<File, Error> {
    File::open(path).map_err(|source| Error::Namespace { path: path.to_owned(), source })
}

/// A locally administered hardware address made of the IP address, as bridge CNI plugins make it.
fn hardware_address(address: IpAddr) -> Vec<u8> {
    let tail = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let octets = address.octets();
            [octets[12], octets[13], octets[14], octets[15]]
        }
    };
    [&[0x0a, 0x58], &tail[..]].concat()
}

/// The kernel's error number, positive.
fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(message.raw_code().abs()),
        _ => None,
    }
}

/// Success if all that is wrong is that it exists.
fn if_exists(error: rtnetlink::Error) -> Result<(), rtnetlink::Error> {
    if errno(&error) == Some(nix::libc::EEXIST) { Ok(()) } else { Err(error) }
}

fn refused(doing: String, error: rtnetlink::Error) -> Error {
    let source = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    };
    Error::Link { doing, source }
}
