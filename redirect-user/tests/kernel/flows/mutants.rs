//! Mutants: rule tables with one mistake, which the verdicts of iptables must distinguish from the right table.
#![expect(clippy::indexing_slicing, reason = "rows of one table are the other's")]

use redirect_common::{
    chain::{Chain, Rule, Verdict},
    decide::decide,
    facts::{Fact, Facts},
};

/// A rule table with one mistake.
#[derive(Clone, Debug)]
pub(super) struct Mutant<const ROWS: usize> {
    /// The mistake as text.
    pub(super) mistake: String,
    right: &'static Chain<ROWS>,
    chain: Chain<ROWS>,
    /// The wrong rows, and the right rows in their places: the facts that each requires and those that it refuses, as
    /// bits, because millions of sets are compared with them.
    changed: Vec<(u32, u32)>,
}

/// Makes the mutants of a table: each row dropped, swapped with the next, and given another verdict, and each fact of
/// a row dropped and inverted.
pub(super) fn mutants<const ROWS: usize>(right: &'static Chain<ROWS>) -> Vec<Mutant<ROWS>> {
    let mut mutants = Vec::new();
    for (index, rule) in right.rules.into_iter().enumerate() {
        let name = rule.id.name();
        let mut add = |mistake: String, changed: Rule| {
            let mut chain = *right;
            chain.rules[index] = changed;
            let mistake = format!("{name}: {mistake}");
            mutants.push(Mutant::new(mistake, right, chain, &[index]));
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
        if let Some(next) = right.rules.get(index + 1) {
            let mut chain = *right;
            chain.rules.swap(index, index + 1);
            let mistake = format!("{name}: after {}", next.id.name());
            mutants.push(Mutant::new(mistake, right, chain, &[index, index + 1]));
        }
    }
    mutants
}

/// Makes a row that no flow matches, because the row requires and refuses the same fact.
const fn never(rule: Rule) -> Rule {
    let both = Facts::of(Fact::NotUnicast);
    Rule {
        when: both,
        unless: both,
        ..rule
    }
}

/// Converts a set of facts to bits.
pub(super) fn bits(facts: Facts) -> u32 {
    facts.iter().fold(0, |bits, fact| bits | 1 << fact as u32)
}

impl<const ROWS: usize> Mutant<ROWS> {
    fn new(
        mistake: String,
        right: &'static Chain<ROWS>,
        chain: Chain<ROWS>,
        changed: &[usize],
    ) -> Self {
        let rows = changed
            .iter()
            .flat_map(|row| [chain.rules[*row], right.rules[*row]]);
        Self {
            mistake,
            right,
            chain,
            changed: rows
                .map(|rule| (bits(rule.when), bits(rule.unless)))
                .collect(),
        }
    }

    /// Whether a verdict of iptables about these facts distinguishes the mutant from the right table.
    pub(super) fn is_killed_by(&self, bits: u32, seen: Verdict) -> bool {
        self.errs(bits) && decide(&self.chain, Facts::from_bits(bits)).verdict != seen
    }

    /// Whether the mutant decides these facts differently from the right table.
    pub(super) fn errs(&self, bits: u32) -> bool {
        // All other rows decide as they do in the right table.
        for (when, unless) in &self.changed {
            if bits & when == *when && bits & unless == 0 {
                let facts = Facts::from_bits(bits);
                return decide(&self.chain, facts).verdict != decide(self.right, facts).verdict;
            }
        }
        false
    }

    /// Whether no possible flow distinguishes the mutant from the right table, so that it is no mistake.
    pub(super) fn is_equivalent(&self, possible: &[u32]) -> bool {
        !possible.iter().any(|bits| self.errs(*bits))
    }
}

/// Lists every set of facts that an inbound connection can have: the policy has a list of ports, or all ports with
/// exceptions.
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

/// Lists every set of facts that a connection or a datagram of the pod can have: a loopback destination is local, `*`
/// excludes a list of ranges, and only datagrams that may be captured are decided about.
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
