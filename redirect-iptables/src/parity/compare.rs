//! The comparison, and what is told of it.

use std::collections::BTreeMap;

use redirect_common::chain::RuleId;

use super::{Direction, Ours, Probe, Site};
use crate::{
    netfilter::{Answer, Ruleset, Verdict, inbound, outbound},
    rules::Family,
};

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// How many connections were asked about.
    pub probes: usize,
    /// What is decided differently, one for each pair of rules.
    pub differences: Vec<Difference>,
    /// Rules that are not understood and decide something, each once.
    pub undecided: Vec<Undecided>,
}

/// Connections that one rule of ours and one of the text decide differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The first of the connections.
    pub witness: Probe,
    /// What we say of it.
    pub ours: Ours,
    /// What the rules do with it.
    pub verdict: Verdict,
    /// The family of the rules.
    pub family: Family,
    /// The line of the rule that decided; 0 if none did.
    pub line: usize,
    /// The rule, or what decided instead.
    pub rule: String,
    /// How many connections there are of this kind.
    pub probes: usize,
}

/// Connections whose fate a rule decides that is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// The first of the connections.
    pub witness: Probe,
    /// The family of the rules.
    pub family: Family,
    /// The line of the rule.
    pub line: usize,
    /// The rule.
    pub rule: String,
    /// How many connections there are of this kind.
    pub probes: usize,
}

/// Asks both sides about every probe.
pub fn compare(
    [v4, v6]: [&Ruleset; 2],
    site: &Site,
    probes: &[Probe],
    decide: impl Fn(&Probe) -> Ours,
) -> Compared {
    let mut differences = BTreeMap::new();
    let mut undecided = BTreeMap::new();
    for probe in probes {
        let packet = probe.packet(site);
        let rules = if packet.destination.is_ipv4() { v4 } else { v6 };
        let answer = match probe.direction {
            Direction::Outbound => outbound(rules, &packet),
            Direction::Inbound => inbound(rules, &packet),
        };
        let key = (probe.direction, rules.family.number(), answer.by.line());
        if answer.verdict == Verdict::Unknown {
            let new = || Undecided {
                witness: probe.clone(),
                family: rules.family,
                line: answer.by.line(),
                rule: answer.by.text(),
                probes: 0,
            };
            let known = undecided.entry(key).or_insert_with(new);
            known.probes = known.probes.saturating_add(1);
            continue;
        }
        let ours = decide(probe);
        if agree(ours, &answer) {
            continue;
        }
        let new = || Difference {
            witness: probe.clone(),
            ours,
            verdict: answer.verdict,
            family: rules.family,
            line: answer.by.line(),
            rule: answer.by.text(),
            probes: 0,
        };
        let rule = ours.rule.map(RuleId::index);
        let known = differences.entry((key, rule)).or_insert_with(new);
        known.probes = known.probes.saturating_add(1);
    }
    Compared {
        probes: probes.len(),
        differences: differences.into_values().collect(),
        undecided: undecided.into_values().collect(),
    }
}

/// Whether a connection ends at the same port. `TPROXY` and `REDIRECT` are two ways there.
fn agree(ours: Ours, answer: &Answer<'_>) -> bool {
    match answer.verdict {
        Verdict::Direct => ours.port.is_none(),
        Verdict::Redirect(port) | Verdict::Tproxy(port) => ours.port == Some(port),
        Verdict::Drop | Verdict::Unknown => false,
    }
}
