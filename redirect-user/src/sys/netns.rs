//! Network namespaces: naming one, and reading its cookie and addresses from inside.
#![expect(unsafe_code, reason = "SO_NETNS_COOKIE has no safe wrapper")]

use std::{
    fmt,
    fs::{self, File, Metadata},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
    path::PathBuf,
    str::FromStr,
};

use anyhow::{Context as _, Result, anyhow, bail};
use ipnet::IpNet;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    },
};
use rustix::{
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// How a user names a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsRef {
    /// A file, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    Path(PathBuf),
    /// The namespace of a process: `pid:N`.
    Pid(u32),
    /// The caller's own.
    Own,
}

impl FromStr for NetnsRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("pid:") {
            Some(pid) => pid
                .parse()
                .map(Self::Pid)
                .map_err(|_not_a_number| format!("\"{pid}\" is not a process id")),
            None if text.is_empty() => Err("empty: give a path or pid:N".into()),
            None => Ok(Self::Path(text.into())),
        }
    }
}

impl fmt::Display for NetnsRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "pid:{pid}"),
            Self::Own => f.write_str("the caller's own"),
        }
    }
}

impl NetnsRef {
    /// Does something inside the namespace, in a thread of its own. Programs that it starts are
    /// inside as well.
    pub(super) fn within<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let file = self.open()?;
        let enter = || -> Result<T> {
            // Entering takes a privilege, also for the namespace one is in.
            if !is_current(&file)? {
                match move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)) {
                    Err(Errno::INVAL) => bail!("it is not a network namespace"),
                    entered => entered.context("enter it (needs CAP_SYS_ADMIN)")?,
                }
            }
            act()
        };
        std::thread::scope(|scope| scope.spawn(enter).join())
            .map_err(|_panic| anyhow!("the thread that entered it panicked"))?
    }

    fn open(&self) -> Result<File> {
        let path = match self {
            Self::Path(path) => path.clone(),
            Self::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
            Self::Own => PathBuf::from("/proc/self/ns/net"),
        };
        File::open(&path).with_context(|| format!("open network namespace \"{}\"", path.display()))
    }
}

/// What the redirector needs to know of a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns {
    /// The kernel's name for it.
    pub cookie: u64,
    /// Its own addresses; a prefix shorter than an address is an any-IP route.
    pub own: Vec<IpNet>,
    /// Its subnets' broadcast addresses.
    pub broadcast: Vec<IpAddr>,
    /// The source address that an IPv4 connection to the outside shows.
    pub source4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub source6: Option<Ipv6Addr>,
}

impl Netns {
    /// Reads a namespace, from inside, in a thread of its own.
    pub fn read(name: &NetnsRef) -> Result<Self> {
        name.within(Self::read_current)
            .with_context(|| format!("read network namespace \"{name}\""))
    }

    fn read_current() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .context("start a runtime")?;
        let routes = runtime.block_on(local_routes())?;
        let (mut own, mut broadcast) = (Vec::new(), Vec::new());
        for route in routes {
            let Some(net) = destination(&route) else {
                continue;
            };
            if net.addr().is_loopback() {
                continue;
            }
            if route.header.kind == RouteType::Local {
                own.push(net);
            } else if route.header.kind == RouteType::Broadcast {
                broadcast.push(net.addr());
            }
        }
        own.sort_unstable();
        own.dedup();
        broadcast.sort_unstable();
        broadcast.dedup();
        let source4 = source(IpAddr::V4(DOCUMENTATION4))
            .or_else(|| own.iter().map(IpNet::addr).find(IpAddr::is_ipv4));
        let source6 = source(IpAddr::V6(DOCUMENTATION6))
            .or_else(|| own.iter().map(IpNet::addr).find(is_global6));
        Ok(Self {
            cookie: cookie()?,
            own,
            broadcast,
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
        })
    }
}

/// Whether `file` is the network namespace of this thread.
fn is_current(file: &File) -> Result<bool> {
    let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
    let own = fs::metadata("/proc/thread-self/ns/net").context("look at the own namespace")?;
    Ok(identity(own) == identity(file.metadata().context("look at it")?))
}

/// TEST-NET-1 (RFC 5737): an address of the outside that is nobody's.
const DOCUMENTATION4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The documentation prefix (RFC 3849), likewise.
const DOCUMENTATION6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// `RT_TABLE_LOCAL` (include/uapi/linux/rtnetlink.h).
const RT_TABLE_LOCAL: u8 = 255;

fn is_global6(addr: &IpAddr) -> bool {
    matches!(addr, IpAddr::V6(v6) if !v6.is_unicast_link_local() && !v6.is_multicast() && v6.segments() != [0, 0, 0, 0, 0, 0, 0, 6])
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

/// `ip route show table local`, both families.
async fn local_routes() -> Result<Vec<RouteMessage>> {
    let (connection, handle, _) = rtnetlink::new_connection().context("open a netlink socket")?;
    let task = tokio::spawn(connection);
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessageBuilder::<IpAddr>::new().build();
        request.header.address_family = family;
        let mut answers = handle.route().get(request).execute();
        while let Some(route) = futures_util::TryStreamExt::try_next(&mut answers)
            .await
            .context("list the local routing table")?
        {
            if route.header.table == RT_TABLE_LOCAL {
                routes.push(route);
            }
        }
    }
    task.abort();
    Ok(routes)
}

fn destination(route: &RouteMessage) -> Option<IpNet> {
    let length = route.header.destination_prefix_length;
    route.attributes.iter().find_map(|attribute| {
        let RouteAttribute::Destination(address) = attribute else {
            return None;
        };
        let addr: IpAddr = if let RouteAddress::Inet(v4) = address {
            (*v4).into()
        } else if let RouteAddress::Inet6(v6) = address {
            (*v6).into()
        } else {
            return None;
        };
        IpNet::new(addr, length).ok()
    })
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
