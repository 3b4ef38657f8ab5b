//! Tables that are wrong in one place, and whether what iptables did tells them from the right one.
#![expect(clippy::indexing_slicing, reason = "rows of one table are the other's")]

use redirect_common::{
    chain::{Chain, Rule, Verdict},
    decide::decide,
    facts::{Fact, Facts},
};

/// A table with one mistake.
#[derive(Clone, Debug)]
pub(super) struct Mutant<const ROWS: usize> {
    /// The mistake, in words.
    pub(super) what: String,
    right: &'static Chain<ROWS>,
    chain: Chain<ROWS>,
    /// The rows that are not as they should be, and those that should be there: what each wants and
    /// what it refuses, as bits, because millions of sets are compared with them.
    changed: Vec<(u32, u32)>,
}

/// Every row dropped, swapped with the next and given another verdict, and every fact of it dropped
/// and turned into its contrary.
pub(super) fn mutants<const ROWS: usize>(right: &'static Chain<ROWS>) -> Vec<Mutant<ROWS>> {
    let mut mutants = Vec::new();
    for (place, rule) in right.rules.into_iter().enumerate() {
        let name = rule.id.name();
        let mut add = |what: String, changed: Rule| {
            let mut chain = *right;
            chain.rules[place] = changed;
            let what = format!("{name}: {what}");
            mutants.push(Mutant::new(what, right, chain, &[place]));
        };
        add("dropped".to_owned(), never(rule));
        for verdict in [Verdict::Direct, Verdict::Out, Verdict::In, Verdict::Dns] {
            if verdict != rule.verdict {
                add(format!("says {}", verdict.name()), Rule { verdict, ..rule });
            }
        }
        for fact in Fact::ALL {
            let one = Facts::of(fact);
            let (when, unless) = (rule.when.without(one), rule.unless.without(one));
            if rule.when.has(fact) {
                add(format!("without {fact:?}"), Rule { when, ..rule });
                let unless = rule.unless.or(one);
                add(
                    format!("unless {fact:?}"),
                    Rule {
                        when,
                        unless,
                        ..rule
                    },
                );
            } else if rule.unless.has(fact) {
                add(format!("whether or not {fact:?}"), Rule { unless, ..rule });
                let when = rule.when.or(one);
                add(
                    format!("only if {fact:?}"),
                    Rule {
                        when,
                        unless,
                        ..rule
                    },
                );
            }
        }
        if let Some(next) = right.rules.get(place + 1) {
            let mut chain = *right;
            chain.rules.swap(place, place + 1);
            let what = format!("{name}: after {}", next.id.name());
            mutants.push(Mutant::new(what, right, chain, &[place, place + 1]));
        }
    }
    mutants
}

/// A row that no flow matches, because it wants and refuses the same.
const fn never(rule: Rule) -> Rule {
    let both = Facts::of(Fact::NotUnicast);
    Rule {
        when: both,
        unless: both,
        ..rule
    }
}

/// A set of facts as a number.
pub(super) fn bits(facts: Facts) -> u32 {
    facts.iter().fold(0, |bits, fact| bits | 1 << fact as u32)
}

impl<const ROWS: usize> Mutant<ROWS> {
    fn new(
        what: String,
        right: &'static Chain<ROWS>,
        chain: Chain<ROWS>,
        changed: &[usize],
    ) -> Self {
        let rows = changed
            .iter()
            .flat_map(|row| [chain.rules[*row], right.rules[*row]]);
        Self {
            what,
            right,
            chain,
            changed: rows
                .map(|rule| (bits(rule.when), bits(rule.unless)))
                .collect(),
        }
    }

    /// Whether it gets a flow wrong that iptables were seen to decide.
    pub(super) fn is_told_by(&self, bits: u32, seen: Verdict) -> bool {
        self.errs(bits) && decide(&self.chain, Facts::from_bits(bits)).verdict != seen
    }

    /// Whether it decides some flow otherwise than the right table.
    pub(super) fn errs(&self, bits: u32) -> bool {
        // All other rows decide as they do in the right one.
        for (when, unless) in &self.changed {
            if bits & when == *when && bits & unless == 0 {
                let facts = Facts::from_bits(bits);
                return decide(&self.chain, facts).verdict != decide(self.right, facts).verdict;
            }
        }
        false
    }

    /// Whether no flow that there can be tells it from the right one: it is no mistake.
    pub(super) fn is_equivalent(&self, possible: &[u32]) -> bool {
        !possible.iter().any(|bits| self.errs(*bits))
    }
}

/// Every set of facts that a connection that arrives can have: ports are listed, or all
/// that are not excluded.
pub(super) fn every_arrival() -> Vec<u32> {
    let both = Facts::of(Fact::InAnyIncluded).and(Fact::InPortIncluded);
    let sets = 0..1_u32 << Fact::INBOUND.len();
    sets.map(|set| {
        let (facts, _) = Fact::INBOUND
            .into_iter()
            .fold((Facts::NONE, set), |(facts, set), fact| {
                (facts.and_if(set & 1 != 0, fact), set >> 1)
            });
        facts
    })
    .filter(|facts| !facts.has_all(both))
    .filter(|facts| facts.has(Fact::InAnyIncluded) || !facts.has(Fact::InPortExcluded))
    .map(bits)
    .collect()
}

/// Every set of facts that a connection or a datagram of the pod can have: what is loopback is local; `*` is
/// not in a list with ranges; and no datagram is looked at but those that may be captured.
pub(super) fn every_possible() -> Vec<u32> {
    let ranges = Facts::of(Fact::LoopbackIncluded).and(Fact::CidrIncluded);
    (0..1 << Fact::OUTBOUND)
        .filter(|bits: &u32| {
            let facts = Facts::from_bits(*bits);
            (facts.has(Fact::ViaLo) || !facts.has(Fact::DstLoopback))
                && (facts.has(Fact::DnsPort) || !facts.has(Fact::Udp))
                && !(facts.has(Fact::AnyIncluded) && facts.has_any(ranges))
        })
        .collect()
}
