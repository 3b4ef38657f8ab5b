//! The entries of network namespaces: local addresses, stand-ins and handshakes.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use redirect_common::{
    abi::{LocalFlags, LocalKey, MAX_LOCALS, StandInKey},
    net::BeAddr,
};

use super::{
    open::{check_stored, ignore_missing, optional},
    pinned_maps::Maps,
    usage::count,
};

impl Maps {
    /// The flags of an address in a network namespace.
    pub fn local(&self, netns: u64, addr: BeAddr) -> Result<LocalFlags> {
        let key = LocalKey { netns, addr };
        Ok(optional(self.locals.get(&key, 0))
            .context("look up whether the destination is local")?
            .unwrap_or_default())
    }

    /// Every local address of every namespace.
    pub fn locals(&self) -> Result<Vec<(LocalKey, LocalFlags)>> {
        self.locals
            .iter()
            .collect::<Result<_, _>>()
            .context("list the local addresses")
    }

    /// Stores a local address.
    pub fn set_local(&mut self, key: LocalKey, flags: LocalFlags) -> Result<()> {
        let result = self.locals.insert(key, flags, 0);
        let address = || "a local address".to_owned();
        check_stored(result, address, MAX_LOCALS, "local addresses")
    }

    /// Removes a local address.
    pub fn remove_local(&mut self, key: &LocalKey) -> Result<()> {
        ignore_missing(self.locals.remove(key)).context("remove a local address")
    }

    /// Removes the handshakes of all network namespaces but these: no program sees them end.
    pub fn drop_flows_outside(&mut self, used: &BTreeSet<u64>) -> Result<()> {
        let keys: Result<Vec<_>, _> = self.flows.keys().collect();
        for key in keys.context("list the handshakes in progress")? {
            if !used.contains(&key.netns) {
                ignore_missing(self.flows.remove(&key)).context("remove a handshake")?;
            }
        }
        Ok(())
    }

    /// Removes the stand-ins of all network namespaces but these.
    pub fn drop_stand_ins_outside(&mut self, used: &BTreeSet<u64>) -> Result<()> {
        let namespaces: Result<BTreeSet<u64>, _> = self.stand_in_counts.keys().collect();
        let namespaces = namespaces.context("list the namespaces that have stand-ins")?;
        if namespaces.is_subset(used) {
            return Ok(());
        }
        let keys: Result<Vec<StandInKey>, _> = self.stand_ins.keys().collect();
        let keys = keys.context("list the stand-ins")?;
        for key in keys.iter().filter(|key| !used.contains(&key.netns)) {
            ignore_missing(self.stand_ins.remove(key)).context("remove a stand-in")?;
        }
        // The count goes last: as long as it exists, the namespace may have stand-ins.
        for netns in namespaces.difference(used) {
            ignore_missing(self.stand_in_counts.remove(netns))
                .context("remove a count of stand-ins")?;
        }
        Ok(())
    }

    /// The number of stand-ins.
    pub fn stand_ins(&self) -> Result<usize> {
        count(self.stand_ins.keys()).context("list the stand-ins")
    }

    /// The number of handshakes in progress.
    pub fn flows(&self) -> Result<usize> {
        count(self.flows.keys()).context("list the handshakes in progress")
    }
}
