//! The fill levels of the maps, and the memory that the kernel charges for them.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use aya::maps::{MapError, MapInfo};
use redirect_common::abi::{
    MAX_CIDRS, MAX_GROUPS, MAX_POLICIES, MAX_PORTS, MapName, POLICIES, PolicyRecord,
};

use super::pinned_maps::Maps;
use crate::bpf::pins::Pins;

impl Maps {
    /// The fill levels of the maps that reject entries when full, and whose entries can be counted:
    /// maps that all pods share, and the fullest map of any policy.
    pub(crate) fn fill_levels(&self, pins: &Pins) -> Result<Vec<MapFill>> {
        let shared = |map: MapName, entries: Result<usize, MapError>| {
            let counting = || format!("count the entries of {}", map.name());
            Ok(MapFill {
                map: map.name(),
                entries: entries.with_context(counting)?,
                capacity: MapInfo::from_pin(pins.map(map))
                    .map(|info| info.max_entries())
                    .with_context(counting)?,
            })
        };
        let records = self.records()?;
        let of_policy = |map: MapName, count: fn(&PolicyRecord) -> u32, capacity| {
            let most = records.values().map(count).max().unwrap_or_default();
            Ok(MapFill {
                map: map.name(),
                entries: usize::try_from(most)?,
                capacity,
            })
        };
        [
            shared(MapName::Locals, count(self.locals.keys())),
            of_policy(MapName::Cidrs4, |record| record.cidrs4, MAX_CIDRS),
            of_policy(MapName::Cidrs6, |record| record.cidrs6, MAX_CIDRS),
            of_policy(MapName::Ports, |record| record.ports, MAX_PORTS),
            of_policy(MapName::Groups, |record| record.groups, MAX_GROUPS),
            Ok(MapFill {
                map: POLICIES,
                entries: records.len(),
                capacity: MAX_POLICIES,
            }),
            shared(MapName::Flows, count(self.flows.keys())),
            // There may be very many stand-ins, so the counts of the namespaces are summed.
            shared(MapName::StandIns, total(self.stand_in_counts.iter())),
        ]
        .into_iter()
        .collect()
    }
}

/// The number of keys.
pub(super) fn count<K>(
    mut keys: impl Iterator<Item = Result<K, MapError>>,
) -> Result<usize, MapError> {
    keys.try_fold(0_usize, |count, key| {
        key.map(|_key| count.saturating_add(1))
    })
}

/// The sum of the counts.
fn total<K>(
    mut counts: impl Iterator<Item = Result<(K, u64), MapError>>,
) -> Result<usize, MapError> {
    counts.try_fold(0_usize, |total, entry| {
        let (_, count) = entry?;
        Ok(total.saturating_add(usize::try_from(count).unwrap_or(usize::MAX)))
    })
}

/// The fill level of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapFill {
    /// The map.
    pub map: &'static str,
    /// The number of entries in the map.
    pub entries: usize,
    /// The number of entries that fit into the map.
    pub capacity: u32,
}

/// The memory that the kernel charges for a map.
#[derive(Clone, Debug, serde::Serialize)]
pub struct MemoryUse {
    /// The map.
    pub map: &'static str,
    /// The bytes that the kernel reports for the map (`memlock` of its fdinfo). For range tries the
    /// inner nodes are not included.
    pub bytes: u64,
}

impl MemoryUse {
    /// The memory of each pinned map. The maps of all policies count as one.
    pub fn read(pins: &Pins, maps: &Maps) -> Result<Vec<Self>> {
        let policies = maps.policies()?;
        MapName::ALL
            .into_iter()
            .map(|map| {
                let mut bytes = charged(&pins.map(map))?;
                if MapName::PER_POLICY.contains(&map) {
                    let pins = policies.iter().map(|policy| pins.policy_map(map, *policy));
                    for pin in pins.filter(|pin| pin.exists()) {
                        bytes = bytes.saturating_add(charged(&pin)?);
                    }
                }
                Ok(Self {
                    map: map.name(),
                    bytes,
                })
            })
            .collect()
    }
}

/// The bytes that the kernel charges for a pinned map.
fn charged(path: &Path) -> Result<u64> {
    let opening = || format!("open map \"{}\"", path.display());
    let info = MapInfo::from_pin(path).with_context(opening)?;
    let fd = info.fd().with_context(opening)?;
    let raw = fd.as_fd().as_raw_fd();
    let text =
        fs::read_to_string(format!("/proc/self/fdinfo/{raw}")).context("read a map's fdinfo")?;
    let mut lines = text.lines();
    let bytes = lines.find_map(|line| line.strip_prefix("memlock:"));
    Ok(bytes
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or_default())
}
