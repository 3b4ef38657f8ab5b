//! Ranges: key and flags of the tries.

use super::flags::flag_set;

/// Data of an IPv4 range key, most significant first: the policy id, then the address in network
/// byte order. The prefix length counts both: 32 plus the range's own.
pub type Cidr4Data = [u32; 2];
/// Data of an IPv6 range key: the policy id, then the four words of the address.
pub type Cidr6Data = [u32; 5];
/// Bits that the policy id adds to a range's prefix length.
pub const POLICY_BITS: u32 = u32::BITS;

flag_set! {
    /// What a destination is by its ranges.
    CidrFlags {
        /// In an excluded range.
        EXCLUDED = 0, excluded;
        /// In an included range.
        INCLUDED = 1, included;
        /// Written with a loopback address; only ever read back, see [`Self::own`].
        LOOPBACK = 2, loopback;
        /// A resolver whose queries are captured.
        DNS_SERVER = 3, dns_server;
        /// The pod's own: in the destination of an any-IP route.
        LOCAL = 4, local;
        /// Likewise, and sockets that are not bound connect to it from `::6`: the kernel prefers an
        /// address of the device that the route names, which is mostly `lo`.
        FROM_PASSTHROUGH = 5, is_from_passthrough;
        /// The route to it leaves by an excluded interface.
        BY_EXCLUDED = 6, is_by_excluded;
        /// The route to it leaves by another interface, where a wider one leaves by an excluded one.
        BY_OTHER = 7, is_by_other;
    }
}

impl CidrFlags {
    /// How far the "written for this very prefix" copy of the flags is shifted.
    const OWN: u32 = 16;

    /// A stored value: `effective` over all prefixes that contain this one, and which of them
    /// were written for it, so that the configuration can be read back.
    #[must_use]
    pub const fn stored(effective: Self, own: Self) -> Self {
        Self(effective.0 | own.0 << Self::OWN)
    }

    /// The effective flags of a prefix with these flags of its own inside of another. An address is
    /// in every range that contains it, but its route is the longest one.
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

    /// The flags written for this very prefix.
    #[must_use]
    pub const fn own(self) -> Self {
        Self(self.0 >> Self::OWN)
    }
}
