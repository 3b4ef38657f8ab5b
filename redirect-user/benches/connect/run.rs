//! The measurement of one arm in one round.

use std::collections::BTreeMap;

use serde::Serialize;

/// The measurement of one arm in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    /// The number of excluded ranges.
    pub(crate) ranges: u32,
    /// The number of the round, from 1.
    pub(crate) round: u32,
    /// The position of the measurement in the round, from 1.
    pub(crate) place: usize,
    /// The name of the arm.
    pub(crate) arm: &'static str,
    /// The number of connections made.
    pub(crate) connections: u64,
    /// The time in which they were made.
    pub(crate) seconds: f64,
    /// Connections per second.
    pub(crate) rate: f64,
    /// The rate divided by the direct arm's in the same round.
    pub(crate) of_direct: f64,
    /// The median time of one connect.
    pub(crate) p50_ns: u64,
    /// The 99th percentile of the time of one connect.
    pub(crate) p99_ns: u64,
    /// The number of failed connects by the name of the error.
    pub(crate) errors: BTreeMap<String, u64>,
}
