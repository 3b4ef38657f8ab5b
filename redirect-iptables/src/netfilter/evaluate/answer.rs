//! The end of a walk: a verdict, and the rule or policy that gave it.

use crate::netfilter::model::Rule;

/// The fate of a connection under the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// To its own destination.
    Direct,
    /// Redirected to this port of the pod.
    Redirect(u16),
    /// Given to a transparent listening socket at this port.
    Tproxy(u16),
    /// Dropped or rejected.
    Drop,
    /// Dependent on a rule that is not understood.
    Unknown,
}

/// The rule or policy that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecidedBy<'r> {
    /// A rule.
    Rule(&'r Rule),
    /// The policy of a built-in chain, by table and chain.
    Policy(&'r str, &'r str),
    /// The end of all chains.
    End,
}

impl DecidedBy<'_> {
    /// The line of the rule; 0 if no rule decided.
    pub const fn line(&self) -> usize {
        match self {
            Self::Rule(rule) => rule.line,
            Self::Policy(..) | Self::End => 0,
        }
    }

    /// The rule, or a text in its place.
    pub fn text(&self) -> String {
        match self {
            Self::Rule(rule) => rule.text.clone(),
            Self::Policy(table, chain) => format!("(policy of {chain} in table {table})"),
            Self::End => "(no rule: end of the chains)".to_owned(),
        }
    }
}

/// A verdict, and the rule that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'r> {
    /// The verdict.
    pub verdict: Verdict,
    /// The rule or policy that decided.
    pub decided_by: DecidedBy<'r>,
}
