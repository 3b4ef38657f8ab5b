//! `PREROUTING` with `ISTIO_INBOUND`.

use super::{Chain, NEVER, RuleId, Verdict, rule};
use crate::facts::{
    Fact::{
        InAnyIncluded, InInterfaceExcluded, InPortExcluded, InPortIncluded, Ipv6Off, Looped,
        PortTunnel,
    },
    Facts,
};

/// The chain every TCP connection walks that arrives at a pod whose inbound is redirected.
pub const INBOUND: Chain<7> = Chain {
    rules: [
        rule(
            RuleId::InIpv6Off,
            Facts::of(Ipv6Off),
            NEVER,
            Verdict::Direct,
        ),
        rule(RuleId::InLooped, Facts::of(Looped), NEVER, Verdict::Direct),
        // Before the jump to `ISTIO_INBOUND`.
        rule(
            RuleId::InInterfaceExcluded,
            Facts::of(InInterfaceExcluded),
            NEVER,
            Verdict::Direct,
        ),
        rule(
            RuleId::InTunnel,
            Facts::of(PortTunnel),
            NEVER,
            Verdict::Direct,
        ),
        // Counts only beside "every port".
        rule(
            RuleId::InPortExcluded,
            Facts::of(InPortExcluded).and(InAnyIncluded),
            NEVER,
            Verdict::Direct,
        ),
        rule(
            RuleId::InAnyIncluded,
            Facts::of(InAnyIncluded),
            NEVER,
            Verdict::In,
        ),
        rule(
            RuleId::InPortIncluded,
            Facts::of(InPortIncluded),
            NEVER,
            Verdict::In,
        ),
    ],
    fallthrough: RuleId::InDefault,
};
