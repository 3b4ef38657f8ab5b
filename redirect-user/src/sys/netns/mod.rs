//! Network namespaces: naming one, and reading its cookie and addresses from inside.
#![expect(unsafe_code, reason = "SO_NETNS_COOKIE has no safe wrapper")]

mod file;
mod netlink;
mod open;
mod routing;
mod watch;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;

use self::netlink::Listing;
pub use self::{
    file::NetnsFile,
    open::{NetnsHandle, NetnsId, NetnsRef},
    routing::{NetInterface, Obstacle, Route, Routing},
    watch::Watch,
};
use super::userns::IdMaps;

/// What the redirector needs to know of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetnsSnapshot {
    /// The kernel's name for it.
    pub cookie: u64,
    /// Its interfaces' addresses, in the kernel's order.
    pub addresses: Vec<IpAddr>,
    /// Its own addresses.
    pub own: Vec<LocalAddress>,
    /// Ranges of which every address is its own: any-IP routes.
    pub ranges: Vec<LocalRange>,
    /// Its subnets' broadcast addresses.
    pub broadcast: Vec<IpAddr>,
    /// Where its packets leave.
    pub routing: Routing,
    /// The source address that an IPv4 connection to the outside shows.
    pub source4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub source6: Option<Ipv6Addr>,
    /// The ids of the user namespace that owns it, which its rules are written in.
    pub ids: IdMaps,
    /// Whether it is the first one, the machine's own.
    pub is_initial: bool,
    /// What it can be reached by, unless it is only imagined.
    pub file: Option<NetnsFile>,
}

/// An address of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalAddress {
    /// The address.
    pub addr: IpAddr,
    /// Whether connections to it come from itself. Those to a secondary IPv4 address come from the
    /// primary one of its subnet.
    pub is_source: bool,
}

/// A range that is a namespace's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalRange {
    /// The range.
    pub net: IpNet,
    /// Whether sockets that are not bound connect to it from `::6`.
    pub from_passthrough: bool,
}

impl NetnsSnapshot {
    /// Reads a namespace, from inside, in a thread of its own.
    pub fn read(name: &NetnsRef) -> Result<Self> {
        name.open()?.read()
    }

    /// Reads the current thread's, as if the first user namespace owned it.
    fn read_current() -> Result<Self> {
        let Listing {
            addresses,
            own,
            ranges,
            broadcast,
            routing,
        } = Listing::read()?;
        let mut hosts = own.iter().map(|own| own.addr);
        let source4 =
            source(IpAddr::V4(DOCUMENTATION4)).or_else(|| hosts.clone().find(IpAddr::is_ipv4));
        let source6 = source(IpAddr::V6(DOCUMENTATION6)).or_else(|| hosts.find(is_global6));
        Ok(Self {
            cookie: cookie()?,
            addresses,
            own,
            ranges: ranges.into_iter().map(own_range).collect(),
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
            is_initial: Path::new(OF_THE_MACHINE).exists(),
            file: Some(NetnsFile::current()?),
        })
    }
}

/// A setting that only the first network namespace has: `net/core/sysctl_net_core.c` registers it
/// nowhere else.
const OF_THE_MACHINE: &str = "/proc/sys/net/core/netdev_max_backlog";

/// TEST-NET-1 (RFC 5737): an address of the outside that is nobody's.
const DOCUMENTATION4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The documentation prefix (RFC 3849), likewise.
const DOCUMENTATION6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// The address that a sidecar delivers inbound connections from.
const PASSTHROUGH6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

fn own_range(net: IpNet) -> LocalRange {
    let some = net.hosts().nth(1).unwrap_or_else(|| net.addr());
    LocalRange {
        net,
        from_passthrough: source(some) == Some(PASSTHROUGH6.into()),
    }
}

fn is_global6(addr: &IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if !v6.is_unicast_link_local() && !v6.is_multicast() && *v6 != PASSTHROUGH6)
}

/// The source address the kernel picks for `to`. Connecting a UDP socket sends nothing.
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

impl NetnsHandle {
    /// The kernel's name for it.
    pub fn cookie(&self) -> Result<u64> {
        self.inside(cookie)
    }
}

/// The cookie of the current thread's network namespace.
fn cookie() -> Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open a socket")?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>())?;
    // SAFETY: the option writes a u64 and its length, and both pointers are to that.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if status != 0 {
        return Err(std::io::Error::last_os_error())
            .context("ask for SO_NETNS_COOKIE (since Linux 5.14)");
    }
    if cookie == 0 {
        bail!("the kernel gave no network namespace cookie");
    }
    Ok(cookie)
}

/// `SO_NETNS_COOKIE` (include/uapi/asm-generic/socket.h).
const SO_NETNS_COOKIE: libc::c_int = 71;
