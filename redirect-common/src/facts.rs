//! What a flow is under a policy: one bit per fact, gathered before any rule is looked at.
//!
//! A fact is derived here and nowhere else. Where a connect-time hook cannot see what netfilter
//! sees, the fact's documentation says how it is derived instead.

use core::hint::black_box;

use crate::{
    abi::{CidrFlags, GroupFlags, LocalFlags, PROXY_IDS, PolicyRow, PortFlags},
    net::{BeAddr, BePort},
};

/// One boolean about a flow under a policy. The order is the order of the bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fact {
    /// Multicast or broadcast destination. Netfilter never sees one: routing refuses it first.
    NotUnicast,
    /// Destination port is in the excluded outbound ports (`-o`).
    PortExcluded,
    /// iptables' `-o lo`. No route can be looked up at connect time, so: the destination is
    /// 127/8, `::1`, the zero address, or one of the network namespace's own addresses.
    ViaLo,
    /// Source is `127.0.0.6` (`::6`): the address the socket is bound to, or `::6` picked by
    /// source selection because it is also the destination.
    SourcePassthrough,
    /// The socket was created by the proxy's first user (`-u`), as `-m owner` reads it: the `fsuid` of
    /// the socket file's credentials. A socket without a file has no owner.
    ProxyUid,
    /// By its second user, if there is one.
    ProxyUid2,
    /// By its third user, if there is one.
    ProxyUid3,
    /// By its fourth user, if there is one.
    ProxyUid4,
    /// The socket was created by the proxy's first group (`-g`): the `fsgid`, likewise.
    ProxyGid,
    /// By its second group, if there is one.
    ProxyGid2,
    /// By its third group, if there is one.
    ProxyGid3,
    /// By its fourth group, if there is one.
    ProxyGid4,
    /// The owner's group is not to be redirected: it is listed as one that is not
    /// (`--outbound-owner-groups-exclude`), or not listed where only the listed ones are
    /// (`--outbound-owner-groups`). Nobody is in no group.
    GroupExcluded,
    /// Destination is `127.0.0.1/32` (`::1`), or the zero address, which the kernel turns into it.
    DstLoopback,
    /// Destination port is the tunnel port (`-e`).
    PortTunnel,
    /// Some include range was written with a loopback address, which takes the `-o lo` returns
    /// out of the chain.
    LoopbackIncluded,
    /// Destination is in the excluded ranges (`-x`).
    CidrExcluded,
    /// Destination port is in the included outbound ports (`-q`).
    PortIncluded,
    /// Destination is in the included ranges (`-i`).
    CidrIncluded,
    /// The included ranges are `*`.
    AnyIncluded,
}

impl Fact {
    /// Every fact, in bit order.
    pub const ALL: [Self; 20] = [
        Self::NotUnicast,
        Self::PortExcluded,
        Self::ViaLo,
        Self::SourcePassthrough,
        Self::ProxyUid,
        Self::ProxyUid2,
        Self::ProxyUid3,
        Self::ProxyUid4,
        Self::ProxyGid,
        Self::ProxyGid2,
        Self::ProxyGid3,
        Self::ProxyGid4,
        Self::GroupExcluded,
        Self::DstLoopback,
        Self::PortTunnel,
        Self::LoopbackIncluded,
        Self::CidrExcluded,
        Self::PortIncluded,
        Self::CidrIncluded,
        Self::AnyIncluded,
    ];
    /// The proxy's users, in list order.
    pub const PROXY_UIDS: [Self; PROXY_IDS] = [
        Self::ProxyUid,
        Self::ProxyUid2,
        Self::ProxyUid3,
        Self::ProxyUid4,
    ];
    /// The proxy's groups, in list order.
    pub const PROXY_GIDS: [Self; PROXY_IDS] = [
        Self::ProxyGid,
        Self::ProxyGid2,
        Self::ProxyGid3,
        Self::ProxyGid4,
    ];

    /// The fact as a statement about the flow, for `explain`.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::NotUnicast => "destination is multicast or broadcast",
            Self::PortExcluded => "destination port is excluded (-o)",
            Self::ViaLo => "destination is local to the pod (-o lo)",
            Self::SourcePassthrough => "source is 127.0.0.6 or ::6",
            Self::ProxyUid => "owner is the proxy's user (-u)",
            Self::ProxyUid2 => "owner is the proxy's second user (-u)",
            Self::ProxyUid3 => "owner is the proxy's third user (-u)",
            Self::ProxyUid4 => "owner is the proxy's fourth user (-u)",
            Self::ProxyGid => "owner is the proxy's group (-g)",
            Self::ProxyGid2 => "owner is the proxy's second group (-g)",
            Self::ProxyGid3 => "owner is the proxy's third group (-g)",
            Self::ProxyGid4 => "owner is the proxy's fourth group (-g)",
            Self::GroupExcluded => "owner's group is excluded (--outbound-owner-groups)",
            Self::DstLoopback => "destination is 127.0.0.1 or ::1",
            Self::PortTunnel => "destination port is the tunnel port (-e)",
            Self::LoopbackIncluded => "a loopback range is included (-i)",
            Self::CidrExcluded => "destination is in an excluded range (-x)",
            Self::PortIncluded => "destination port is included (-q)",
            Self::CidrIncluded => "destination is in an included range (-i)",
            Self::AnyIncluded => "every destination is included (-i '*')",
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

    /// This set and one fact more.
    #[must_use]
    pub const fn and(self, fact: Fact) -> Self {
        Self(self.0 | fact.bit())
    }

    /// This set, and the fact if `holds`.
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

    /// The set with these bits; bits that are no fact are dropped. For enumerating every set.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & !(u32::MAX << Fact::ALL.len()))
    }

    /// The facts in the set, in bit order.
    pub fn iter(self) -> impl Iterator<Item = Fact> {
        Fact::ALL.into_iter().filter(move |fact| self.has(*fact))
    }
}

/// Who created a socket: ids of the initial user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The `fsuid` of the socket file's credentials.
    pub uid: u32,
    /// The `fsgid` of the socket file's credentials.
    pub gid: u32,
}

/// What a connect hook sees of one TCP connection.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// The address dialled; IPv4-mapped addresses are IPv4.
    pub dst: BeAddr,
    /// The port dialled.
    pub port: BePort,
    /// The address the socket is bound to, or a zero address.
    pub source: BeAddr,
    /// The owner of the socket's file, if it has a file.
    pub owner: Option<Owner>,
}

/// The lookups that gathering needs: the maps in the kernel, the same maps through system calls in
/// `explain`, plain values in tests.
pub trait PolicyView {
    /// The policy row of the pod.
    fn row(&self) -> &PolicyRow;
    /// The flags of the longest prefix that contains `addr`; they are the union over all prefixes
    /// that contain it.
    fn cidr(&self, addr: BeAddr) -> CidrFlags;
    /// The flags of an outbound TCP port.
    fn port(&self, port: BePort) -> PortFlags;
    /// The flags of an owner group.
    fn group(&self, gid: u32) -> GroupFlags;
    /// What `addr` is to the network namespace.
    fn local(&self, addr: BeAddr) -> LocalFlags;
}

/// Gathers every fact about `flow`. All lookups happen here, before the first rule.
#[inline(always)]
pub fn gather<V: PolicyView>(view: &V, flow: &Flow) -> Facts {
    let row = view.row();
    let dst = flow.dst;

    let local = if dst.is_loopback() || dst.is_any() {
        LocalFlags::OWN
    } else {
        view.local(dst)
    };
    let ports = if row.flags.has_ports() {
        view.port(flow.port)
    } else {
        PortFlags::NONE
    };
    let cidrs = if row.flags.has_cidrs(dst.is_v4()) {
        view.cidr(dst)
    } else {
        CidrFlags::NONE
    };

    let group = match flow.owner {
        Some(owner) if row.flags.has_groups() => view.group(owner.gid),
        _ => GroupFlags::NONE,
    };

    let passthrough = flow.source.same(BeAddr::PASSTHROUGH4)
        || flow.source.same(BeAddr::PASSTHROUGH6)
        || (flow.source.is_any() && dst.same(BeAddr::PASSTHROUGH6));
    let loopback = dst.is_any() || dst.same(BeAddr::LOOPBACK4) || dst.same(BeAddr::LOOPBACK6);

    Facts::NONE
        .and_if(
            dst.is_not_unicast() || local.is_broadcast(),
            Fact::NotUnicast,
        )
        .and_if(ports.excluded(), Fact::PortExcluded)
        .and_if(local.is_own(), Fact::ViaLo)
        .and_if(passthrough, Fact::SourcePassthrough)
        .or(proxy(row, flow.owner))
        .and_if(
            group.is_listed() != row.flags.only_groups(),
            Fact::GroupExcluded,
        )
        .and_if(loopback, Fact::DstLoopback)
        .and_if(
            flow.port.to_network() == row.tunnel_port.to_network(),
            Fact::PortTunnel,
        )
        .and_if(row.flags.loopback_included(), Fact::LoopbackIncluded)
        .and_if(cidrs.excluded(), Fact::CidrExcluded)
        .and_if(ports.included(), Fact::PortIncluded)
        .and_if(cidrs.included(), Fact::CidrIncluded)
        .and_if(row.flags.any_included(), Fact::AnyIncluded)
}

/// Which of the proxy's users and groups the owner is. Nobody has the id of an absent one.
#[inline(always)]
fn proxy(row: &PolicyRow, owner: Option<Owner>) -> Facts {
    let Some(Owner { uid, gid }) = owner else {
        return Facts::NONE;
    };
    let [uid1, uid2, uid3, uid4] = row.proxy_uids;
    let [gid1, gid2, gid3, gid4] = row.proxy_gids;
    Facts::NONE
        .and_if(same(uid, uid1), Fact::ProxyUid)
        .and_if(same(uid, uid2), Fact::ProxyUid2)
        .and_if(same(uid, uid3), Fact::ProxyUid3)
        .and_if(same(uid, uid4), Fact::ProxyUid4)
        .and_if(same(gid, gid1), Fact::ProxyGid)
        .and_if(same(gid, gid2), Fact::ProxyGid2)
        .and_if(same(gid, gid3), Fact::ProxyGid3)
        .and_if(same(gid, gid4), Fact::ProxyGid4)
}

/// Equality as a bit of arithmetic: BPF has only branches for a comparison, and the verifier walks
/// both sides of each.
#[inline(always)]
fn same(a: u32, b: u32) -> bool {
    // Of 32 bits in 64, only 0 - 1 has the highest. Left to itself the compiler sees through that
    // and makes it a branch again.
    black_box(u64::from(a ^ b)).wrapping_sub(1) >> 63 != 0
}
