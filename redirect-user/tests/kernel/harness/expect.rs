//! The expected view of a dial, and its comparison with the real one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use redirect_testkit::{Dial, DialOutcome, DialReport, Mode, Pod, World};

use super::{DNS_PORT, IN_PORT, OUT_PORT};

/// The server that answers.
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
    /// No server: the connect fails, but not with `ECONNREFUSED`.
    Absent,
}

impl Server {
    /// Whether the connection is redirected to this server.
    pub(crate) const fn is_redirect(self) -> bool {
        matches!(self, Self::Out | Self::In | Self::Dns)
    }
}

/// A connection as both of its ends see it, which is the same under iptables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    server: Option<String>,
    orig_dst: Option<SocketAddr>,
    peername: Option<SocketAddr>,
    /// The client's address, at both ends.
    source: Option<IpAddr>,
    /// The server's address at the server.
    local: Option<SocketAddr>,
}

impl Expected {
    /// The expected view of `dial` if `by` answers.
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
            Server::Absent => return Self::absent(),
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

    /// The expected view if the world dials a pod whose inbound connections are redirected: every server sees an
    /// original destination.
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
        if by == Server::Absent {
            return expected;
        }
        Self {
            orig_dst: Some(dial.to),
            source: Some(source),
            local,
            ..expected
        }
    }

    const fn absent() -> Self {
        Self {
            server: None,
            orig_dst: None,
            peername: None,
            source: None,
            local: None,
        }
    }

    /// The real view; an error if the two ends disagree about the client's address.
    pub(crate) fn seen(dialled: &DialReport) -> Result<Self, String> {
        let banner = match (&dialled.outcome, dialled.banner()) {
            (DialOutcome::Failed { .. }, _) => return Ok(Self::absent()),
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

    /// The difference between the expected view and a dial as text; none if they are equal.
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

/// The destination on the wire: the kernel replaces the zero address with the loopback address.
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
