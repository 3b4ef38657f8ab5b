//! What a dial is expected to see, and the comparison with what it saw.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use redirect_testkit::{Dial, DialOutcome, DialReport, Mode, Pod, World};

use super::{DNS_PORT, IN_PORT, OUT_PORT};

/// Server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    /// The proxy, at its outbound port.
    Out,
    /// The proxy, at its inbound port.
    In,
    /// The proxy, as a resolver.
    Dns,
    /// The application.
    App,
    /// The world.
    World,
    /// Nobody: the connect fails, and not because it was refused.
    Nobody,
}

impl Server {
    /// Whether the connection is redirected.
    pub(crate) const fn is_redirect(self) -> bool {
        matches!(self, Self::Out | Self::In | Self::Dns)
    }
}

/// What a connection looks like from both of its ends, as under iptables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    server: Option<String>,
    orig_dst: Option<SocketAddr>,
    peername: Option<SocketAddr>,
    /// The client's address, at both ends.
    source: Option<IpAddr>,
    /// The server's own address.
    local: Option<SocketAddr>,
}

impl Expected {
    /// What `by` answering `dial` looks like.
    pub(crate) fn of(by: Server, dial: &Dial) -> Self {
        let to = wired(dial.to);
        let loopback = if to.is_ipv4() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        };
        let (name, local) = match by {
            Server::Out => ("out", SocketAddr::new(loopback, OUT_PORT)),
            Server::In => ("in", SocketAddr::new(loopback, IN_PORT)),
            Server::Dns => ("dns", SocketAddr::new(loopback, DNS_PORT)),
            Server::App => ("app", to),
            Server::World => ("world", to),
            Server::Nobody => return Self::nobody(),
        };
        let family = if to.is_ipv4() { 4 } else { 6 };
        let is_udp = dial.mode == Mode::Udp;
        let server = if is_udp {
            format!("{name} udp {local}")
        } else {
            format!("{name}{family}:{}", local.port())
        };
        Self {
            server: Some(server),
            orig_dst: (by.is_redirect() && !is_udp).then_some(to),
            peername: Some(to),
            source: Some(dial.bind.map_or_else(|| source(to), |bound| bound.ip())),
            local: Some(local),
        }
    }

    /// What it looks like if the world makes the connection, to a pod whose inbound is redirected:
    /// every server is told an original destination.
    pub(crate) fn arrived(by: Server, dial: &Dial) -> Self {
        let (source, own) = if dial.to.is_ipv4() {
            (IpAddr::V4(World::V4), IpAddr::V4(Pod::V4))
        } else {
            (IpAddr::V6(World::V6), IpAddr::V6(Pod::V6))
        };
        let expected = Self::of(by, dial);
        let local = if by == Server::In {
            Some(SocketAddr::new(own, IN_PORT))
        } else {
            expected.local
        };
        if by == Server::Nobody {
            return expected;
        }
        Self {
            orig_dst: Some(dial.to),
            source: Some(source),
            local,
            ..expected
        }
    }

    const fn nobody() -> Self {
        Self {
            server: None,
            orig_dst: None,
            peername: None,
            source: None,
            local: None,
        }
    }

    /// What it really looked like; an error if the two ends disagree about the client's address.
    pub(crate) fn seen(dialled: &DialReport) -> Result<Self, String> {
        let banner = match (&dialled.outcome, dialled.banner()) {
            (DialOutcome::Failed { .. }, _) => return Ok(Self::nobody()),
            (_, Some(banner)) => banner,
            (_, None) => return Err("no banner".to_owned()),
        };
        if banner.peer != dialled.sockname {
            return Err("the ends disagree about the client's address".to_owned());
        }
        Ok(Self {
            server: Some(banner.server.clone()),
            orig_dst: banner.orig_dst,
            peername: dialled.peername,
            source: dialled.sockname.map(|addr| addr.ip()),
            local: banner.local,
        })
    }

    /// How a dial differs from what was expected, in words; nothing if it does not.
    pub(crate) fn difference(&self, dialled: &DialReport) -> Option<String> {
        match Self::seen(dialled) {
            Ok(seen) if seen == *self => None,
            Ok(seen) => Some(format!(
                "expected {self:?}\n  but saw {seen:?}\n  in {dialled:?}"
            )),
            Err(reason) => Some(format!("expected {self:?}\n  but {reason}: {dialled:?}")),
        }
    }
}

/// The address on the wire: the kernel makes the zero address the loopback one.
const fn wired(to: SocketAddr) -> SocketAddr {
    let ip = match to.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, to.port())
}

/// The source address that the kernel chooses in a pod.
const fn source(to: SocketAddr) -> IpAddr {
    match to {
        SocketAddr::V4(to) if to.ip().is_loopback() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        SocketAddr::V6(to) if to.ip().is_loopback() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        SocketAddr::V4(_) => IpAddr::V4(Pod::V4),
        SocketAddr::V6(_) => IpAddr::V6(Pod::V6),
    }
}
