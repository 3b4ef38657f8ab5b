//! The findings of shadow mode: connections whose real target differs from the decision.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use redirect_common::abi::{Serial, ShadowDiffKey};

use super::{open::ignore_missing, pinned_maps::Maps, usage::count};

impl Maps {
    /// The differences that shadow mode has found for a row, in no particular order, with the
    /// number of connections of each kind.
    pub fn shadow_diffs(&self, serial: Serial) -> Result<Vec<(ShadowDiffKey, u64)>> {
        let mut found = Vec::new();
        for entry in &self.shadow_diffs {
            let (key, times) = entry.context("list the differences")?;
            if key.serial == serial {
                found.push((key, times));
            }
        }
        Ok(found)
    }

    /// Removes the differences of all rows but these.
    pub fn drop_shadow_diffs_outside(&mut self, used: &BTreeSet<Serial>) -> Result<()> {
        let keys: Result<Vec<_>, _> = self.shadow_diffs.keys().collect();
        for key in keys.context("list the differences")? {
            if !used.contains(&key.serial) {
                ignore_missing(self.shadow_diffs.remove(&key)).context("remove a difference")?;
            }
        }
        Ok(())
    }

    /// The number of connections in shadow mode that are not compared yet.
    pub fn shadow_flows(&self) -> Result<usize> {
        count(self.shadow_flows.keys()).context("list the connections in shadow mode")
    }
}
