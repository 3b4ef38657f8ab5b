//! A snapshot of a network namespace: addresses, routes and ids, as the redirector needs them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    path::Path,
};

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::{
    address::{LocalAddress, LocalRange},
    cookie,
    file::NetnsFile,
    netlink::Listing,
    open::{NetnsHandle, NetnsRef},
    routing::Routing,
};
use crate::sys::userns::IdMaps;

/// The properties of a network namespace that the redirector needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetnsSnapshot {
    /// The number by which programs know the namespace.
    pub cookie: u64,
    /// The addresses of the interfaces, in the kernel's order.
    pub addresses: Vec<IpAddr>,
    /// The local addresses.
    pub locals: Vec<LocalAddress>,
    /// The ranges whose addresses are all local: any-IP routes.
    pub ranges: Vec<LocalRange>,
    /// The broadcast addresses of the subnets.
    pub broadcast: Vec<IpAddr>,
    /// The interfaces and routes by which packets leave.
    pub routing: Routing,
    /// The source address of IPv4 connections to other hosts.
    pub source4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub source6: Option<Ipv6Addr>,
    /// The id maps of the user namespace that owns the network namespace. iptables rules use the ids
    /// of that user namespace.
    pub ids: IdMaps,
    /// Whether this is the initial network namespace, the machine's own.
    pub is_initial: bool,
    /// A descriptor of the namespace. `None` in a snapshot that was not read from the kernel.
    pub file: Option<NetnsFile>,
}

impl NetnsSnapshot {
    /// Reads a namespace from inside, in a new thread.
    pub fn read(name: &NetnsRef) -> Result<Self> {
        name.open()?.read()
    }

    /// Reads the current thread's namespace, with the ids of the initial user namespace.
    fn read_current() -> Result<Self> {
        let Listing {
            addresses,
            locals,
            ranges,
            broadcast,
            routing,
        } = Listing::read()?;
        let mut hosts = locals.iter().map(|local| local.addr);
        let source4 =
            source(IpAddr::V4(DOCUMENTATION4)).or_else(|| hosts.clone().find(IpAddr::is_ipv4));
        let source6 = source(IpAddr::V6(DOCUMENTATION6)).or_else(|| hosts.find(is_global6));
        Ok(Self {
            cookie: cookie::current()?,
            addresses,
            locals,
            ranges: ranges.into_iter().map(local_range).collect(),
            broadcast,
            routing,
            source4: source4.and_then(|addr| {
                if let IpAddr::V4(addr) = addr {
                    Some(addr)
                } else {
                    None
                }
            }),
            source6: source6.and_then(|addr| {
                if let IpAddr::V6(addr) = addr {
                    Some(addr)
                } else {
                    None
                }
            }),
            ids: IdMaps::default(),
            is_initial: Path::new(INITIAL_ONLY).exists(),
            file: Some(NetnsFile::current()?),
        })
    }
}

impl NetnsHandle {
    /// Reads the current properties of the namespace.
    pub fn read(&self) -> Result<NetnsSnapshot> {
        let reading = || format!("read network namespace \"{}\"", self.name());
        let netns = self
            .inside(NetnsSnapshot::read_current)
            .with_context(reading)?;
        let ids = IdMaps::of_owner(self.as_fd()).with_context(reading)?;
        Ok(NetnsSnapshot { ids, ..netns })
    }
}

/// A setting that only the initial network namespace has: `net/core/sysctl_net_core.c` registers it
/// in no other one.
const INITIAL_ONLY: &str = "/proc/sys/net/core/netdev_max_backlog";

/// An address of TEST-NET-1 (RFC 5737): outside of the namespace, and assigned to no host.
const DOCUMENTATION4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The same for IPv6: an address of the documentation prefix (RFC 3849).
const DOCUMENTATION6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The address from which a sidecar delivers inbound connections.
const PASSTHROUGH6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// The range with the source address that the kernel picks for it.
fn local_range(net: IpNet) -> LocalRange {
    let some = net.hosts().nth(1).unwrap_or_else(|| net.addr());
    LocalRange {
        net,
        from_passthrough: source(some) == Some(PASSTHROUGH6.into()),
    }
}

fn is_global6(addr: &IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if !v6.is_unicast_link_local() && !v6.is_multicast() && *v6 != PASSTHROUGH6)
}

/// The source address that the kernel picks for `to`. Connecting a UDP socket sends no packet.
fn source(to: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    let addr = socket.local_addr().ok()?.ip();
    (!addr.is_loopback()).then_some(addr)
}
