//! The fill levels of the maps, and the memory that the kernel charges for them.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result};
use aya::maps::{MapError, MapInfo};
use redirect_common::abi::MapName;

use super::pinned_maps::Maps;
use crate::bpf::pins::Pins;

impl Maps {
    /// The fill levels of the maps that all pods share, that reject entries when full, and whose
    /// entries can be listed.
    pub(crate) fn fill_levels(&self, pins: &Pins) -> Result<Vec<MapFill>> {
        let level = |map: MapName, entries: Result<usize, MapError>| {
            let counting = || format!("count the entries of {}", map.name());
            Ok(MapFill {
                map,
                entries: entries.with_context(counting)?,
                capacity: MapInfo::from_pin(pins.map(map))
                    .map(|info| info.max_entries())
                    .with_context(counting)?,
            })
        };
        [
            (MapName::Locals, count(self.locals.keys())),
            (MapName::Cidrs4, count(self.cidrs4.keys())),
            (MapName::Cidrs6, count(self.cidrs6.keys())),
            (MapName::Ports, count(self.ports.keys())),
            (MapName::Groups, count(self.groups.keys())),
            (MapName::Flows, count(self.flows.keys())),
            // There may be very many stand-ins, so the counts of the namespaces are summed.
            (MapName::StandIns, total(self.stand_in_counts.iter())),
        ]
        .into_iter()
        .map(|(map, entries)| level(map, entries))
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
    pub map: MapName,
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
    /// The memory of each pinned map.
    pub fn read(pins: &Pins) -> Result<Vec<Self>> {
        MapName::ALL
            .into_iter()
            .map(|map| {
                let path = pins.map(map);
                let info = MapInfo::from_pin(&path)
                    .with_context(|| format!("open map \"{}\"", path.display()))?;
                let fd = info
                    .fd()
                    .with_context(|| format!("open map \"{}\"", path.display()))?;
                let raw = fd.as_fd().as_raw_fd();
                let text = fs::read_to_string(format!("/proc/self/fdinfo/{raw}"))
                    .context("read a map's fdinfo")?;
                let bytes = text
                    .lines()
                    .find_map(|line| line.strip_prefix("memlock:"))
                    .and_then(|value| value.trim().parse().ok())
                    .unwrap_or_default();
                Ok(Self {
                    map: map.name(),
                    bytes,
                })
            })
            .collect()
    }
}
