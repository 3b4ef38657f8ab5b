//! The ordered rule tables: Istio's chains, row by row.
//!
//! Do not simplify the tables: rows that look redundant are quirks of Istio's chains, and the
//! exhaustive test in `tests/order.rs` lists the rows that can never match. To add a rule, add a
//! [`RuleId`] (its position is the index of its counter), its texts, and one row at its place.

mod input;
mod output;
mod rule_id;

pub use input::INBOUND;
pub use output::OUTPUT;
pub use rule_id::RuleId;

use crate::facts::Facts;

/// The fate of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// Left alone: iptables' `RETURN`.
    Direct,
    /// Delivered to the proxy's outbound port: `ISTIO_REDIRECT`.
    Out,
    /// Delivered to the proxy's inbound port: `ISTIO_IN_REDIRECT`.
    In,
    /// Delivered to the mesh's resolver: `ISTIO_OUTPUT_DNS`.
    Dns,
}

impl Verdict {
    /// The verdict's name in text output, metrics and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Out => "out",
            Self::In => "in",
            Self::Dns => "dns",
        }
    }
}

/// One row of a table. It matches if every fact of `when` holds and no fact of `unless`.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The rule's identity.
    pub id: RuleId,
    /// Facts that must all hold.
    pub when: Facts,
    /// Facts that must not hold.
    pub unless: Facts,
    /// The verdict if the rule matches.
    pub verdict: Verdict,
}

/// An ordered table of rules. If no rule matches, the verdict is [`Verdict::Direct`].
#[derive(Clone, Copy, Debug)]
pub struct Chain<const N: usize> {
    /// The rules, in evaluation order.
    pub rules: [Rule; N],
    /// The rule that is counted if no rule matches.
    pub fallthrough: RuleId,
}

impl<const N: usize> Chain<N> {
    /// The verdict that a rule gives. For the fall-through it is [`Verdict::Direct`].
    #[must_use]
    pub fn verdict(&self, id: RuleId) -> Verdict {
        self.rules
            .iter()
            .find(|rule| rule.id == id)
            .map_or(Verdict::Direct, |rule| rule.verdict)
    }
}

const fn rule(id: RuleId, when: Facts, unless: Facts, verdict: Verdict) -> Rule {
    Rule {
        id,
        when,
        unless,
        verdict,
    }
}

const NEVER: Facts = Facts::NONE;
