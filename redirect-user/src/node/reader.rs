//! The reader of the state.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use redirect_common::{
    abi::{CidrFlags, Hits, PolicyId, PolicyRow, PortFlags, PortKey},
    hooks::Hook,
};

use super::{
    contents::{children, name},
    layout_folders::{any_expired, attached_by_others},
    recovery::is_loaded,
};
use crate::{
    bpf::{MapFill, Maps, MemoryUse, Pins},
    config::RedirectConfig,
    policy::{PodNetwork, decompile},
    sys::{attached::netns_of_link, bpffs, capability, cgroup::CgroupId, userns::IdMaps},
};

/// An attached pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod {
    /// The id of the pod's cgroup.
    pub id: CgroupId,
    /// The row of the pod's policy.
    pub row: PolicyRow,
}

/// The entries of a policy.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub(super) cidrs: Vec<(IpNet, CidrFlags)>,
    pub(super) ports: Vec<(PortKey, PortFlags)>,
    pub(super) groups: Vec<u32>,
}

/// The state, opened for reading.
#[derive(Debug)]
pub struct Reader {
    pub(super) pins: Pins,
    pub(super) maps: Maps,
}

impl Reader {
    /// Opens the state in a state directory, without a lock: for single questions. [`Self::read`] is for
    /// answers that must fit together. `None` if there is no state, because no pod has been attached since
    /// the machine was started or since the last `uninstall`.
    pub fn open(state_dir: &Path) -> Result<Option<Self>> {
        capability::require(&capability::TO_READ)?;
        bpffs::check(state_dir)?;
        let pins = Pins::new(state_dir);
        if !is_loaded(&pins) {
            return Ok(None);
        }
        match Self::of(pins) {
            // An uninstall has just removed the pins.
            Err(_) if !is_loaded(&Pins::new(state_dir)) => Ok(None),
            reader => reader.map(Some),
        }
    }

    /// Opens the maps.
    pub(super) fn of(pins: Pins) -> Result<Self> {
        let maps = Maps::open(&pins)?;
        Ok(Self { pins, maps })
    }

    /// The attached pods, sorted by cgroup id.
    pub fn pods(&self) -> Result<Vec<Pod>> {
        let mut pods = Vec::new();
        for id in self.folders()? {
            if let Some(row) = self.row(id)? {
                pods.push(Pod { id, row });
            }
        }
        Ok(pods)
    }

    /// The pod of a cgroup. The error of a cgroup that is not attached says what to do.
    pub fn pod(&self, id: CgroupId, shown: &Path) -> Result<Pod> {
        match self.active_row(id)? {
            Some(row) => Ok(Pod { id, row }),
            None if attached_by_others(self.pins.state_dir())?.contains(&id) => bail!(
                "find the policy of cgroup \"{}\": it is attached by a version with another layout: take it over with `redirectctl attach`, or use that version",
                shown.display()
            ),
            None => bail!(
                "find the policy of cgroup \"{}\": it is not attached: see `redirectctl list`, or attach it with `redirectctl attach`",
                shown.display()
            ),
        }
    }

    /// The row of a pod, if the pod is attached.
    pub(super) fn active_row(&self, id: CgroupId) -> Result<Option<PolicyRow>> {
        if !self.pins.pod(id).exists() {
            return Ok(None);
        }
        self.row(id)
    }

    /// The row of a pod that has a folder of links, if the pod is attached.
    fn row(&self, id: CgroupId) -> Result<Option<PolicyRow>> {
        let row = self.maps.row(id)?;
        Ok(row.filter(|row| row.policy != PolicyId::NONE))
    }

    /// The cgroups that have a folder of links, attached or not, sorted.
    pub(super) fn folders(&self) -> Result<Vec<CgroupId>> {
        let folder = self.pins.pods();
        let entries =
            fs::read_dir(&folder).with_context(|| format!("list \"{}\"", folder.display()))?;
        let mut ids: Vec<CgroupId> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Whether there is something that the next [`Writer`](super::Writer) will remove, because a
    /// process was killed, or a cgroup or namespace was removed.
    pub fn has_leftovers(&self) -> Result<bool> {
        let interrupted = self.maps.meta()?.is_changing();
        Ok(interrupted
            || !self.dead()?.is_empty()
            || self.any_lost_inbound()?
            || any_expired(&self.pins)?)
    }

    /// Whether [`Self::has_leftovers`] would be true, as far as that shows without reading each
    /// link. `pods` are the attached pods.
    pub fn is_unfinished(&self, pods: &[Pod]) -> Result<bool> {
        Ok(self.maps.meta()?.is_changing() || self.folders()?.len() != pods.len())
    }

    /// The cgroups with a folder of links that belongs to no living, attached pod.
    pub(super) fn dead(&self) -> Result<Vec<CgroupId>> {
        let mut dead = Vec::new();
        for id in self.folders()? {
            // A row goes with its cgroup. A pod that lacks a link is not dead but damaged, and its other
            // programs must not be detached. A folder with nothing but foreign files stays.
            if self.row(id)?.is_none() && self.has_own_pins(id)? {
                dead.push(id);
            }
        }
        Ok(dead)
    }

    /// Whether the folder of a cgroup has pins of the redirector, or is empty.
    fn has_own_pins(&self, id: CgroupId) -> Result<bool> {
        let names: Vec<_> = children(&self.pins.pod(id))?
            .iter()
            .map(|pin| name(pin))
            .collect();
        Ok(names.is_empty() || names.iter().any(|name| Pins::is_ours(name)))
    }

    /// Whether the network namespace of some existing pod is gone.
    fn any_lost_inbound(&self) -> Result<bool> {
        for id in self.folders()? {
            if self.has_lost_inbound(id)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether the network namespace of a pod is gone, and its lookup program with it.
    fn has_lost_inbound(&self, id: CgroupId) -> Result<bool> {
        let link = self.pins.link(id, Hook::SkLookup);
        Ok(link.exists() && netns_of_link(&link)?.is_none())
    }

    /// The entries of a policy.
    pub(super) fn entries(&self, policy: PolicyId) -> Result<Entries> {
        Ok(Entries {
            cidrs: self.maps.cidrs(policy)?,
            ports: self.maps.ports(policy)?,
            groups: self.maps.groups(policy)?,
        })
    }

    /// The configuration of a pod, read from the maps.
    pub fn config(&self, pod: &Pod) -> Result<RedirectConfig> {
        let entries = self.entries(pod.row.policy)?;
        self.decompile(pod, &entries)
    }

    /// The configurations of pods, in the order of the pods. A policy that pods share is read once.
    pub fn configs(&self, pods: &[Pod]) -> Result<Vec<RedirectConfig>> {
        let mut read = BTreeMap::new();
        pods.iter()
            .map(|pod| match read.entry(pod.row.policy) {
                Entry::Occupied(entries) => self.decompile(pod, entries.get()),
                Entry::Vacant(place) => {
                    let entries = place.insert(self.entries(pod.row.policy)?);
                    self.decompile(pod, entries)
                }
            })
            .collect()
    }

    fn decompile(&self, pod: &Pod, entries: &Entries) -> Result<RedirectConfig> {
        let Entries {
            cidrs,
            ports,
            groups,
        } = entries;
        let ids = self.ids(pod)?;
        Ok(decompile(&pod.row, cidrs, ports, groups, &ids))
    }

    /// The id maps with which the pod's ids were translated.
    pub fn ids(&self, pod: &Pod) -> Result<IdMaps> {
        self.maps.ids(pod.row.policy)
    }

    /// The network of a pod, as it was last written to the maps.
    pub(super) fn network(&self, pod: &Pod) -> Result<PodNetwork> {
        let cidrs = self.maps.cidrs(pod.row.policy)?;
        Ok(PodNetwork::of_row(&pod.row, &cidrs, self.ids(pod)?))
    }

    /// The networks of pods, as they were last written to the maps, in the order of the pods. The
    /// ranges of a policy that pods share are read once.
    pub(super) fn networks(&self, pods: &[Pod]) -> Result<Vec<PodNetwork>> {
        let mut cidrs = BTreeMap::new();
        for pod in pods {
            if let Entry::Vacant(place) = cidrs.entry(pod.row.policy) {
                let mut ranges = self.maps.cidrs(pod.row.policy)?;
                // Ranges of the options say nothing about the pod's network.
                ranges.retain(|(_, flags)| {
                    let own = flags.own();
                    own.local() || own.is_by_excluded() || own.is_by_other()
                });
                place.insert(ranges);
            }
        }
        let none = Vec::new();
        let network = |pod: &Pod| {
            let ranges = cidrs.get(&pod.row.policy).unwrap_or(&none);
            Ok(PodNetwork::of_row(&pod.row, ranges, self.ids(pod)?))
        };
        pods.iter().map(network).collect()
    }

    /// The counters of a pod since it was attached.
    pub fn hits(&self, pod: &Pod) -> Result<Hits> {
        self.maps.hits(pod.id)
    }

    /// The number of excluded and included ranges of each policy.
    pub fn cidr_counts(&self) -> Result<BTreeMap<PolicyId, usize>> {
        let records = self.maps.records()?.into_iter();
        records
            .map(|(policy, record)| Ok((policy, usize::try_from(record.listed)?)))
            .collect()
    }

    /// The number of stand-ins, at most [`MAX_STAND_INS`](redirect_common::abi::MAX_STAND_INS).
    pub fn stand_ins(&self) -> Result<usize> {
        self.maps.stand_ins()
    }

    /// The number of handshakes in progress on this machine.
    pub fn flows(&self) -> Result<usize> {
        self.maps.flows()
    }

    /// The memory of each map.
    pub fn memory(&self) -> Result<Vec<MemoryUse>> {
        MemoryUse::read(&self.pins, &self.maps)
    }

    /// The fill level of each map that can be full, and the fullest of those that each policy has.
    pub fn fill(&self) -> Result<Vec<MapFill>> {
        self.maps.fill_levels(&self.pins)
    }

    /// The live maps.
    pub const fn maps(&self) -> &Maps {
        &self.maps
    }

    /// The paths of the pins.
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }
}
