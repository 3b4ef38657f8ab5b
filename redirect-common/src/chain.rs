//! The ordered rule table: Istio's `ISTIO_OUTPUT` chain, row by row.
//!
//! Do not simplify: rows that look redundant are the chain's own quirks, and the exhaustive test
//! in `tests/order.rs` names the ones that can never match. To add a rule, add a [`RuleId`] (its
//! position is its counter's index), its texts, and one row at its place.

use crate::facts::{
    Fact::{
        AnyIncluded, CidrExcluded, CidrIncluded, DstLoopback, LoopbackIncluded, NotUnicast,
        PortExcluded, PortIncluded, PortTunnel, ProxyGid, ProxyUid, SourcePassthrough, ViaLo,
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
    /// The proxy's group dials its own pod.
    GidToSelf,
    /// Anybody else stays on loopback, asked by group.
    AppLoGid,
    /// The proxy's group.
    Gid,
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
    pub const ALL: [Self; 15] = [
        Self::NotUnicast,
        Self::PortExcluded,
        Self::Passthrough,
        Self::UidToSelf,
        Self::AppLoUid,
        Self::Uid,
        Self::GidToSelf,
        Self::AppLoGid,
        Self::Gid,
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
            Self::GidToSelf => "gid-to-self",
            Self::AppLoGid => "app-lo-gid",
            Self::Gid => "gid",
            Self::Loopback => "loopback",
            Self::CidrExcluded => "cidr-excluded",
            Self::PortIncluded => "port-included",
            Self::CidrIncluded => "cidr-included",
            Self::AnyIncluded => "any-included",
            Self::Default => "default",
        }
    }

    /// The iptables rule it stands for, with `P`, `U`, `G` and `C` for the configured port, user,
    /// group and range. Loopback and passthrough addresses are shown for IPv4.
    #[must_use]
    pub const fn iptables(self) -> &'static str {
        match self {
            Self::NotUnicast => "(routing refuses it before netfilter)",
            Self::PortExcluded => "-p tcp --dport P -j RETURN",
            Self::Passthrough => "-o lo -s 127.0.0.6/32 -j RETURN",
            Self::UidToSelf => {
                "-o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner U -j ISTIO_IN_REDIRECT"
            }
            Self::AppLoUid => "-o lo -m owner ! --uid-owner U -j RETURN",
            Self::Uid => "-m owner --uid-owner U -j RETURN",
            Self::GidToSelf => {
                "-o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --gid-owner G -j ISTIO_IN_REDIRECT"
            }
            Self::AppLoGid => "-o lo -m owner ! --gid-owner G -j RETURN",
            Self::Gid => "-m owner --gid-owner G -j RETURN",
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

/// The chain every outbound TCP connection walks.
///
/// One proxy user and one proxy group; a list of either repeats its three rows once per entry, in
/// list order. Owner groups and DNS capture have their places marked.
pub const OUTPUT: Chain<14> = Chain {
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
        // Once per proxy user.
        rule(
            RuleId::UidToSelf,
            Facts::of(ViaLo).and(ProxyUid),
            Facts::of(DstLoopback).and(PortTunnel),
            Verdict::In,
        ),
        rule(
            RuleId::AppLoUid,
            Facts::of(ViaLo),
            Facts::of(ProxyUid).and(LoopbackIncluded),
            Verdict::Direct,
        ),
        rule(RuleId::Uid, Facts::of(ProxyUid), NEVER, Verdict::Direct),
        // Once per proxy group.
        rule(
            RuleId::GidToSelf,
            Facts::of(ViaLo).and(ProxyGid),
            Facts::of(DstLoopback).and(PortTunnel),
            Verdict::In,
        ),
        rule(
            RuleId::AppLoGid,
            Facts::of(ViaLo),
            Facts::of(ProxyGid).and(LoopbackIncluded),
            Verdict::Direct,
        ),
        rule(RuleId::Gid, Facts::of(ProxyGid), NEVER, Verdict::Direct),
        // Place of the owner groups (ISTIO_OUTBOUND_OWNER_GROUPS).
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
