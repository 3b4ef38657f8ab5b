//! The facts, their texts, and sets of them.

/// One boolean about a flow under a policy. The order of the variants is the order of the bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fact {
    /// The destination is IPv6, and the pod's IPv6 is left alone.
    Ipv6Off,
    /// The destination is a multicast or broadcast address. Netfilter never sees one: routing
    /// refuses it first.
    NotUnicast,
    /// The packet leaves by an excluded interface (`-c`). No route can be looked up at connect
    /// time, so the fact is derived. With [`Fact::ViaLo`] it holds if `lo` is excluded. Otherwise,
    /// if the socket is bound to a device, it holds if that device is excluded. Otherwise it holds
    /// if the route to the destination, as user space has read it, leaves by an excluded interface.
    InterfaceExcluded,
    /// The destination port is in the excluded outbound ports (`-o`).
    PortExcluded,
    /// iptables' `-o lo`. No route can be looked up at connect time, so the fact is derived. It
    /// holds if the destination is in 127/8, `::1`, the zero address, a local address of the
    /// network namespace, or in one of its any-IP ranges. It also holds if the socket is bound to
    /// the device `lo`.
    ViaLo,
    /// The source address is `127.0.0.6` (`::6`). The socket is bound to that address, or source
    /// selection picks `::6` because it is also the destination or because of an any-IP route.
    SourcePassthrough,
    /// The socket was created by the proxy's first user (`-u`), as `-m owner` reads it: the `fsuid`
    /// of the socket file's credentials. A socket without a file has no owner.
    ProxyUid,
    /// The socket was created by a later one of the proxy's users, the second to the fourth. Their rows of the chain
    /// are equal but for the user, and behind each other, so that one fact stands for all.
    ProxyUidLater,
    /// The socket was created by the proxy's first group (`-g`): the `fsgid` of the socket file's
    /// credentials.
    ProxyGid,
    /// The socket was created by a later one of the proxy's groups, the second to the fourth. Their rows of the chain
    /// are equal but for the group, and behind each other, so that one fact stands for all.
    ProxyGidLater,
    /// The owner's group is not to be redirected. It is listed as excluded
    /// (`--outbound-owner-groups-exclude`), or it is not listed while only the listed groups are
    /// redirected (`--outbound-owner-groups`). A socket without an owner is in no group.
    GroupExcluded,
    /// DNS is captured, and the destination port is 53.
    DnsPort,
    /// The flow is a datagram. Datagrams are evaluated only if DNS is captured and they go to port
    /// 53.
    Udp,
    /// The destination is a resolver whose queries are captured, or the queries to all resolvers
    /// are captured (`--capture-all-dns`). The fact does not depend on the port.
    DnsServer,
    /// The destination is in the loopback range of the pod's rules (`--host-ipv4-loopback-cidr`,
    /// `127.0.0.1/32`; `::1`). The kernel turns the zero address into the loopback address.
    DstLoopback,
    /// The destination port is the tunnel port (`-e`). For inbound connections the fact does not
    /// hold with `-m TPROXY`, whose rules know no such port.
    PortTunnel,
    /// An included range was written with a loopback address, which removes the `-o lo` returns
    /// from the chain.
    LoopbackIncluded,
    /// The destination is in the excluded ranges (`-x`).
    CidrExcluded,
    /// The destination port is in the included outbound ports (`-q`).
    PortIncluded,
    /// The destination is in the included ranges (`-i`).
    CidrIncluded,
    /// The included ranges are `*`.
    AnyIncluded,
    /// Inbound: the packet never left the pod, as its source address shows. Netfilter redirects
    /// such a connection where it is made, not where it arrives.
    Looped,
    /// Inbound: the packet arrives by an excluded interface (`-c`).
    InInterfaceExcluded,
    /// Inbound: the destination port is excluded (`-d`).
    InPortExcluded,
    /// Inbound: every port is included (`-b '*'`).
    InAnyIncluded,
    /// Inbound: the destination port is included (`-b`).
    InPortIncluded,
}

impl Fact {
    /// Every fact, in bit order.
    pub const ALL: [Self; 26] = [
        Self::Ipv6Off,
        Self::NotUnicast,
        Self::InterfaceExcluded,
        Self::PortExcluded,
        Self::ViaLo,
        Self::SourcePassthrough,
        Self::ProxyUid,
        Self::ProxyUidLater,
        Self::ProxyGid,
        Self::ProxyGidLater,
        Self::GroupExcluded,
        Self::DnsPort,
        Self::Udp,
        Self::DnsServer,
        Self::DstLoopback,
        Self::PortTunnel,
        Self::LoopbackIncluded,
        Self::CidrExcluded,
        Self::PortIncluded,
        Self::CidrIncluded,
        Self::AnyIncluded,
        Self::Looped,
        Self::InInterfaceExcluded,
        Self::InPortExcluded,
        Self::InAnyIncluded,
        Self::InPortIncluded,
    ];
    /// The number of facts that an outbound flow can have: the first ones of [`Self::ALL`].
    pub const OUTBOUND: usize = 21;
    /// The facts that an inbound connection can have.
    pub const INBOUND: [Self; 7] = [
        Self::Ipv6Off,
        Self::PortTunnel,
        Self::Looped,
        Self::InInterfaceExcluded,
        Self::InPortExcluded,
        Self::InAnyIncluded,
        Self::InPortIncluded,
    ];
    /// The fact as a statement about the flow, for `explain`.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Ipv6Off => "destination is IPv6, which is left alone (--dual-stack)",
            Self::NotUnicast => "destination is multicast or broadcast",
            Self::InterfaceExcluded => "it leaves by an excluded interface (-c)",
            Self::PortExcluded => "destination port is excluded (-o)",
            Self::ViaLo => "destination is local to the pod (-o lo)",
            Self::SourcePassthrough => "source is 127.0.0.6 or ::6",
            Self::ProxyUid => "owner is the proxy's user (-u)",
            Self::ProxyUidLater => "owner is a later one of the proxy's users (-u)",
            Self::ProxyGid => "owner is the proxy's group (-g)",
            Self::ProxyGidLater => "owner is a later one of the proxy's groups (-g)",
            Self::GroupExcluded => "owner's group is excluded (--outbound-owner-groups)",
            Self::DnsPort => "DNS is captured, and this is port 53 (--redirect-dns)",
            Self::Udp => "a datagram",
            Self::DnsServer => "destination is a captured resolver (--capture-all-dns: any is)",
            Self::DstLoopback => "destination is 127.0.0.1 or ::1 (--host-ipv4-loopback-cidr)",
            Self::PortTunnel => "destination port is the tunnel port (-e)",
            Self::LoopbackIncluded => "a loopback range is included (-i)",
            Self::CidrExcluded => "destination is in an excluded range (-x)",
            Self::PortIncluded => "destination port is included (-q)",
            Self::CidrIncluded => "destination is in an included range (-i)",
            Self::AnyIncluded => "every destination is included (-i '*')",
            Self::Looped => "it comes from the pod itself",
            Self::InInterfaceExcluded => "it arrives by an excluded interface (-c)",
            Self::InPortExcluded => "inbound port is excluded (-d)",
            Self::InAnyIncluded => "every inbound port is included (-b '*')",
            Self::InPortIncluded => "inbound port is included (-b)",
        }
    }

    const fn bit(self) -> u32 {
        1 << (self as u32)
    }
}

/// A set of facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Facts(u32);

impl Facts {
    /// No fact.
    pub const NONE: Self = Self(0);

    /// The set of one fact.
    #[must_use]
    pub const fn of(fact: Fact) -> Self {
        Self(fact.bit())
    }

    /// The set as bits: bit N stands for the fact with the discriminant N.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// This set with one more fact.
    #[must_use]
    pub const fn and(self, fact: Fact) -> Self {
        Self(self.0 | fact.bit())
    }

    /// This set, with the fact if `holds`.
    #[must_use]
    pub const fn and_if(self, holds: bool, fact: Fact) -> Self {
        // Without a branch: the verifier walks both sides of every branch, for every fact.
        Self(self.0 | (holds as u32) << (fact as u32))
    }

    /// Whether the fact is in the set.
    #[must_use]
    pub const fn has(self, fact: Fact) -> bool {
        self.0 & fact.bit() != 0
    }

    /// Whether every fact of `other` is in the set.
    #[must_use]
    pub const fn has_all(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any fact of `other` is in the set.
    #[must_use]
    pub const fn has_any(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The facts of this set that `other` lacks.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The facts of either set.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The facts of both sets.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The set with these bits, for enumerating every set. Bits that stand for no fact are dropped.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & !(u32::MAX << Fact::ALL.len()))
    }

    /// The facts in the set, in bit order.
    pub fn iter(self) -> impl Iterator<Item = Fact> {
        Fact::ALL.into_iter().filter(move |fact| self.has(*fact))
    }
}
