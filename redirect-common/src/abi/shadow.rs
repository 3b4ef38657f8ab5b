//! Shadow mode: the difference between where a connection really went and where it would be sent.

use super::Serial;
use crate::{
    chain::RuleId,
    net::{BeAddr, BePort},
};

/// Key of one kind of difference. The value counts how often it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct ShadowDiffKey {
    /// The row that decided.
    pub serial: Serial,
    /// The address dialled.
    pub addr: BeAddr,
    /// The port dialled.
    pub port: BePort,
    /// The capture port it would be sent to; 0 if it would be left alone.
    pub decided: BePort,
    /// The capture port it arrived at; 0 if at none.
    pub real: BePort,
    /// The rule that decided, by [`RuleId::index`].
    pub rule: u8,
    /// Zero.
    pub reserved: u8,
}

impl ShadowDiffKey {
    /// The rule that decided.
    #[must_use]
    pub fn rule(&self) -> Option<RuleId> {
        RuleId::ALL.get(usize::from(self.rule)).copied()
    }
}
