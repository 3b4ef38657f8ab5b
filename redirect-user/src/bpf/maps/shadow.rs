//! What shadow mode has found: connections that went elsewhere than decided.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use redirect_common::abi::{Serial, ShadowDiffKey};

use super::{Maps, open::gone, usage::count};

impl Maps {
    /// The differences that shadow mode has found for a row, in no particular order: each kind of difference, and how
    /// often it was seen.
    pub fn differences(&self, serial: Serial) -> Result<Vec<(ShadowDiffKey, u64)>> {
        let mut found = Vec::new();
        for entry in &self.differences {
            let (key, times) = entry.context("list the differences")?;
            if key.serial == serial {
                found.push((key, times));
            }
        }
        Ok(found)
    }

    /// Forgets the differences of all rows but these.
    pub fn drop_shadow_diffs_outside(&mut self, used: &BTreeSet<Serial>) -> Result<()> {
        let keys: Result<Vec<_>, _> = self.differences.keys().collect();
        for key in keys.context("list the differences")? {
            if !used.contains(&key.serial) {
                gone(self.differences.remove(&key)).context("forget a difference")?;
            }
        }
        Ok(())
    }

    /// Connections in shadow mode that are not judged yet.
    pub fn shadow_flows(&self) -> Result<usize> {
        count(self.shadow_flows.keys()).context("list the connections in shadow mode")
    }
}
