//! The recovery of a state whose pins of maps were removed by another process.

use std::fs;

use anyhow::Result;
use redirect_common::{abi::MapName, hooks::Hook};

use crate::{
    bpf::{Pins, active_rows, restore_maps, restore_meta},
    sys::{attached::cgroup_of_link, cgroup::CgroupId},
};

/// Whether there is a state to use or to mend. `META` alone does not tell: an interrupted removal removes it first, and
/// so can another process. A removal makes every row inactive before.
pub(super) fn is_loaded(pins: &Pins) -> bool {
    pins.is_loaded() || is_damaged(pins, &pods(pins))
}

/// Whether the state has lost `META`. A removal of everything removes the links before the map of the rows.
fn is_damaged(pins: &Pins, pods: &[CgroupId]) -> bool {
    let mut links = pods
        .iter()
        .flat_map(|pod| Hook::ALL.map(|hook| pins.link(*pod, hook)));
    if !links.any(|link| cgroup_of_link(&link).is_ok_and(|target| target.is_some())) {
        return false;
    }
    !pins.map(MapName::Pods).exists()
        || active_rows(pins, pods).map_or(true, |rows| !rows.is_empty())
}

/// Pins the maps anew whose pins are gone, and makes `META` anew from the rows. The caller holds the lock. Nothing is
/// detached. Without an attached pod a lost `META` is not made anew, and the caller loads everything.
pub(super) fn recover(pins: &Pins) -> Result<()> {
    let pods = pods(pins);
    if pins.is_loaded() {
        return restore_maps(pins, &pods).map(drop);
    }
    if !is_damaged(pins, &pods) {
        return Ok(());
    }
    restore_maps(pins, &pods)?;
    let rows = active_rows(pins, &pods)?;
    if rows.is_empty() {
        return Ok(());
    }
    restore_meta(pins, &rows)
}

/// The cgroups that have a folder of links.
fn pods(pins: &Pins) -> Vec<CgroupId> {
    let entries = fs::read_dir(pins.pods()).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}
