//! Address ranges: keys and flags of a policy's longest-prefix maps, in `CIDRS4` and `CIDRS6`.

use super::flags::flag_set;

/// Data of an IPv4 range key: the address in network byte order.
pub type Cidr4Data = u32;
/// Data of an IPv6 range key: the four words of the address in network byte order.
pub type Cidr6Data = [u32; 4];

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
    /// All flags.
    const FLAGS: u32 = 0xff;
    /// Number of bits by which the copy of the prefix's own flags is shifted.
    const OWN: u32 = 16;
    /// Number of bits by which the prefix's length is shifted.
    const LENGTH: u32 = 24;

    /// The value stored for a prefix: `effective` are the flags over all prefixes that contain this
    /// one, `own` are the flags written for this prefix, so that the configuration can be read
    /// back. The length of the prefix tells a lookup which prefix it has found.
    #[must_use]
    pub const fn stored(effective: Self, own: Self, length: u8) -> Self {
        let own = (own.0 & Self::FLAGS) << Self::OWN;
        Self(effective.0 & Self::FLAGS | own | (length as u32) << Self::LENGTH)
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
        Self(self.0 | outer.effective().0 & inherited)
    }

    /// The flags over all prefixes that contain this one, of a [stored](Self::stored) value.
    #[must_use]
    pub const fn effective(self) -> Self {
        Self(self.0 & Self::FLAGS)
    }

    /// The flags written for this prefix alone, of a [stored](Self::stored) value.
    #[must_use]
    pub const fn own(self) -> Self {
        Self(self.0 >> Self::OWN & Self::FLAGS)
    }

    /// The length of the prefix, of a [stored](Self::stored) value.
    #[must_use]
    pub const fn length(self) -> u32 {
        self.0 >> Self::LENGTH
    }

    /// The flags without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether `self` has every flag of `other`.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the prefix is listed as excluded or included, of a [stored](Self::stored) value.
    #[must_use]
    pub const fn is_listed(self) -> bool {
        self.own().excluded() || self.own().included()
    }
}
