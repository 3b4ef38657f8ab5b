//! Walking a chain: first match wins. The only place where a verdict is reached.

use crate::{
    chain::{Chain, Rule, RuleId, Verdict},
    facts::Facts,
};

/// A verdict and the rule that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens to the connection.
    pub verdict: Verdict,
    /// The rule that matched, or the chain's fall-through.
    pub rule: RuleId,
}

/// Decides a flow by its facts.
#[inline(always)]
pub fn decide<const N: usize>(chain: &Chain<N>, facts: Facts) -> Decision {
    for rule in &chain.rules {
        if facts.has_all(rule.when) && !facts.has_any(rule.unless) {
            return Decision {
                verdict: rule.verdict,
                rule: rule.id,
            };
        }
    }
    Decision {
        verdict: Verdict::Direct,
        rule: chain.fallthrough,
    }
}

/// Why a rule did not match: what it needs and the flow lacks, and what it excludes and the flow
/// has. Both are empty for a rule that does match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    /// Facts that must hold and do not.
    pub missing: Facts,
    /// Facts that must not hold and do.
    pub in_the_way: Facts,
}

/// Says why `rule` does or does not match `facts`.
#[must_use]
pub const fn why(rule: &Rule, facts: Facts) -> Why {
    Why {
        missing: rule.when.without(facts),
        in_the_way: rule.unless.common(facts),
    }
}
