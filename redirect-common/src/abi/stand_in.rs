//! Stand-ins: loopback addresses that stand for original destinations.
//!
//! A proxy that listens on the wildcard address accepts connections at all of 127/8. So the address
//! that a redirected connection goes to can itself encode the original destination. Such a
//! connection needs no record, neither for the handshake nor for its sockets.

use super::{ABI_VERSION, MAX_STAND_INS};
use crate::net::{BeAddr, BePort};

/// The first address that is a stand-in in some layout, of 127.192/11. Neither 127.0.0.1, nor
/// Istio's 127.0.0.6, nor a name server's 127.53/16, nor the broadcast address at the end of 127/8
/// is in that range. Successive layouts use different halves: while one takes over from the other,
/// both answer, and neither may answer for the other's stand-ins.
const LOWER_HALF: u32 = BeAddr::from_octets4([127, 192, 0, 0]).word4();
/// The bit that distinguishes the halves.
const HALF: u32 = BeAddr::from_octets4([0, 16, 0, 0]).word4();
/// The first stand-in of this layout.
const FIRST: u32 = if ABI_VERSION.is_multiple_of(2) {
    LOWER_HALF
} else {
    LOWER_HALF | HALF
};
/// The bits that distinguish the stand-ins of a layout.
const APART: u32 = BeAddr::from_octets4([0, 15, 255, 255]).word4();
/// The number of stand-ins that a destination has, a power of two. Each has its own range of source
/// ports: 28,232 with the default range.
pub const PER_DESTINATION: u32 = 4;

const _: () = assert!(
    MAX_STAND_INS < 1 << APART.count_ones(),
    "most destinations find a free stand-in"
);

/// 2^64 divided by the golden ratio: the step of `SplitMix64`.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, Fast splittable pseudorandom number generators, 2014):
/// every bit of the result depends on every bit of the word.
const fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// An IPv4 destination, and the port of the proxy to which its connections are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Destination {
    /// The dialled address, in network byte order.
    pub addr: u32,
    /// The dialled port.
    pub port: BePort,
    /// The proxy's port.
    pub target: BePort,
}

impl Destination {
    /// Creates the destination for an IPv4 address.
    #[must_use]
    pub const fn new(addr: BeAddr, port: BePort, target: BePort) -> Self {
        Self {
            addr: addr.word4(),
            port,
            target,
        }
    }

    /// The stand-in number `number` of this destination, modulo [`PER_DESTINATION`]. Another
    /// destination may already use the same address.
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

    /// The dialled address.
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

/// Key of a stand-in in one network namespace: pods of different namespaces do not see each other's
/// stand-ins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct StandInKey {
    /// The network namespace's cookie.
    pub netns: u64,
    /// The stand-in's address.
    pub stand_in: StandIn,
    /// Padding, always zero.
    pub reserved: u32,
}

impl StandInKey {
    /// Creates the key of a stand-in in a namespace.
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
    /// The address as a stand-in, if it is in the range of this layout.
    #[must_use]
    pub const fn of(addr: BeAddr) -> Option<Self> {
        if addr.is_v4() && addr.word4() & !APART == FIRST {
            Some(Self(addr.word4()))
        } else {
            None
        }
    }

    /// Whether an address is in the range of stand-ins of any layout.
    #[must_use]
    pub const fn is_of_any_layout(addr: BeAddr) -> bool {
        addr.is_v4() && addr.word4() & !(APART | HALF) == LOWER_HALF
    }

    /// The stand-in's address.
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
    fn a_destination_has_four_addresses_that_other_destinations_rarely_share() {
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
        // 4,096 among a million: about eight collisions are expected.
        assert!(all.len() >= 4 * 1024 - 25, "{}", all.len());
    }

    #[test]
    fn stand_ins_are_loopback_addresses_that_are_recognized() {
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
        // Only one half belongs to this layout.
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
    fn destinations_with_different_proxy_ports_differ() {
        let some = destination([36, 152, 44, 96], 80);
        let other = Destination {
            target: BePort::new(15006),
            ..some
        };
        assert!(!some.same(other) && some.same(some));
        assert_ne!(some.stand_in(0), other.stand_in(0));
    }
}
