//! Where connections are made: the pod's addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::sys::{
    netns::{Netns, OwnAddress, OwnRange},
    userns::IdMaps,
};

/// What routing says of addresses in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    netns: Netns,
}

/// Stands for a pod's address where there is no pod (RFC 5737).
const NOBODY4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
/// The same for IPv6 (RFC 3849).
const NOBODY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77);

impl Site {
    /// A pod's namespace.
    pub const fn new(netns: Netns) -> Self {
        Self { netns }
    }

    /// A pod that is not there: it has one address of each family, and Istio's `::6`.
    pub fn imagined() -> Self {
        let own = [
            IpAddr::from(NOBODY4),
            NOBODY6.into(),
            Self::passthrough(false),
        ];
        Self::new(Netns {
            cookie: 0,
            addresses: vec![NOBODY4.into(), NOBODY6.into()],
            own: own
                .map(|addr| OwnAddress {
                    addr,
                    is_source: true,
                })
                .to_vec(),
            ranges: Vec::new(),
            broadcast: Vec::new(),
            source4: Some(NOBODY4),
            source6: Some(NOBODY6),
            ids: IdMaps::default(),
            is_initial: false,
            file: None,
        })
    }

    /// The namespace.
    pub const fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Whether a route to an address leads over `lo`.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        let is_own = |own: &OwnAddress| own.addr == addr;
        let in_range = |range: &OwnRange| range.net.contains(&addr);
        addr.is_loopback()
            || self.netns.own.iter().any(is_own)
            || self.netns.ranges.iter().any(in_range)
    }

    /// The single addresses of the pod.
    pub fn own(&self) -> impl Iterator<Item = IpAddr> {
        self.netns.own.iter().map(|own| own.addr)
    }

    /// Whether no connection can be made to an address: routing refuses it.
    pub fn refuses(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        let is_odd = match addr {
            // 0.0.0.0 itself is another name of loopback.
            IpAddr::V4(v4) => {
                v4.is_broadcast()
                    || v4 == Ipv4Addr::new(127, 255, 255, 255)
                    || v4.octets().first() == Some(&0) && !v4.is_unspecified()
            }
            IpAddr::V6(_) => false,
        };
        is_odd || addr.is_multicast() || self.netns.broadcast.contains(&addr)
    }

    /// The source of an unbound socket's packets to an address on the wire.
    pub fn source(&self, to: IpAddr) -> IpAddr {
        match to {
            IpAddr::V4(v4) if v4.is_loopback() => Ipv4Addr::LOCALHOST.into(),
            _ if self.is_local(to) => to,
            IpAddr::V4(_) => self.netns.source4.unwrap_or(NOBODY4).into(),
            IpAddr::V6(_) => self.netns.source6.unwrap_or(NOBODY6).into(),
        }
    }

    /// The address that the proxy's connections to the application come from.
    pub const fn passthrough(v4: bool) -> IpAddr {
        if v4 {
            IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6))
        } else {
            IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))
        }
    }
}
