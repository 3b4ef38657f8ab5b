//! The refresh of a pod's local addresses and routes in the maps, after its network namespace has
//! changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::Result;
use ipnet::IpNet;
use redirect_common::{
    abi::{LocalFlags, LocalKey},
    net::BeAddr,
};

use super::{reader::Pod, writer::Writer};
use crate::{
    policy::{PodNetwork, compile, excluded_interfaces, locals},
    sys::netns::{LocalRange, NetnsSnapshot},
};

/// The changes that a refresh made to a pod's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressChange {
    /// Addresses and ranges that have become local.
    pub added: Vec<IpNet>,
    /// Addresses and ranges that are no longer local.
    pub removed: Vec<IpNet>,
    /// The new source addresses of connections to other hosts, of each family whose source address
    /// has changed.
    pub sources: Vec<IpAddr>,
    /// Prefixes whose answer has changed whether connections leave by an excluded interface.
    pub rerouted: Vec<IpNet>,
}

impl AddressChange {
    /// Whether nothing has changed.
    pub const fn is_none(&self) -> bool {
        let Self {
            added,
            removed,
            sources,
            rerouted,
        } = self;
        added.is_empty() && removed.is_empty() && sources.is_empty() && rerouted.is_empty()
    }
}

/// The ranges that are in `of` but not in `without`.
fn nets(of: &BTreeSet<LocalRange>, without: &BTreeSet<LocalRange>) -> Vec<IpNet> {
    let has = |net| without.iter().any(|range| range.net == net);
    let nets = of.iter().map(|range| range.net);
    nets.filter(|net| !has(*net)).collect()
}

impl Writer {
    /// Brings the addresses and routes of pods up to date with their namespaces, and returns a
    /// result for each pod. The configurations stay the same, and so does whether IPv6 is on.
    pub fn refresh(
        &mut self,
        pods: &[(Pod, &NetnsSnapshot)],
    ) -> Result<Vec<Result<AddressChange>>> {
        let only_pods: Vec<_> = pods.iter().map(|(pod, _)| *pod).collect();
        let networks = self.networks(&only_pods)?.into_iter();
        let refreshed = pods.iter().zip(networks);
        Ok(refreshed
            .map(|((pod, netns), old)| self.refresh_one(pod, netns, &old))
            .collect())
    }

    fn refresh_one(
        &mut self,
        pod: &Pod,
        netns: &NetnsSnapshot,
        old: &PodNetwork,
    ) -> Result<AddressChange> {
        let network = old.refreshed(netns, &excluded_interfaces(&pod.row))?;
        let row = network.row(&pod.row);
        let ranges =
            |network: &PodNetwork| network.ranges().iter().copied().collect::<BTreeSet<_>>();
        let (before, after) = (ranges(old), ranges(&network));
        let routes =
            |network: &PodNetwork| network.routes().iter().copied().collect::<BTreeSet<_>>();
        let (routes_before, routes_after) = (routes(old), routes(&network));
        let rerouted: BTreeSet<_> = routes_before.symmetric_difference(&routes_after).collect();
        let mut change = if before == after && rerouted.is_empty() {
            let change = self.set_locals(netns)?;
            if row != pod.row {
                self.change(|writer| {
                    writer.set_row(pod.id, &row)?;
                    writer.sync_inbound(&Pod { row, ..*pod }, None)
                })?;
            }
            change
        } else {
            // Ranges and routes are entries of the policy, so a new policy is needed.
            let compiled = compile(&self.config(pod)?, &network)?;
            self.change(|writer| {
                let change = writer.set_locals(netns)?;
                writer.replace(pod, None, &compiled, network.ids())?;
                Ok(change)
            })?
        };
        let sources = [
            (row.source4, pod.row.source4),
            (row.source6, pod.row.source6),
        ];
        let changed = sources.into_iter().filter(|(now, before)| now != before);
        change.sources = changed.map(|(now, _)| now.into()).collect();
        change.rerouted = rerouted.into_iter().map(|(net, _)| *net).collect();
        change.rerouted.dedup();
        change.added.extend(nets(&after, &before));
        change.removed.extend(nets(&before, &after));
        Ok(change)
    }

    /// Stores the single addresses of a namespace, and removes those that it no longer has.
    pub(super) fn set_locals(&mut self, netns: &NetnsSnapshot) -> Result<AddressChange> {
        let wanted: BTreeMap<IpAddr, LocalFlags> = locals(netns).collect();
        let stored: BTreeMap<IpAddr, LocalFlags> = self
            .maps()
            .locals()?
            .into_iter()
            .filter(|(key, _)| key.netns == netns.cookie)
            .map(|(key, flags)| (key.addr.into(), flags))
            .collect();
        let key = |addr| LocalKey {
            netns: netns.cookie,
            addr: BeAddr::from(addr),
        };
        let mut change = AddressChange::default();
        for (&addr, &flags) in &wanted {
            if stored.get(&addr) != Some(&flags) {
                self.reader.maps.set_local(key(addr), flags)?;
                change
                    .added
                    .extend(flags.is_local().then(|| IpNet::from(addr)));
            }
        }
        for (&addr, &flags) in &stored {
            if !wanted.contains_key(&addr) {
                self.reader.maps.remove_local(&key(addr))?;
                change
                    .removed
                    .extend(flags.is_local().then(|| IpNet::from(addr)));
            }
        }
        Ok(change)
    }
}
