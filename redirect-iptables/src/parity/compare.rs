//! The comparison and its result.

use std::collections::BTreeMap;

use redirect_common::chain::RuleId;

use super::{Direction, PolicyDecision, Probe, Site};
use crate::{
    netfilter::{Answer, Ruleset, Verdict, inbound, outbound},
    rules::Family,
};

/// The result of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The number of connections that were compared.
    pub probes: usize,
    /// The connections that are decided differently, grouped by the pair of rules that decide.
    pub differences: Vec<Difference>,
    /// The rules that decide a connection and are not understood, each once.
    pub undecided: Vec<UndecidedRule>,
}

/// Connections that a rule of the policy and a rule of the text decide differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The first of the connections.
    pub witness: Probe,
    /// The decision of the policy.
    pub ours: PolicyDecision,
    /// The verdict of the rules.
    pub verdict: Verdict,
    /// The family of the rules.
    pub family: Family,
    /// The line of the rule that decided; 0 if none did.
    pub line: usize,
    /// The rule that decided, or a text in its place.
    pub rule: String,
    /// The number of connections of this kind.
    pub probes: usize,
}

/// A rule that is not understood, and the connections that it decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndecidedRule {
    /// The first of the connections.
    pub witness: Probe,
    /// The family of the rules.
    pub family: Family,
    /// The line of the rule.
    pub line: usize,
    /// The rule.
    pub rule: String,
    /// The number of connections of this kind.
    pub probes: usize,
}

/// Compares the decisions about every probe.
pub fn compare(
    [v4, v6]: [&Ruleset; 2],
    site: &Site,
    probes: &[Probe],
    decide: impl Fn(&Probe) -> PolicyDecision,
) -> Comparison {
    let mut differences = BTreeMap::new();
    let mut undecided = BTreeMap::new();
    for probe in probes {
        let packet = probe.packet(site);
        let rules = if packet.destination.is_ipv4() { v4 } else { v6 };
        let answer = match probe.direction {
            Direction::Outbound => outbound(rules, &packet),
            Direction::Inbound => inbound(rules, &packet),
        };
        let key = (
            probe.direction,
            rules.family.number(),
            answer.decided_by.line(),
        );
        if answer.verdict == Verdict::Unknown {
            let new = || UndecidedRule {
                witness: probe.clone(),
                family: rules.family,
                line: answer.decided_by.line(),
                rule: answer.decided_by.text(),
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
            line: answer.decided_by.line(),
            rule: answer.decided_by.text(),
            probes: 0,
        };
        let rule = ours.rule.map(RuleId::index);
        let known = differences.entry((key, rule)).or_insert_with(new);
        known.probes = known.probes.saturating_add(1);
    }
    Comparison {
        probes: probes.len(),
        differences: differences.into_values().collect(),
        undecided: undecided.into_values().collect(),
    }
}

/// Whether a connection ends at the same port. `TPROXY` and `REDIRECT` are two ways to reach it.
fn agree(ours: PolicyDecision, answer: &Answer<'_>) -> bool {
    match answer.verdict {
        Verdict::Direct => ours.port.is_none(),
        Verdict::Redirect(port) | Verdict::Tproxy(port) => ours.port == Some(port),
        Verdict::Drop | Verdict::Unknown => false,
    }
}
