// SPDX-License-Identifier: MIT OR Apache-2.0
//! What an Envoy has counted.

use anyhow::{Context as _, Result};

use super::admin::admin;
use crate::worker::Worker;

/// All of Envoy's counters and gauges at one moment.
#[derive(Debug, Clone)]
pub struct EnvoyStats(String);

impl EnvoyStats {
    /// Those of the Envoy whose loopback is this worker's, too.
    pub fn of(worker: &Worker) -> Result<Self> {
        admin(worker, "/stats").map(Self)
    }

    /// One of them by its full name; 0 if it hasn't been touched yet.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map_or(Ok(0), |value| {
            value
                .parse()
                .with_context(|| format!("{name} is {value:?}"))
        })
    }

    /// Connections that Envoy has opened for a cluster, such as [`crate::Envoy::PASSTHROUGH`].
    pub fn connections(&self, cluster: &str) -> Result<u64> {
        self.counter(&format!("cluster.{cluster}.upstream_cx_total"))
    }

    /// Connections that found no host in a cluster: those closed by [`crate::Envoy::BLACK_HOLE`].
    pub fn turned_away(&self, cluster: &str) -> Result<u64> {
        self.counter(&format!("cluster.{cluster}.upstream_cx_none_healthy"))
    }

    /// Connections that one of the capture listeners has accepted: `0.0.0.0_15001`.
    pub fn accepted(&self, listener: &str) -> Result<u64> {
        self.counter(&format!("listener.{listener}.downstream_cx_total"))
    }
}
