//! The evaluation of a chain: the first match wins. No other code reaches a verdict.

use crate::{
    chain::{Chain, Rule, RuleId, Verdict},
    facts::Facts,
};

/// A verdict and the rule that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The fate of the connection.
    pub verdict: Verdict,
    /// The rule that matched, or the chain's fall-through.
    pub rule: RuleId,
}

/// Decides about a flow with these facts.
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

/// The reasons why a rule does not match a flow. Both sets are empty for a rule that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Why {
    /// Facts that the rule requires and the flow lacks.
    pub missing: Facts,
    /// Facts that the rule excludes and the flow has.
    pub forbidden: Facts,
}

/// The reasons why `rule` does not match `facts`.
#[must_use]
pub const fn why(rule: &Rule, facts: Facts) -> Why {
    Why {
        missing: rule.when.without(facts),
        forbidden: rule.unless.common(facts),
    }
}
