// SPDX-License-Identifier: MIT OR Apache-2.0
//! The counters and gauges of Envoy.

use anyhow::{Context as _, Result};

use super::admin::admin;
use crate::worker::Worker;

/// All counters and gauges of an Envoy at one moment.
#[derive(Debug, Clone)]
pub struct EnvoyStats(String);

impl EnvoyStats {
    /// Gets the statistics of the Envoy in this worker's network namespace.
    pub fn of(worker: &Worker) -> Result<Self> {
        admin(worker, "/stats").map(Self)
    }

    /// The value of a counter or gauge, by its full name; 0 if Envoy has not used it yet.
    pub fn counter(&self, name: &str) -> Result<u64> {
        let mut lines = self.0.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.map_or(Ok(0), |value| {
            value
                .parse()
                .with_context(|| format!("parse {name} of Envoy: {value:?}"))
        })
    }

    /// The number of connections that Envoy has opened for a cluster, such as [`crate::Envoy::PASSTHROUGH`].
    pub fn connections(&self, cluster: &str) -> Result<u64> {
        self.counter(&format!("cluster.{cluster}.upstream_cx_total"))
    }

    /// The number of connections that found no host in a cluster, and were closed: see
    /// [`crate::Envoy::BLACK_HOLE`].
    pub fn turned_away(&self, cluster: &str) -> Result<u64> {
        self.counter(&format!("cluster.{cluster}.upstream_cx_none_healthy"))
    }

    /// The number of connections that a capture listener has accepted, for example `0.0.0.0_15001`.
    pub fn accepted(&self, listener: &str) -> Result<u64> {
        self.counter(&format!("listener.{listener}.downstream_cx_total"))
    }
}
