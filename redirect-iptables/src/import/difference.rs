//! The differences between a text of rules and the rules that a configuration is rendered as.

use std::collections::BTreeMap;

use redirect_user::config::RedirectConfig;
use serde::Serialize;

use crate::{
    netfilter::{Chain, ParseError, Rule, RuleKey, Ruleset, parse},
    rules::restore,
};

/// The way in which a rule differs from the rendered configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DifferenceKind {
    /// The text has the rule, and the configuration does not express it.
    Unexpressed,
    /// The configuration is rendered with the rule, and the text does not have it.
    Added,
    /// Both have the rule, at different places in its chain. Only the first such rule of a chain is named.
    Moved,
}

/// A rule that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleDifference {
    /// The way in which it differs.
    pub kind: DifferenceKind,
    /// `4` or `6`.
    pub family: u8,
    /// The rule's table.
    pub table: String,
    /// The rule's line in the text; none for a rule that the configuration adds, and for a policy.
    pub line: Option<usize>,
    /// The rule.
    pub rule: String,
}

/// Compares rules of one family with the rules that a configuration is rendered as. They are the same if there is no
/// difference.
pub fn differences(
    rules: &Ruleset,
    config: &RedirectConfig,
) -> Result<Vec<RuleDifference>, ParseError> {
    let rendered = parse(rules.family, &restore(config, rules.family))?;
    let tables = rules.tables.iter().chain(&rendered.tables);
    let mut names: Vec<_> = tables.map(|table| table.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut differences = Vec::new();
    for name in names {
        let (theirs, ours) = (rules.table(name), rendered.table(name));
        let chains = theirs.iter().chain(&ours).flat_map(|table| &table.chains);
        let mut chains: Vec<_> = chains.map(|chain| chain.name.as_str()).collect();
        chains.sort_unstable();
        chains.dedup();
        for chain in chains {
            let pair = ChainPair {
                family: rules.family.number(),
                table: name,
                theirs: theirs.and_then(|table| table.chain(chain)),
                ours: ours.and_then(|table| table.chain(chain)),
            };
            pair.add_differences(&mut differences);
        }
    }
    Ok(differences)
}

/// One chain, as it is in the text and as it is rendered.
struct ChainPair<'a> {
    family: u8,
    table: &'a str,
    theirs: Option<&'a Chain>,
    ours: Option<&'a Chain>,
}

impl ChainPair<'_> {
    fn add_differences(&self, differences: &mut Vec<RuleDifference>) {
        if let Some(chain) = self.theirs
            && let Some(policy) = chain.policy.as_ref().filter(|_| !chain.accepts())
        {
            let rule = format!("-P {} {policy}", chain.name);
            differences.push(self.difference(DifferenceKind::Unexpressed, None, &rule));
        }
        let (ours, theirs) = (keyed(self.ours), keyed(self.theirs));
        let (stray, added) = (without(&theirs, &ours), without(&ours, &theirs));
        if stray.is_empty() && added.is_empty() {
            let mut pairs = theirs.iter().zip(&ours);
            if let Some(((_, rule), _)) = pairs.find(|((key, _), (other, _))| key != other) {
                let (line, text) = (Some(rule.line), &rule.text);
                differences.push(self.difference(DifferenceKind::Moved, line, text));
            }
        }
        for rule in stray {
            let (line, text) = (Some(rule.line), &rule.text);
            differences.push(self.difference(DifferenceKind::Unexpressed, line, text));
        }
        for rule in added {
            differences.push(self.difference(DifferenceKind::Added, None, &rule.text));
        }
    }

    fn difference(&self, kind: DifferenceKind, line: Option<usize>, rule: &str) -> RuleDifference {
        RuleDifference {
            kind,
            family: self.family,
            table: self.table.to_owned(),
            line,
            rule: rule.to_owned(),
        }
    }
}

/// The rules of a chain, each with the key that rules are compared by.
fn keyed(chain: Option<&Chain>) -> Vec<(RuleKey, &Rule)> {
    let rules = chain.map_or(&[][..], |chain| chain.rules.as_slice());
    rules.iter().map(|rule| (rule.key(), rule)).collect()
}

/// The rules of one list that the other list lacks, as many times as it lacks them.
fn without<'r>(rules: &[(RuleKey, &'r Rule)], others: &[(RuleKey, &Rule)]) -> Vec<&'r Rule> {
    let mut left = BTreeMap::<&RuleKey, usize>::new();
    for (key, _) in others {
        let count = left.entry(key).or_default();
        *count = count.saturating_add(1);
    }
    let mut lacks = |key: &RuleKey| match left.get_mut(key) {
        Some(count) if *count > 0 => {
            *count = count.saturating_sub(1);
            false
        }
        _ => true,
    };
    let strays = rules.iter().filter(|(key, _)| lacks(key));
    strays.map(|(_, rule)| *rule).collect()
}
