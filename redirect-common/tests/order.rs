//! The decision for every combination of facts, and the rules that can never match.

use redirect_common::{
    abi::PROXY_IDS,
    chain::{Chain, INBOUND, OUTPUT, RuleId, Verdict},
    decide::{decide, why},
    facts::{Fact, Facts},
};

/// Every set of facts that an outbound flow can have: 127.0.0.1 is always local, and datagrams are
/// evaluated only to a resolver's port.
fn outbound_sets() -> impl Iterator<Item = Facts> {
    (0..1 << Fact::OUTBOUND)
        .map(Facts::from_bits)
        .filter(|facts| !facts.has(Fact::DstLoopback) || facts.has(Fact::ViaLo))
        .filter(|facts| !facts.has(Fact::Udp) || facts.has(Fact::DnsPort))
}

/// Every set of facts that an inbound connection can have.
fn inbound_sets() -> impl Iterator<Item = Facts> {
    (0_u32..1 << Fact::INBOUND.len()).map(|bits| {
        let facts = Fact::INBOUND.into_iter().enumerate();
        facts.fold(Facts::NONE, |set, (bit, fact)| {
            set.and_if(bits >> bit & 1 != 0, fact)
        })
    })
}

/// `ISTIO_OUTPUT` written as code in the order of the chain: a second implementation, independent
/// of the table. The proxy has four users and groups, and a later one that the facts tell is number `later` of them.
fn outbound_in_code(f: Facts, later: usize) -> Verdict {
    use Fact::*;
    let has = |fact| f.has(fact);
    let (tcp, dns) = (!has(Udp), has(DnsPort));
    if has(Ipv6Off) || has(NotUnicast) && tcp || has(InterfaceExcluded) || has(PortExcluded) {
        return Verdict::Direct;
    }
    if has(ViaLo) && has(SourcePassthrough) {
        return Verdict::Direct;
    }
    // Includes the rows that the table leaves out. Without the fact of their owner they are also
    // the rows of an absent user or group.
    let owners = |first, others| {
        (0..PROXY_IDS).map(move |number| match number {
            0 => has(first),
            _ => has(others) && number == later,
        })
    };
    let users = owners(ProxyUid, ProxyUidLater).map(|is_owner| (is_owner, dns));
    let groups = owners(ProxyGid, ProxyGidLater).map(|is_owner| (is_owner, false));
    for (is_owner, spares_queries) in users.chain(groups) {
        let spared = has(PortTunnel) || spares_queries;
        if has(ViaLo) && !has(DstLoopback) && tcp && !spared && is_owner {
            return Verdict::In;
        }
        if !has(LoopbackIncluded) && has(ViaLo) && !is_owner && !dns {
            return Verdict::Direct;
        }
        if is_owner {
            return Verdict::Direct;
        }
    }
    if has(GroupExcluded) {
        return Verdict::Direct;
    }
    if dns && has(DnsServer) {
        return Verdict::Dns;
    }
    if has(DstLoopback) || has(CidrExcluded) {
        return Verdict::Direct;
    }
    if tcp && (has(PortIncluded) || has(CidrIncluded) || has(AnyIncluded)) {
        return Verdict::Out;
    }
    Verdict::Direct
}

/// `ISTIO_INBOUND` written as code.
fn inbound_in_code(f: Facts) -> Verdict {
    use Fact::*;
    let has = |fact| f.has(fact);
    if has(Ipv6Off) || has(Looped) || has(InInterfaceExcluded) || has(PortTunnel) {
        Verdict::Direct
    } else if has(InAnyIncluded) {
        if has(InPortExcluded) {
            Verdict::Direct
        } else {
            Verdict::In
        }
    } else if has(InPortIncluded) {
        Verdict::In
    } else {
        Verdict::Direct
    }
}

#[test]
fn the_table_equals_the_chain_for_every_combination_of_facts() {
    let mut seen = 0;
    for facts in outbound_sets() {
        for later in 1..PROXY_IDS {
            assert_eq!(
                decide(&OUTPUT, facts).verdict,
                outbound_in_code(facts, later),
                "{facts:?}, number {later}"
            );
        }
        seen += 1;
    }
    assert_eq!(
        seen,
        9 << (Fact::OUTBOUND - 4),
        "three of four combinations are possible, twice"
    );
    for facts in inbound_sets() {
        assert_eq!(
            decide(&INBOUND, facts).verdict,
            inbound_in_code(facts),
            "{facts:?}"
        );
    }
}

#[test]
fn only_the_known_rule_is_unreachable() {
    let mut alive = [false; RuleId::ALL.len()];
    for facts in outbound_sets() {
        alive[decide(&OUTPUT, facts).rule.index()] = true;
    }
    for facts in inbound_sets() {
        alive[decide(&INBOUND, facts).rule.index()] = true;
    }
    let dead: Vec<_> = RuleId::ALL
        .into_iter()
        .filter(|rule| !alive[rule.index()])
        .map(RuleId::name)
        .collect();
    // Connections of other users have ended at app-lo-uid, those of the proxy's user at uid. A
    // query passes both rows.
    assert_eq!(dead, ["app-lo-gid"]);
}

/// Istio's lists of users are not sets.
#[test]
fn only_the_first_user_is_redirected_to_itself() {
    let to_self = Facts::of(Fact::ViaLo);
    for (user, rule) in [
        (Fact::ProxyUid, RuleId::UidToSelf),
        (Fact::ProxyUidLater, RuleId::AppLoUid),
        (Fact::ProxyGid, RuleId::AppLoUid),
        (Fact::ProxyGidLater, RuleId::AppLoUid),
    ] {
        assert_eq!(decide(&OUTPUT, to_self.and(user)).rule, rule, "{user:?}");
    }
    let spared = to_self.and(Fact::LoopbackIncluded);
    for (user, rule) in [
        (Fact::ProxyUidLater, RuleId::UidToSelfLater),
        (Fact::ProxyGid, RuleId::GidToSelf),
        (Fact::ProxyGidLater, RuleId::GidToSelfLater),
    ] {
        assert_eq!(decide(&OUTPUT, spared.and(user)).rule, rule, "{user:?}");
    }
}

#[test]
fn declaration_order_is_evaluation_order() {
    fn ids<const N: usize>(chain: &Chain<N>) -> Vec<RuleId> {
        let rules = chain.rules.iter().map(|rule| rule.id);
        rules.chain([chain.fallthrough]).collect()
    }
    assert_eq!([ids(&OUTPUT), ids(&INBOUND)].concat(), RuleId::ALL);
    for (index, rule) in RuleId::ALL.into_iter().enumerate() {
        assert_eq!(rule.index(), index);
        assert_eq!(rule.is_inbound(), index > OUTPUT.rules.len());
    }
    for (index, fact) in Fact::ALL.into_iter().enumerate() {
        assert_eq!(Facts::of(fact), Facts::from_bits(1 << index));
    }
}

#[test]
fn reasons_are_empty_exactly_for_rules_that_match() {
    for facts in outbound_sets().step_by(7) {
        for rule in &OUTPUT.rules {
            let why = why(rule, facts);
            let matches = facts.has_all(rule.when) && !facts.has_any(rule.unless);
            let empty = why.missing == Facts::NONE && why.forbidden == Facts::NONE;
            assert_eq!(empty, matches, "{} {facts:?}", rule.id.name());
        }
    }
}
