//! Loopback addresses that stand for original destinations.
//!
//! A proxy that listens on the wildcard address takes connections at all of 127/8, so the address
//! that a redirected connection goes to can itself say where it was going. Such a connection needs
//! no record: neither the handshake's nor either socket's.

use super::{ABI_VERSION, MAX_STAND_INS};
use crate::net::{BeAddr, BePort};

/// The first address that is a stand-in in some layout, of 127.192/11. Neither 127.0.0.1, nor Istio's 127.0.0.6, nor a
/// name server's 127.53/16, nor the broadcast address at the end of 127/8 is among them. Layouts that follow each
/// other have different halves: where one takes over from the other both answer for a while, and none may answer for
/// the other's.
const LOWER_HALF: u32 = BeAddr::from_octets4([127, 192, 0, 0]).word4();
/// The bit that tells the halves apart.
const HALF: u32 = BeAddr::from_octets4([0, 16, 0, 0]).word4();
/// The first stand-in of this layout.
const FIRST: u32 = if ABI_VERSION.is_multiple_of(2) {
    LOWER_HALF
} else {
    LOWER_HALF | HALF
};
/// The bits of an address that tell stand-ins apart.
const APART: u32 = BeAddr::from_octets4([0, 15, 255, 255]).word4();
/// How many stand-ins a destination has, a power of two: each is another range of source ports, 28,232 with
/// the default range.
pub const PER_DESTINATION: u32 = 4;

const _: () = assert!(
    MAX_STAND_INS < 1 << APART.count_ones(),
    "most destinations find a free stand-in"
);

/// 2^64 divided by the golden ratio: what `SplitMix64` steps by.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014):
/// every bit of the result depends on every bit of the word.
const fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// An IPv4 destination, and the port of the proxy that its connections are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Destination {
    /// The address that is dialled, in network byte order.
    pub addr: u32,
    /// The port that is dialled.
    pub port: BePort,
    /// The proxy's port.
    pub target: BePort,
}

impl Destination {
    /// Of an IPv4 address.
    #[must_use]
    pub const fn new(addr: BeAddr, port: BePort, target: BePort) -> Self {
        Self {
            addr: addr.word4(),
            port,
            target,
        }
    }

    /// One of the addresses that may stand for it, where `number` says which. Another destination may
    /// have it already.
    #[must_use]
    pub const fn stand_in(self, number: u32) -> StandIn {
        let ports = (self.port.to_network() as u32) << 16 | self.target.to_network() as u32;
        let word = (self.addr as u64) << 32 | ports as u64;
        let number = (number & (PER_DESTINATION - 1)) as u64;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "one bit is as good as another"
        )]
        let hash = mixed(word.wrapping_add(number.wrapping_mul(GOLDEN))) as u32;
        StandIn(FIRST | hash & APART)
    }

    /// Its address.
    #[must_use]
    pub const fn addr(self) -> BeAddr {
        BeAddr::from_network4(self.addr)
    }

    /// Equality that compiles to comparisons.
    #[must_use]
    pub const fn same(self, other: Self) -> bool {
        self.addr == other.addr
            && self.port.to_network() == other.port.to_network()
            && self.target.to_network() == other.target.to_network()
    }
}

/// A loopback address that may stand for a destination, in network byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct StandIn(u32);

/// Where a stand-in stands for a destination. Not everywhere: what pods dial is their own business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct StandInKey {
    /// The network namespace's cookie.
    pub netns: u64,
    /// The address.
    pub stand_in: StandIn,
    /// Zero.
    pub reserved: u32,
}

impl StandInKey {
    /// Of an address in a namespace.
    #[must_use]
    pub const fn new(netns: u64, stand_in: StandIn) -> Self {
        Self {
            netns,
            stand_in,
            reserved: 0,
        }
    }
}

impl StandIn {
    /// The address, if it is one of them.
    #[must_use]
    pub const fn of(addr: BeAddr) -> Option<Self> {
        if addr.is_v4() && addr.word4() & !APART == FIRST {
            Some(Self(addr.word4()))
        } else {
            None
        }
    }

    /// Whether an address may be a stand-in of any layout.
    #[must_use]
    pub const fn is_of_any_layout(addr: BeAddr) -> bool {
        addr.is_v4() && addr.word4() & !(APART | HALF) == LOWER_HALF
    }

    /// The address.
    #[must_use]
    pub const fn addr(self) -> BeAddr {
        BeAddr::from_network4(self.0)
    }
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    extern crate std;
    use std::collections::BTreeSet;

    use super::*;

    fn destination(addr: [u8; 4], port: u16) -> Destination {
        Destination::new(
            Ipv4Addr::from(addr).into(),
            BePort::new(port),
            BePort::new(15001),
        )
    }

    #[test]
    fn a_destination_has_four_addresses_and_none_is_another_ones_name() {
        let mut all = BTreeSet::new();
        for host in 0..=255 {
            for port in [53, 80, 443, 8080] {
                let some = destination([10, 96, 7, host], port);
                let addresses: BTreeSet<IpAddr> = (0..100)
                    .map(|number| some.stand_in(number).addr().into())
                    .collect();
                assert_eq!(addresses.len(), 4);
                all.extend(addresses);
            }
        }
        // 4,096 among a million: eight that are taken already are to be expected.
        assert!(all.len() >= 4 * 1024 - 25, "{}", all.len());
    }

    #[test]
    fn they_are_loopback_addresses_that_are_known_again() {
        for number in 0..4 {
            for addr in [[36, 152, 44, 96], [255, 255, 255, 255], [0, 0, 0, 0]] {
                let addr = destination(addr, 80).stand_in(number).addr();
                assert!(addr.is_v4() && addr.is_loopback() && !addr.is_not_unicast());
                assert_eq!(StandIn::of(addr).map(StandIn::addr), Some(addr));
            }
        }
        for (text, is_of_any) in [
            ("127.0.0.1", false),
            ("127.0.0.6", false),
            ("127.191.255.255", false),
            ("127.192.0.0", true),
            ("127.207.255.255", true),
            ("127.208.0.0", true),
            ("127.223.255.255", true),
            ("127.224.0.0", false),
            ("10.192.0.1", false),
            ("::1", false),
        ] {
            let addr: IpAddr = text.parse().expect("an address");
            assert_eq!(StandIn::is_of_any_layout(addr.into()), is_of_any, "{text}");
        }
        // One half of them is this layout's.
        let [lower, upper] = [[127, 207, 255, 255], [127, 208, 0, 0]].map(|octets| {
            let addr = Ipv4Addr::from(octets);
            StandIn::of(addr.into()).is_some()
        });
        assert_ne!(lower, upper);
        for outside in [[127, 191, 255, 255], [127, 224, 0, 0]] {
            assert_eq!(StandIn::of(Ipv4Addr::from(outside).into()), None);
        }
    }

    #[test]
    fn the_port_of_the_proxy_tells_destinations_apart() {
        let some = destination([36, 152, 44, 96], 80);
        let other = Destination {
            target: BePort::new(15006),
            ..some
        };
        assert!(!some.same(other) && some.same(some));
        assert_ne!(some.stand_in(0), other.stand_in(0));
    }
}
