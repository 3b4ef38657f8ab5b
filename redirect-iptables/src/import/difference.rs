//! What rules have that a configuration does not say, and the other way round.

use std::collections::BTreeMap;

use redirect_user::config::RedirectConfig;
use serde::Serialize;

use crate::{
    netfilter::{Chain, ParseError, Rule, RuleKey, Ruleset, parse},
    rules::restore,
};

/// How a rule differs from what a configuration stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The text has it and the configuration does not express it.
    Unexpressed,
    /// The configuration stands for it and the text does not have it.
    Added,
    /// Both have it, at another place among the rules of its chain; the first of each chain.
    Moved,
}

/// A rule that is not the same on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// How it differs.
    pub kind: Kind,
    /// `4` or `6`.
    pub family: u8,
    /// Its table.
    pub table: String,
    /// Its line in the text; none for a rule that the configuration adds, and for a policy.
    pub line: Option<usize>,
    /// The rule.
    pub rule: String,
}

/// Compares rules of one family with what a configuration is rendered as: no difference means that
/// they are the same.
pub fn differences(
    rules: &Ruleset,
    config: &RedirectConfig,
) -> Result<Vec<Difference>, ParseError> {
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
            let found = Found {
                family: rules.family.number(),
                table: name,
                theirs: theirs.and_then(|table| table.chain(chain)),
                ours: ours.and_then(|table| table.chain(chain)),
            };
            found.add_to(&mut differences);
        }
    }
    Ok(differences)
}

/// One chain, on both sides.
struct Found<'a> {
    family: u8,
    table: &'a str,
    theirs: Option<&'a Chain>,
    ours: Option<&'a Chain>,
}

impl Found<'_> {
    fn add_to(&self, differences: &mut Vec<Difference>) {
        if let Some(chain) = self.theirs
            && let Some(policy) = chain.policy.as_ref().filter(|_| !chain.accepts())
        {
            let rule = format!("-P {} {policy}", chain.name);
            differences.push(self.difference(Kind::Unexpressed, None, &rule));
        }
        let (ours, theirs) = (keyed(self.ours), keyed(self.theirs));
        let (stray, added) = (without(&theirs, &ours), without(&ours, &theirs));
        if stray.is_empty() && added.is_empty() {
            let mut pairs = theirs.iter().zip(&ours);
            if let Some(((_, rule), _)) = pairs.find(|((key, _), (other, _))| key != other) {
                differences.push(self.difference(Kind::Moved, Some(rule.line), &rule.text));
            }
        }
        for rule in stray {
            differences.push(self.difference(Kind::Unexpressed, Some(rule.line), &rule.text));
        }
        for rule in added {
            differences.push(self.difference(Kind::Added, None, &rule.text));
        }
    }

    fn difference(&self, kind: Kind, line: Option<usize>, rule: &str) -> Difference {
        Difference {
            kind,
            family: self.family,
            table: self.table.to_owned(),
            line,
            rule: rule.to_owned(),
        }
    }
}

/// The rules of a chain, with what they can be compared by.
fn keyed(chain: Option<&Chain>) -> Vec<(RuleKey, &Rule)> {
    let rules = chain.map_or(&[][..], |chain| chain.rules.as_slice());
    rules.iter().map(|rule| (rule.key(), rule)).collect()
}

/// The rules of one list that the other lacks, as often as it lacks them.
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
