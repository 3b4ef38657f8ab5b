//! The addresses of a pod's network namespace, and its routes to excluded interfaces, in the maps.

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

use super::{Pod, Writer};
use crate::{
    policy::{PodNetwork, compile, excluded_interfaces, locals},
    sys::netns::{LocalRange, NetnsSnapshot},
};

/// What is different about a pod's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressChange {
    /// Its own now.
    pub added: Vec<IpNet>,
    /// No longer its own.
    pub removed: Vec<IpNet>,
    /// What its connections to the outside show from now on, of each family where it is another.
    pub sources: Vec<IpAddr>,
    /// Where it changes whether connections leave by an excluded interface.
    pub rerouted: Vec<IpNet>,
}

impl AddressChange {
    /// Whether nothing is different.
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

/// The ranges that one has and the other lacks.
fn nets(of: &BTreeSet<LocalRange>, without: &BTreeSet<LocalRange>) -> Vec<IpNet> {
    let has = |net| without.iter().any(|own| own.net == net);
    let nets = of.iter().map(|own| own.net);
    nets.filter(|net| !has(*net)).collect()
}

impl Writer {
    /// Brings the addresses and routes of pods up to date with their namespaces, and tells what came of
    /// each. Configurations stay as they are, and so does whether IPv6 is on.
    pub fn refresh(
        &mut self,
        pods: &[(Pod, &NetnsSnapshot)],
    ) -> Result<Vec<Result<AddressChange>>> {
        let alone: Vec<_> = pods.iter().map(|(pod, _)| *pod).collect();
        let places = self.places(&alone)?.into_iter();
        let refreshed = pods.iter().zip(places);
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
        let place = old.refreshed(netns, &excluded_interfaces(&pod.row))?;
        let row = place.row(&pod.row);
        let ranges = |place: &PodNetwork| place.ranges().iter().copied().collect::<BTreeSet<_>>();
        let (before, after) = (ranges(old), ranges(&place));
        let routes = |place: &PodNetwork| place.routes().iter().copied().collect::<BTreeSet<_>>();
        let (ways_before, ways_after) = (routes(old), routes(&place));
        let rerouted: BTreeSet<_> = ways_before.symmetric_difference(&ways_after).collect();
        let mut change = if before == after && rerouted.is_empty() {
            let change = self.set_locals(netns)?;
            if row != pod.row {
                self.change(|writer| {
                    writer.reader.maps.set_row(pod.id, &row)?;
                    writer.sync_inbound(&Pod { row, ..*pod }, None)
                })?;
            }
            change
        } else {
            // Ranges and routes are entries of the policy, so it takes another one.
            let compiled = compile(&self.config(pod)?, &place)?;
            self.change(|writer| {
                let change = writer.set_locals(netns)?;
                writer.replace(pod, None, &compiled, place.ids())?;
                Ok(change)
            })?
        };
        let shown = [
            (row.source4, pod.row.source4),
            (row.source6, pod.row.source6),
        ];
        let other = shown.into_iter().filter(|(now, before)| now != before);
        change.sources = other.map(|(now, _)| now.into()).collect();
        change.rerouted = rerouted.into_iter().map(|(net, _)| *net).collect();
        change.rerouted.dedup();
        change.added.extend(nets(&after, &before));
        change.removed.extend(nets(&before, &after));
        Ok(change)
    }

    /// Makes the single addresses of a namespace known, and forgets those it no longer has.
    pub(super) fn set_locals(&mut self, netns: &NetnsSnapshot) -> Result<AddressChange> {
        let wanted: BTreeMap<IpAddr, LocalFlags> = locals(netns).collect();
        let there: BTreeMap<IpAddr, LocalFlags> = self
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
            if there.get(&addr) != Some(&flags) {
                self.reader.maps.set_local(key(addr), flags)?;
                change
                    .added
                    .extend(flags.is_local().then(|| IpNet::from(addr)));
            }
        }
        for (&addr, &flags) in &there {
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
