//! The set of pinned maps, with the rows, counters and state of the redirector.

use std::fmt;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, Map, MapData, MapType, PerCpuHashMap};
use redirect_common::abi::{
    Destination, FlowKey, Hits, IdKey, IdLine, LocalFlags, LocalKey, MapName, Meta, OrigDst,
    PolicyId, PolicyRecord, PolicyRow, ShadowDiffKey, StandInKey,
};

use super::{
    open::{ignore_missing, no_hits, open, optional, sum},
    policy_arrays::PolicyArrays,
};
use crate::{
    bpf::{inbound::InboundMaps, pins::Pins},
    sys::cgroup::CgroupId,
};

/// All maps that user space reads or writes.
pub struct Maps {
    pub(super) pins: Pins,
    // Cgroup storage answers the same system calls as a hash; aya's own type for it knows only the
    // older key, which contains the attach type.
    pub(super) pods: HashMap<MapData, CgroupId, PolicyRow>,
    pub(super) hits: PerCpuHashMap<MapData, CgroupId, Hits>,
    pub(super) locals: HashMap<MapData, LocalKey, LocalFlags>,
    pub(super) arrays: PolicyArrays,
    pub(super) stand_ins: HashMap<MapData, StandInKey, Destination>,
    pub(super) stand_in_counts: HashMap<MapData, u64, u64>,
    pub(super) flows: HashMap<MapData, FlowKey, OrigDst>,
    pub(super) shadow_flows: HashMap<MapData, FlowKey, OrigDst>,
    pub(super) shadow_diffs: HashMap<MapData, ShadowDiffKey, u64>,
    pub(super) ids: HashMap<MapData, IdKey, IdLine>,
    pub(super) policies: HashMap<MapData, PolicyId, PolicyRecord>,
    pub(super) inbound: InboundMaps,
    pub(super) meta: Array<MapData, Meta>,
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not all of aya's map types implement Debug, and their output would tell nothing.
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl Maps {
    /// Opens every map.
    pub fn open(pins: &Pins) -> Result<Self> {
        let pin = |map| pins.map(map);
        let pods = open::<CgroupId, PolicyRow>(&pin(MapName::Pods), MapType::CgroupStorage)?;
        let hits = open::<CgroupId, Hits>(&pin(MapName::RuleHits), MapType::PerCpuCgroupStorage)?;
        let locals = open::<LocalKey, LocalFlags>(&pin(MapName::Locals), MapType::Hash)?;
        let stand_ins = open::<StandInKey, Destination>(&pin(MapName::StandIns), MapType::Hash)?;
        let stand_in_counts = open::<u64, u64>(&pin(MapName::StandInCounts), MapType::Hash)?;
        let flows = open::<FlowKey, OrigDst>(&pin(MapName::Flows), MapType::Hash)?;
        let shadow_flows = open::<FlowKey, OrigDst>(&pin(MapName::ShadowFlows), MapType::LruHash)?;
        let shadow_diffs =
            open::<ShadowDiffKey, u64>(&pin(MapName::ShadowDiffs), MapType::LruHash)?;
        let ids = open::<IdKey, IdLine>(&pins.ids(), MapType::Hash)?;
        let policies = open::<PolicyId, PolicyRecord>(&pins.policies(), MapType::Hash)?;
        let meta = open::<u32, Meta>(&pins.meta(), MapType::Array)?;
        Ok(Self {
            pins: pins.clone(),
            pods: HashMap::try_from(Map::HashMap(pods))?,
            hits: PerCpuHashMap::try_from(Map::PerCpuHashMap(hits))?,
            locals: HashMap::try_from(Map::HashMap(locals))?,
            arrays: PolicyArrays::open(pins)?,
            stand_ins: HashMap::try_from(Map::HashMap(stand_ins))?,
            stand_in_counts: HashMap::try_from(Map::HashMap(stand_in_counts))?,
            flows: HashMap::try_from(Map::HashMap(flows))?,
            shadow_flows: HashMap::try_from(Map::LruHashMap(shadow_flows))?,
            shadow_diffs: HashMap::try_from(Map::LruHashMap(shadow_diffs))?,
            ids: HashMap::try_from(Map::HashMap(ids))?,
            policies: HashMap::try_from(Map::HashMap(policies))?,
            inbound: InboundMaps::open(pins)?,
            meta: Array::try_from(Map::Array(meta))?,
        })
    }

    /// Waits until every program run that began before this call has ended.
    pub fn wait_for_programs(&self) -> Result<()> {
        self.arrays.wait(&self.pins)
    }

    /// A pod's row, if programs have ever been attached to its cgroup.
    pub fn row(&self, pod: CgroupId) -> Result<Option<PolicyRow>> {
        optional(self.pods.get(&pod, 0)).context("read the pod's row")
    }

    /// Replaces a pod's row, atomically for every connection.
    pub fn set_row(&mut self, pod: CgroupId, row: &PolicyRow) -> Result<()> {
        self.pods.insert(pod, row, 0).context("write the pod's row")
    }

    /// Removes a pod's policy from its row. No new connection is redirected; programs still answer
    /// for connections that were redirected before.
    pub fn deactivate_row(&mut self, pod: CgroupId) -> Result<()> {
        let Some(row) = self.row(pod)? else {
            return Ok(());
        };
        let inactive = PolicyRow {
            netns: row.netns,
            out_port: row.out_port,
            in_port: row.in_port,
            ..PolicyRow::default()
        };
        ignore_missing(self.pods.insert(pod, inactive, 0)).context("deactivate the pod's row")
    }

    /// Clears a pod's row, if there is one. No connection is redirected afterwards.
    pub fn clear_row(&mut self, pod: CgroupId) -> Result<()> {
        ignore_missing(self.pods.insert(pod, PolicyRow::default(), 0))
            .context("clear the pod's row")
    }

    /// A pod's counters of both directions, summed over all CPUs.
    pub fn hits(&self, pod: CgroupId) -> Result<Hits> {
        let per_cpu = optional(self.hits.get(&pod, 0)).context("read the pod's counters")?;
        Ok(sum(per_cpu).plus(&self.inbound.hits(pod)?))
    }

    /// Sets a pod's counters to zero.
    pub fn clear_hits(&mut self, pod: CgroupId) -> Result<()> {
        self.hits
            .insert(pod, no_hits()?, 0)
            .context("clear the pod's counters")
    }

    /// The maps of inbound redirection.
    pub const fn inbound(&self) -> &InboundMaps {
        &self.inbound
    }

    /// The maps of inbound redirection, to change them.
    pub const fn inbound_mut(&mut self) -> &mut InboundMaps {
        &mut self.inbound
    }

    /// The redirector's own state.
    pub fn meta(&self) -> Result<Meta> {
        self.meta.get(&0, 0).context("read the redirector's state")
    }

    /// Replaces the redirector's own state.
    pub fn set_meta(&mut self, meta: Meta) -> Result<()> {
        self.meta
            .set(0, meta, 0)
            .context("write the redirector's state")
    }
}
