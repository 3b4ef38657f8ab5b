//! Addresses and ports as programs see them in memory: network byte order, IPv4 in its IPv4-mapped
//! form.
//!
//! No other module converts byte order. Everywhere else a value is either a [`BeAddr`] or
//! [`BePort`], or a `std::net` type.
#![expect(
    clippy::big_endian_bytes,
    clippy::host_endian_bytes,
    reason = "the one module that converts byte order"
)]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A port in network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct BePort(u16);

impl BePort {
    /// Port 53, at which resolvers listen.
    pub const DNS: Self = Self::new(53);
    /// Port 15053, at which the mesh's own resolver listens. Istio has no option for it
    /// (`tools/istio-iptables/pkg/constants`).
    pub const DNS_PROXY: Self = Self::new(15053);

    /// Creates a port from a number in host byte order.
    #[must_use]
    pub const fn new(port: u16) -> Self {
        Self(u16::from_ne_bytes(port.to_be_bytes()))
    }

    /// Creates a port from a value in network byte order, such as `bpf_sock_addr::user_port`.
    #[must_use]
    pub const fn from_network(raw: u16) -> Self {
        Self(raw)
    }

    /// The raw value, in network byte order.
    #[must_use]
    pub const fn to_network(self) -> u16 {
        self.0
    }

    /// The port number in host byte order.
    #[must_use]
    pub const fn get(self) -> u16 {
        u16::from_be_bytes(self.0.to_ne_bytes())
    }
}

/// An IPv6 address, or an IPv4 address in its mapped form `::ffff:a.b.c.d`, as four words in
/// network byte order (the form of `bpf_sock_addr::user_ip6`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct BeAddr([u32; 4]);

/// The third word of every IPv4-mapped address.
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

const fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

impl BeAddr {
    /// `::`, which also means "not bound".
    pub const ANY: Self = Self([0; 4]);
    /// `127.0.0.1`, to which redirected IPv4 connections go.
    pub const LOOPBACK4: Self = Self([0, 0, MAPPED, word([127, 0, 0, 1])]);
    /// `::1`, to which redirected IPv6 connections go.
    pub const LOOPBACK6: Self = Self([0, 0, 0, word([0, 0, 0, 1])]);
    /// `127.0.0.6`, the source of Istio's inbound passthrough cluster.
    pub const PASSTHROUGH4: Self = Self([0, 0, MAPPED, word([127, 0, 0, 6])]);
    /// `::6`, the same for IPv6.
    pub const PASSTHROUGH6: Self = Self([0, 0, 0, word([0, 0, 0, 6])]);

    /// Creates an address from the bytes of an IPv4 address, most significant first.
    #[must_use]
    pub const fn from_octets4(octets: [u8; 4]) -> Self {
        Self([0, 0, MAPPED, word(octets)])
    }

    /// Creates an address from an IPv4 address in network byte order, such as
    /// `bpf_sock_addr::user_ip4`.
    #[must_use]
    pub const fn from_network4(raw: u32) -> Self {
        Self([0, 0, MAPPED, raw])
    }

    /// Creates an address from four words in network byte order, such as `bpf_sock_addr::user_ip6`.
    #[must_use]
    pub const fn from_network6(raw: [u32; 4]) -> Self {
        Self(raw)
    }

    /// The four words, in network byte order.
    #[must_use]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }

    /// The IPv4 address in network byte order; meaningful only if [`Self::is_v4`].
    #[must_use]
    pub const fn word4(self) -> u32 {
        let [_, _, _, last] = self.0;
        last
    }

    /// Whether packets to this address are IPv4, because it is an IPv4 or IPv4-mapped address.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        let [a, b, c, _] = self.0;
        a | b | (c ^ MAPPED) == 0
    }

    /// Whether this is `0.0.0.0`, `::` or `::ffff:0.0.0.0`. The kernel sends connections to these
    /// addresses to loopback.
    #[must_use]
    pub const fn is_any(self) -> bool {
        let [a, b, c, d] = self.0;
        a | b | d == 0 && (c == 0 || c == MAPPED)
    }

    /// The destination address of the packets that a connection to this address sends, from a
    /// socket that is `bound` to an address or to none. The zero address is an alias. In IPv4 it
    /// means the address that the socket is bound to (`ip_route_output_key_hash_rcu`). Otherwise it
    /// means the loopback address, which is IPv4's if the socket is bound to an IPv4-mapped address
    /// (`tcp_v6_connect`).
    #[must_use]
    pub const fn effective_dst(self, bound: Self) -> Self {
        if !self.is_any() {
            self
        } else if self.is_v4() && !bound.is_any() {
            bound
        } else if self.is_v4() || bound.is_v4() {
            Self::LOOPBACK4
        } else {
            Self::LOOPBACK6
        }
    }

    /// Whether the address is in `127.0.0.0/8`, or `::1`.
    #[must_use]
    pub const fn is_loopback(self) -> bool {
        if self.is_v4() {
            let [first, ..] = self.word4().to_ne_bytes();
            first == 127
        } else {
            self.same(Self::LOOPBACK6)
        }
    }

    /// Whether no TCP connection can be made to the address: it is a multicast address of either
    /// family, the limited broadcast address `255.255.255.255`, or loopback's `127.255.255.255`.
    #[must_use]
    pub const fn is_not_unicast(self) -> bool {
        let [a, ..] = self.0;
        if self.is_v4() {
            let [first, ..] = self.word4().to_ne_bytes();
            first & 0xf0 == 0xe0 || self.word4() | word([0x80, 0, 0, 0]) == u32::MAX
        } else {
            let [first, ..] = a.to_ne_bytes();
            first == 0xff
        }
    }

    /// Whether the address is in `fe80::/10`.
    #[must_use]
    pub const fn is_link_local6(self) -> bool {
        let [a, ..] = self.0;
        let [first, second, ..] = a.to_ne_bytes();
        first == 0xfe && second & 0xc0 == 0x80
    }

    /// The sixteen bytes, most significant first.
    #[must_use]
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d] = self.0;
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (a.to_ne_bytes(), b.to_ne_bytes());
        let ([c0, c1, c2, c3], [d0, d1, d2, d3]) = (c.to_ne_bytes(), d.to_ne_bytes());
        [
            a0, a1, a2, a3, b0, b1, b2, b3, c0, c1, c2, c3, d0, d1, d2, d3,
        ]
    }

    /// Equality that is usable in constants and compiles to one comparison: the verifier walks both
    /// sides of each.
    #[must_use]
    pub const fn same(self, other: Self) -> bool {
        let [a, b, c, d] = self.0;
        let [others_a, others_b, others_c, others_d] = other.0;
        (a ^ others_a) | (b ^ others_b) | (c ^ others_c) | (d ^ others_d) == 0
    }
}

impl From<Ipv4Addr> for BeAddr {
    fn from(addr: Ipv4Addr) -> Self {
        Self::from_network4(word(addr.octets()))
    }
}

impl From<Ipv6Addr> for BeAddr {
    fn from(addr: Ipv6Addr) -> Self {
        let [
            a0,
            a1,
            a2,
            a3,
            b0,
            b1,
            b2,
            b3,
            c0,
            c1,
            c2,
            c3,
            d0,
            d1,
            d2,
            d3,
        ] = addr.octets();
        Self([
            word([a0, a1, a2, a3]),
            word([b0, b1, b2, b3]),
            word([c0, c1, c2, c3]),
            word([d0, d1, d2, d3]),
        ])
    }
}

impl From<IpAddr> for BeAddr {
    fn from(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl From<BeAddr> for IpAddr {
    fn from(addr: BeAddr) -> Self {
        if addr.is_v4() {
            return Self::V4(Ipv4Addr::from(addr.word4().to_ne_bytes()));
        }
        Self::V6(Ipv6Addr::from(addr.octets()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> BeAddr {
        text.parse::<IpAddr>().expect(text).into()
    }

    #[test]
    fn the_zero_address_is_the_sockets_own_or_loopback() {
        let cases = [
            ("10.0.0.1", "127.0.0.5", "10.0.0.1"),
            ("0.0.0.0", "0.0.0.0", "127.0.0.1"),
            ("0.0.0.0", "::", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.5", "127.0.0.5"),
            ("::", "::", "::1"),
            ("::", "fd00::1", "::1"),
            ("::", "127.0.0.5", "127.0.0.1"),
        ];
        for (dialled, bound, wire) in cases {
            let found = addr(dialled).effective_dst(addr(bound));
            assert_eq!(found, addr(wire), "{dialled} from {bound}");
        }
    }

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in [
            "0.0.0.0",
            "36.152.44.96",
            "255.255.255.255",
            "::1",
            "fd00:77::2",
        ] {
            assert_eq!(
                IpAddr::from(addr(text)),
                text.parse::<IpAddr>().expect(text)
            );
        }
        assert_eq!(addr("::ffff:10.0.0.1"), addr("10.0.0.1"));
        assert_eq!(BePort::new(15001).get(), 15001);
        assert_eq!(
            BePort::from_network(BePort::new(80).to_network()),
            BePort::new(80)
        );
    }

    #[test]
    fn addresses_are_classified() {
        for text in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
            assert!(addr(text).is_any(), "{text}");
        }
        for text in ["127.0.0.1", "127.255.0.9", "::1"] {
            assert!(addr(text).is_loopback(), "{text}");
        }
        for text in [
            "224.0.0.1",
            "239.1.1.1",
            "255.255.255.255",
            "127.255.255.255",
            "ff02::1",
        ] {
            assert!(addr(text).is_not_unicast(), "{text}");
        }
        for text in ["10.0.0.1", "223.255.255.255", "240.0.0.1", "fe80::1", "::2"] {
            let addr = addr(text);
            assert!(
                !addr.is_any() && !addr.is_loopback() && !addr.is_not_unicast(),
                "{text}"
            );
        }
    }
}
