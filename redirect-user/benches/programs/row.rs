//! The rows: kinds of pods whose connections are measured.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde::Serialize;

/// One kind of pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Row {
    /// Whether the destinations are IPv6 addresses.
    pub(crate) ipv6: bool,
    /// The number of destinations, which are dialled in turn.
    pub(crate) destinations: u32,
    /// Whether inbound connections are redirected (`-b '*'`), too.
    pub(crate) inbound: bool,
}

impl Row {
    /// All rows, in the order of the table.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [false, true].into_iter().flat_map(|ipv6| {
            [1, 4_000, 100_000]
                .into_iter()
                .flat_map(move |destinations| {
                    [false, true].map(move |inbound| Self {
                        ipv6,
                        destinations,
                        inbound,
                    })
                })
        })
    }

    /// The first destination. No host has one of the addresses.
    pub(crate) const fn first(self) -> SocketAddr {
        let ip = if self.ipv6 {
            IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x99, 0, 0, 0, 0, 1))
        } else {
            IpAddr::V4(Ipv4Addr::new(36, 152, 44, 96))
        };
        SocketAddr::new(ip, 80)
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        let inbound = if self.inbound { ", -b '*'" } else { "" };
        write!(f, "{family}, {} destinations{inbound}", self.destinations)
    }
}
