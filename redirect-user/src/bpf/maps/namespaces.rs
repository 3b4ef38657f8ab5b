//! What belongs to a network namespace: its local addresses, stand-ins and handshakes.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use redirect_common::{
    abi::{LocalFlags, LocalKey, MAX_LOCALS, StandInKey},
    net::BeAddr,
};

use super::{
    Maps,
    open::{gone, optional, stored},
    usage::count,
};

impl Maps {
    /// What an address is to a network namespace.
    pub fn local(&self, netns: u64, addr: BeAddr) -> Result<LocalFlags> {
        let key = LocalKey { netns, addr };
        Ok(optional(self.locals.get(&key, 0))
            .context("look up the destination's locality")?
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
        stored(result, address, MAX_LOCALS, "local addresses")
    }

    /// Forgets a local address.
    pub fn remove_local(&mut self, key: &LocalKey) -> Result<()> {
        gone(self.locals.remove(key)).context("forget a local address")
    }

    /// Forgets the handshakes of network namespaces other than these: nobody sees them end.
    pub fn drop_flows_outside(&mut self, used: &BTreeSet<u64>) -> Result<()> {
        let keys: Result<Vec<_>, _> = self.flows.keys().collect();
        for key in keys.context("list the handshakes under way")? {
            if !used.contains(&key.netns) {
                gone(self.flows.remove(&key)).context("forget a handshake")?;
            }
        }
        Ok(())
    }

    /// Forgets the addresses that stand for destinations in all namespaces but these.
    pub fn drop_stand_ins_outside(&mut self, used: &BTreeSet<u64>) -> Result<()> {
        let having: Result<BTreeSet<u64>, _> = self.stand_in_counts.keys().collect();
        let having = having.context("list the namespaces that have stand-in addresses")?;
        if having.is_subset(used) {
            return Ok(());
        }
        let keys: Result<Vec<StandInKey>, _> = self.stand_ins.keys().collect();
        let keys = keys.context("list the addresses that stand for destinations")?;
        for key in keys.iter().filter(|key| !used.contains(&key.netns)) {
            gone(self.stand_ins.remove(key)).context("forget a stand-in address")?;
        }
        // Last: as long as there is a count, there may be addresses.
        for netns in having.difference(used) {
            gone(self.stand_in_counts.remove(netns)).context("forget a count")?;
        }
        Ok(())
    }

    /// Addresses that stand for destinations.
    pub fn stand_ins(&self) -> Result<usize> {
        count(self.stand_ins.keys()).context("list the addresses that stand for destinations")
    }

    /// Handshakes under way.
    pub fn flows(&self) -> Result<usize> {
        count(self.flows.keys()).context("list the handshakes under way")
    }
}
