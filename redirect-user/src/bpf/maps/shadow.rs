//! What shadow mode has found: connections that went elsewhere than decided.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use redirect_common::abi::{DifferenceKey, Serial};

use super::{Maps, open::gone, usage::count};

impl Maps {
    /// What the rehearsal of a row found, in no particular order: each kind of difference, and how
    /// often it was seen.
    pub fn differences(&self, serial: Serial) -> Result<Vec<(DifferenceKey, u64)>> {
        let mut found = Vec::new();
        for entry in &self.differences {
            let (key, times) = entry.context("list the differences")?;
            if key.serial == serial {
                found.push((key, times));
            }
        }
        Ok(found)
    }

    /// Forgets what the rehearsals of all rows but these found.
    pub fn drop_differences_outside(&mut self, used: &BTreeSet<Serial>) -> Result<()> {
        let keys: Result<Vec<_>, _> = self.differences.keys().collect();
        for key in keys.context("list the differences")? {
            if !used.contains(&key.serial) {
                gone(self.differences.remove(&key)).context("forget a difference")?;
            }
        }
        Ok(())
    }

    /// Rehearsed connections that have not been judged.
    pub fn rehearsed(&self) -> Result<usize> {
        count(self.rehearsed.keys()).context("list the rehearsed connections")
    }
}
