//! The outbound table: `OUTPUT` with `ISTIO_OUTPUT`, and `ISTIO_OUTPUT_DNS` at its place.

use super::{Chain, NEVER, Rule, RuleId, Verdict, rule};
use crate::facts::{
    Fact::{
        self, AnyIncluded, CidrExcluded, CidrIncluded, DnsPort, DnsServer, DstLoopback,
        GroupExcluded, InterfaceExcluded, Ipv6Off, LoopbackIncluded, NotUnicast, PortExcluded,
        PortIncluded, PortTunnel, ProxyGid, ProxyGidLater, ProxyUid, ProxyUidLater,
        SourcePassthrough, Udp, ViaLo,
    },
    Facts,
};

/// The row for a proxy user or group that dials its own pod.
const fn to_self(id: RuleId, owner: Fact, unless: Facts) -> Rule {
    rule(
        id,
        Facts::of(ViaLo).and(owner),
        unless.and(DstLoopback).and(PortTunnel),
        Verdict::In,
    )
}

/// The same for a user: queries to resolvers are exempt if DNS is captured.
const fn uid_to_self(id: RuleId, owner: Fact) -> Rule {
    to_self(id, owner, Facts::of(DnsPort))
}

/// The same for a group: here Istio's chain forgets to exempt queries.
const fn gid_to_self(id: RuleId, owner: Fact) -> Rule {
    to_self(id, owner, Facts::of(Udp))
}

/// The chain for every outbound TCP connection, and for every datagram that may be captured.
///
/// A list of proxy users or groups repeats its three rows once per entry, in list order. The
/// repetition does not make the list a set: the `app-lo` row of the first user ends every
/// connection over `lo` that is not the first user's, so the other users are not redirected to
/// themselves (unless a loopback range is included, which removes the `app-lo` rows). For the same
/// reason an `app-lo` row after the first can never match: behind the first user's rows a
/// connection is over `lo` only if there are no such rows, or if it goes to a resolver. The
/// `app-lo` rows of later users and groups are left out here; `tests/order.rs` compares this table
/// with a chain that has them. The owner groups are one row, whether they are listed as redirected
/// or as excluded. The resolvers are one row too.
///
/// If DNS is captured, the `app-lo` rows say `-p tcp ! --dport 53`: they pass every datagram that
/// is evaluated, because all of those go to port 53.
pub const OUTPUT: Chain<22> = Chain {
    rules: [
        rule(RuleId::Ipv6Off, Facts::of(Ipv6Off), NEVER, Verdict::Direct),
        // Datagrams to such addresses do get a route, and a query may be captured.
        rule(
            RuleId::NotUnicast,
            Facts::of(NotUnicast),
            Facts::of(Udp),
            Verdict::Direct,
        ),
        // One row for all interfaces, evaluated before the jump to `ISTIO_OUTPUT`.
        rule(
            RuleId::InterfaceExcluded,
            Facts::of(InterfaceExcluded),
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
        uid_to_self(RuleId::UidToSelf, ProxyUid),
        rule(
            RuleId::AppLoUid,
            Facts::of(ViaLo),
            Facts::of(ProxyUid).and(LoopbackIncluded).and(DnsPort),
            Verdict::Direct,
        ),
        rule(RuleId::Uid, Facts::of(ProxyUid), NEVER, Verdict::Direct),
        uid_to_self(RuleId::UidToSelfLater, ProxyUidLater),
        rule(
            RuleId::UidLater,
            Facts::of(ProxyUidLater),
            NEVER,
            Verdict::Direct,
        ),
        // The same rows per proxy group.
        gid_to_self(RuleId::GidToSelf, ProxyGid),
        rule(
            RuleId::AppLoGid,
            Facts::of(ViaLo),
            Facts::of(ProxyGid).and(LoopbackIncluded).and(DnsPort),
            Verdict::Direct,
        ),
        rule(RuleId::Gid, Facts::of(ProxyGid), NEVER, Verdict::Direct),
        gid_to_self(RuleId::GidToSelfLater, ProxyGidLater),
        rule(
            RuleId::GidLater,
            Facts::of(ProxyGidLater),
            NEVER,
            Verdict::Direct,
        ),
        rule(
            RuleId::GroupExcluded,
            Facts::of(GroupExcluded),
            NEVER,
            Verdict::Direct,
        ),
        // Evaluated before every range and after every owner.
        rule(
            RuleId::Dns,
            Facts::of(DnsPort).and(DnsServer),
            NEVER,
            Verdict::Dns,
        ),
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
            Facts::of(Udp),
            Verdict::Out,
        ),
        rule(
            RuleId::CidrIncluded,
            Facts::of(CidrIncluded),
            Facts::of(Udp),
            Verdict::Out,
        ),
        rule(
            RuleId::AnyIncluded,
            Facts::of(AnyIncluded),
            Facts::of(Udp),
            Verdict::Out,
        ),
    ],
    fallthrough: RuleId::Default,
};
