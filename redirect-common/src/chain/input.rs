//! The inbound table: `PREROUTING` with `ISTIO_INBOUND`.

use super::{Chain, NEVER, RuleId, Verdict, rule};
use crate::facts::{
    Fact::{
        InAnyIncluded, InInterfaceExcluded, InPortExcluded, InPortIncluded, Ipv6Off, Looped,
        PortTunnel,
    },
    Facts,
};

/// The chain for every TCP connection that arrives at a pod whose inbound connections are
/// redirected.
pub const INBOUND: Chain<7> = Chain {
    rules: [
        rule(
            RuleId::InIpv6Off,
            Facts::of(Ipv6Off),
            NEVER,
            Verdict::Direct,
        ),
        rule(RuleId::InLooped, Facts::of(Looped), NEVER, Verdict::Direct),
        // Evaluated before the jump to `ISTIO_INBOUND`.
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
        // Applies only if every inbound port is included.
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
