//! Shadow mode: the difference between a connection's real target and the target the policy gives.

use super::Serial;
use crate::{
    chain::RuleId,
    net::{BeAddr, BePort},
};

/// Key of one kind of difference; the map's value counts the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ShadowDiffKey {
    /// The serial of the row that decided.
    pub serial: Serial,
    /// The address dialled.
    pub addr: BeAddr,
    /// The port dialled.
    pub port: BePort,
    /// The capture port that the policy would send the connection to; 0 if it would be left alone.
    pub decided: BePort,
    /// The capture port that the connection arrived at; 0 if it arrived at none.
    pub real: BePort,
    /// The rule that decided, by [`RuleId::index`].
    pub rule: u8,
    /// Padding, always zero.
    pub reserved: u8,
}

impl ShadowDiffKey {
    /// The rule that decided. `None` for a number that is not a rule of this build.
    #[must_use]
    pub fn rule(&self) -> Option<RuleId> {
        RuleId::ALL.get(usize::from(self.rule)).copied()
    }
}
