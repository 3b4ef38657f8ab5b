//! The ordered rule table: Istio's `ISTIO_OUTPUT` chain, row by row.
//!
//! Do not simplify: rows that look redundant are the chain's own quirks, and the exhaustive test
//! in `tests/order.rs` names the ones that can never match. To add a rule, add a [`RuleId`] (its
//! position is its counter's index), its texts, and one row at its place.

use crate::facts::{
    Fact::{
        self, AnyIncluded, CidrExcluded, CidrIncluded, DstLoopback, GroupExcluded,
        LoopbackIncluded, NotUnicast, PortExcluded, PortIncluded, PortTunnel, ProxyGid, ProxyGid2,
        ProxyGid3, ProxyGid4, ProxyUid, ProxyUid2, ProxyUid3, ProxyUid4, SourcePassthrough, ViaLo,
    },
    Facts,
};

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Left alone: iptables' `RETURN`.
    Direct,
    /// Delivered to the proxy's outbound port: `ISTIO_REDIRECT`.
    Out,
    /// Delivered to the proxy's inbound port: `ISTIO_IN_REDIRECT`.
    In,
}

impl Verdict {
    /// The verdict's name in text output, metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Out => "out",
            Self::In => "in",
        }
    }
}

/// Row C1 or D1 of the chain for one owner.
macro_rules! to_self {
    ($owner:literal) => {
        concat!(
            "-o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner ",
            $owner,
            " -j ISTIO_IN_REDIRECT"
        )
    };
}

/// A rule's identity. The discriminant is the index of its hit counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RuleId {
    /// Multicast and broadcast.
    NotUnicast,
    /// Excluded outbound port.
    PortExcluded,
    /// The proxy's inbound delivery to the application.
    Passthrough,
    /// The proxy's user dials its own pod.
    UidToSelf,
    /// Anybody else stays on loopback.
    AppLoUid,
    /// The proxy's user.
    Uid,
    /// The proxy's second user dials its own pod.
    UidToSelf2,
    /// The proxy's second user.
    Uid2,
    /// The proxy's third user dials its own pod.
    UidToSelf3,
    /// The proxy's third user.
    Uid3,
    /// The proxy's fourth user dials its own pod.
    UidToSelf4,
    /// The proxy's fourth user.
    Uid4,
    /// The proxy's group dials its own pod.
    GidToSelf,
    /// Anybody else stays on loopback, asked by group.
    AppLoGid,
    /// The proxy's group.
    Gid,
    /// The proxy's second group dials its own pod.
    GidToSelf2,
    /// The proxy's second group.
    Gid2,
    /// The proxy's third group dials its own pod.
    GidToSelf3,
    /// The proxy's third group.
    Gid3,
    /// The proxy's fourth group dials its own pod.
    GidToSelf4,
    /// The proxy's fourth group.
    Gid4,
    /// A group that is not redirected.
    GroupExcluded,
    /// The loopback address itself.
    Loopback,
    /// Excluded range.
    CidrExcluded,
    /// Included outbound port.
    PortIncluded,
    /// Included range.
    CidrIncluded,
    /// Everything is included.
    AnyIncluded,
    /// The end of the chain.
    Default,
}

impl RuleId {
    /// Every rule, in evaluation order.
    pub const ALL: [Self; 28] = [
        Self::NotUnicast,
        Self::PortExcluded,
        Self::Passthrough,
        Self::UidToSelf,
        Self::AppLoUid,
        Self::Uid,
        Self::UidToSelf2,
        Self::Uid2,
        Self::UidToSelf3,
        Self::Uid3,
        Self::UidToSelf4,
        Self::Uid4,
        Self::GidToSelf,
        Self::AppLoGid,
        Self::Gid,
        Self::GidToSelf2,
        Self::Gid2,
        Self::GidToSelf3,
        Self::Gid3,
        Self::GidToSelf4,
        Self::Gid4,
        Self::GroupExcluded,
        Self::Loopback,
        Self::CidrExcluded,
        Self::PortIncluded,
        Self::CidrIncluded,
        Self::AnyIncluded,
        Self::Default,
    ];

    /// The rule's name in text output, metrics and JSON; never its number.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotUnicast => "not-unicast",
            Self::PortExcluded => "port-excluded",
            Self::Passthrough => "passthrough",
            Self::UidToSelf => "uid-to-self",
            Self::AppLoUid => "app-lo-uid",
            Self::Uid => "uid",
            Self::UidToSelf2 => "uid-to-self-2",
            Self::Uid2 => "uid-2",
            Self::UidToSelf3 => "uid-to-self-3",
            Self::Uid3 => "uid-3",
            Self::UidToSelf4 => "uid-to-self-4",
            Self::Uid4 => "uid-4",
            Self::GidToSelf => "gid-to-self",
            Self::AppLoGid => "app-lo-gid",
            Self::Gid => "gid",
            Self::GidToSelf2 => "gid-to-self-2",
            Self::Gid2 => "gid-2",
            Self::GidToSelf3 => "gid-to-self-3",
            Self::Gid3 => "gid-3",
            Self::GidToSelf4 => "gid-to-self-4",
            Self::Gid4 => "gid-4",
            Self::GroupExcluded => "group-excluded",
            Self::Loopback => "loopback",
            Self::CidrExcluded => "cidr-excluded",
            Self::PortIncluded => "port-included",
            Self::CidrIncluded => "cidr-included",
            Self::AnyIncluded => "any-included",
            Self::Default => "default",
        }
    }

    /// The iptables rule it stands for, with `P`, `U`, `G` and `C` for the configured port, user,
    /// group and range, `U2` for the second user, and `E` for an owner group. Loopback and passthrough addresses are shown for IPv4.
    #[must_use]
    pub const fn iptables(self) -> &'static str {
        match self {
            Self::NotUnicast => "(routing refuses it before netfilter)",
            Self::PortExcluded => "-p tcp --dport P -j RETURN",
            Self::Passthrough => "-o lo -s 127.0.0.6/32 -j RETURN",
            Self::UidToSelf => to_self!("--uid-owner U"),
            Self::AppLoUid => "-o lo -m owner ! --uid-owner U -j RETURN",
            Self::Uid => "-m owner --uid-owner U -j RETURN",
            Self::UidToSelf2 => to_self!("--uid-owner U2"),
            Self::Uid2 => "-m owner --uid-owner U2 -j RETURN",
            Self::UidToSelf3 => to_self!("--uid-owner U3"),
            Self::Uid3 => "-m owner --uid-owner U3 -j RETURN",
            Self::UidToSelf4 => to_self!("--uid-owner U4"),
            Self::Uid4 => "-m owner --uid-owner U4 -j RETURN",
            Self::GidToSelf => to_self!("--gid-owner G"),
            Self::AppLoGid => "-o lo -m owner ! --gid-owner G -j RETURN",
            Self::Gid => "-m owner --gid-owner G -j RETURN",
            Self::GidToSelf2 => to_self!("--gid-owner G2"),
            Self::Gid2 => "-m owner --gid-owner G2 -j RETURN",
            Self::GidToSelf3 => to_self!("--gid-owner G3"),
            Self::Gid3 => "-m owner --gid-owner G3 -j RETURN",
            Self::GidToSelf4 => to_self!("--gid-owner G4"),
            Self::Gid4 => "-m owner --gid-owner G4 -j RETURN",
            Self::GroupExcluded => "-m owner [!] --gid-owner E -j RETURN",
            Self::Loopback => "-d 127.0.0.1/32 -j RETURN",
            Self::CidrExcluded => "-d C -j RETURN",
            Self::PortIncluded => "-p tcp --dport P -j ISTIO_REDIRECT",
            Self::CidrIncluded => "-d C -j ISTIO_REDIRECT",
            Self::AnyIncluded => "-j ISTIO_REDIRECT",
            Self::Default => "(end of ISTIO_OUTPUT: policy ACCEPT)",
        }
    }

    /// The index of the rule's hit counter.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// One row: every fact of `when` must hold and none of `unless`.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The rule's identity.
    pub id: RuleId,
    /// Facts that must all hold.
    pub when: Facts,
    /// Facts of which none may hold.
    pub unless: Facts,
    /// The verdict if it matches.
    pub verdict: Verdict,
}

/// An ordered table of rules; if none matches, the verdict is [`Verdict::Direct`].
#[derive(Clone, Copy, Debug)]
pub struct Chain<const N: usize> {
    /// The rules, in evaluation order.
    pub rules: [Rule; N],
    /// What is counted when no rule matches.
    pub fallthrough: RuleId,
}

impl<const N: usize> Chain<N> {
    /// The verdict that a rule gives; the fall-through's is [`Verdict::Direct`].
    #[must_use]
    pub fn verdict(&self, id: RuleId) -> Verdict {
        self.rules
            .iter()
            .find(|rule| rule.id == id)
            .map_or(Verdict::Direct, |rule| rule.verdict)
    }
}

const fn rule(id: RuleId, when: Facts, unless: Facts, verdict: Verdict) -> Rule {
    Rule {
        id,
        when,
        unless,
        verdict,
    }
}

const NEVER: Facts = Facts::NONE;

/// One of the proxy's users or groups dials its own pod.
const fn to_self(id: RuleId, owner: Fact) -> Rule {
    rule(
        id,
        Facts::of(ViaLo).and(owner),
        Facts::of(DstLoopback).and(PortTunnel),
        Verdict::In,
    )
}

/// The chain every outbound TCP connection walks.
///
/// A list of proxy users or groups repeats its three rows once per entry, in list order, which does
/// not make it a set: the `app-lo` row of the first user ends every connection over `lo` that is
/// not the first user's, so that the others are not redirected to themselves (unless a loopback
/// range is included, which takes the `app-lo` rows out). For the same reason an `app-lo` row after
/// the first can never match: behind the first user's rows a connection is over `lo` only if there
/// are no such rows. Those of later users and groups are left out here; `tests/order.rs` compares
/// with a chain that has them. The owner groups are one row, whether listed to
/// be redirected or not to be. DNS capture has its place marked.
pub const OUTPUT: Chain<27> = Chain {
    rules: [
        rule(
            RuleId::NotUnicast,
            Facts::of(NotUnicast),
            NEVER,
            Verdict::Direct,
        ),
        rule(
            RuleId::PortExcluded,
            Facts::of(PortExcluded),
            NEVER,
            Verdict::Direct,
        ),
        rule(
            RuleId::Passthrough,
            Facts::of(ViaLo).and(SourcePassthrough),
            NEVER,
            Verdict::Direct,
        ),
        // Three rows per proxy user, in list order. Facts of absent users never hold.
        to_self(RuleId::UidToSelf, ProxyUid),
        rule(
            RuleId::AppLoUid,
            Facts::of(ViaLo),
            Facts::of(ProxyUid).and(LoopbackIncluded),
            Verdict::Direct,
        ),
        rule(RuleId::Uid, Facts::of(ProxyUid), NEVER, Verdict::Direct),
        to_self(RuleId::UidToSelf2, ProxyUid2),
        rule(RuleId::Uid2, Facts::of(ProxyUid2), NEVER, Verdict::Direct),
        to_self(RuleId::UidToSelf3, ProxyUid3),
        rule(RuleId::Uid3, Facts::of(ProxyUid3), NEVER, Verdict::Direct),
        to_self(RuleId::UidToSelf4, ProxyUid4),
        rule(RuleId::Uid4, Facts::of(ProxyUid4), NEVER, Verdict::Direct),
        // Likewise per proxy group.
        to_self(RuleId::GidToSelf, ProxyGid),
        rule(
            RuleId::AppLoGid,
            Facts::of(ViaLo),
            Facts::of(ProxyGid).and(LoopbackIncluded),
            Verdict::Direct,
        ),
        rule(RuleId::Gid, Facts::of(ProxyGid), NEVER, Verdict::Direct),
        to_self(RuleId::GidToSelf2, ProxyGid2),
        rule(RuleId::Gid2, Facts::of(ProxyGid2), NEVER, Verdict::Direct),
        to_self(RuleId::GidToSelf3, ProxyGid3),
        rule(RuleId::Gid3, Facts::of(ProxyGid3), NEVER, Verdict::Direct),
        to_self(RuleId::GidToSelf4, ProxyGid4),
        rule(RuleId::Gid4, Facts::of(ProxyGid4), NEVER, Verdict::Direct),
        rule(
            RuleId::GroupExcluded,
            Facts::of(GroupExcluded),
            NEVER,
            Verdict::Direct,
        ),
        // Place of DNS capture (ISTIO_OUTPUT_DNS): before every range, after every owner.
        rule(
            RuleId::Loopback,
            Facts::of(DstLoopback),
            NEVER,
            Verdict::Direct,
        ),
        rule(
            RuleId::CidrExcluded,
            Facts::of(CidrExcluded),
            NEVER,
            Verdict::Direct,
        ),
        rule(
            RuleId::PortIncluded,
            Facts::of(PortIncluded),
            NEVER,
            Verdict::Out,
        ),
        rule(
            RuleId::CidrIncluded,
            Facts::of(CidrIncluded),
            NEVER,
            Verdict::Out,
        ),
        rule(
            RuleId::AnyIncluded,
            Facts::of(AnyIncluded),
            NEVER,
            Verdict::Out,
        ),
    ],
    fallthrough: RuleId::Default,
};
