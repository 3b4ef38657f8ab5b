//! Address ranges: keys and flags of the longest-prefix maps `CIDRS4` and `CIDRS6`.

use super::flags::flag_set;

/// Data of an IPv4 range key, most significant first: the policy id, then the address in network
/// byte order. The prefix length counts both words: 32 plus the length of the range's own prefix.
pub type Cidr4Data = [u32; 2];
/// Data of an IPv6 range key: the policy id, then the four words of the address in network byte
/// order.
pub type Cidr6Data = [u32; 5];
/// Number of bits that the policy id adds to a range's prefix length.
pub const POLICY_BITS: u32 = u32::BITS;

flag_set! {
    /// Properties that a destination has because of the ranges it is in.
    CidrFlags {
        /// The destination is in an excluded range.
        EXCLUDED = 0, excluded;
        /// The destination is in an included range.
        INCLUDED = 1, included;
        /// The range was written with a loopback address. Programs do not test this flag: user
        /// space reads it back, see [`Self::own`].
        LOOPBACK = 2, loopback;
        /// The destination is a resolver whose queries are captured.
        DNS_SERVER = 3, dns_server;
        /// The destination is a local address of the pod: it is in the destination of an any-IP
        /// route.
        LOCAL = 4, local;
        /// The destination is local, and unbound sockets connect to it from `::6`: the kernel
        /// prefers an address of the device that the route names, which is mostly `lo`.
        FROM_PASSTHROUGH = 5, is_from_passthrough;
        /// The route to the destination leaves by an excluded interface.
        BY_EXCLUDED = 6, is_by_excluded;
        /// The route to the destination leaves by another interface, while a wider route leaves by
        /// an excluded one.
        BY_OTHER = 7, is_by_other;
    }
}

impl CidrFlags {
    /// Number of bits by which the copy of the prefix's own flags is shifted.
    const OWN: u32 = 16;

    /// The value stored for a prefix: `effective` are the flags over all prefixes that contain this
    /// one, `own` are the flags written for this prefix, so that the configuration can be read
    /// back.
    #[must_use]
    pub const fn stored(effective: Self, own: Self) -> Self {
        Self(effective.0 | own.0 << Self::OWN)
    }

    /// The effective flags of a prefix whose own flags are `self` and which lies inside a prefix
    /// with the flags `outer`. An address is in every range that contains it, but only the longest
    /// matching route applies to it.
    #[must_use]
    pub const fn inside(self, outer: Self) -> Self {
        const ROUTED: u32 = CidrFlags::BY_EXCLUDED.0 | CidrFlags::BY_OTHER.0;
        let inherited = if self.0 & ROUTED == 0 {
            u32::MAX
        } else {
            !ROUTED
        };
        Self(self.0 | outer.0 & inherited)
    }

    /// The flags written for this prefix alone, of a [stored](Self::stored) value.
    #[must_use]
    pub const fn own(self) -> Self {
        Self(self.0 >> Self::OWN)
    }
}
