//! The recovery of pins of maps that another process has removed.
//!
//! The programs keep the maps that they use. Maps that only user space uses end with their last pin, and are
//! made anew: their contents follow from the rows, or are only missed by later changes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use aya::{
    maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapInfo, MapType},
    programs::loaded_programs,
};
use redirect_common::{
    abi::{IdKey, IdLine, MAX_IDS, MAX_POLICIES, MapName, Meta, PolicyId, PolicyRecord, PolicyRow},
    hooks::Hook,
};

use super::{
    links::program_id,
    maps::{open, optional},
    object::{NO_PREALLOC, pin_no_groups, random_key},
    pins::Pins,
};
use crate::sys::{attached::LinkInfo, cgroup::CgroupId};

/// Pins the maps anew whose pins are gone, as far as a program of these pods still uses them. Returns the
/// names of the maps.
pub fn restore_maps(pins: &Pins, pods: &[CgroupId]) -> Result<Vec<&'static str>> {
    let mut restored = Vec::new();
    let gone: Vec<_> = MapName::ALL
        .into_iter()
        .filter(|map| !pins.map(*map).exists())
        .collect();
    if !gone.is_empty() {
        let used = maps_of_programs(&programs(pins, pods))
            .context("find the maps of the programs (needs CAP_SYS_ADMIN)")?;
        for map in gone {
            let pin = pins.map(map);
            let Some(&id) = used.get(map.name()) else {
                bail!(
                    "pin map \"{}\" anew: no program uses it any more: run `redirectctl uninstall --yes`, then attach anew",
                    pin.display()
                );
            };
            let anew = || format!("pin map \"{}\" anew", pin.display());
            let data = MapData::from_id(id).with_context(anew)?;
            data.pin(&pin).with_context(anew)?;
            restored.push(map.name());
        }
    }
    restored.extend(restore_policy_maps(pins, pods)?);
    if !pins.policy_map(MapName::Groups, PolicyId::NONE).exists() {
        pin_no_groups(pins)?;
        restored.push("GROUPS-0");
    }
    if !pins.ids().exists() {
        let ids: HashMap<_, IdKey, IdLine> =
            HashMap::create(MAX_IDS, NO_PREALLOC).context("create map `IDS`")?;
        ids.pin(pins.ids()).context("pin map `IDS`")?;
        restored.push("IDS");
    }
    if !pins.policies().exists() {
        let policies: HashMap<_, PolicyId, PolicyRecord> =
            HashMap::create(MAX_POLICIES, NO_PREALLOC).context("create map `POLICIES`")?;
        policies
            .pin(pins.policies())
            .context("pin map `POLICIES`")?;
        restored.push("POLICIES");
    }
    Ok(restored)
}

/// Pins the maps of the pods' policies anew whose pins are gone: programs find them in an array of maps. Returns the
/// names of the arrays.
fn restore_policy_maps(pins: &Pins, pods: &[CgroupId]) -> Result<Vec<&'static str>> {
    let mut restored = Vec::new();
    let rows = active_rows(pins, pods)?;
    let policies: BTreeSet<_> = rows.iter().map(|row| row.policy).collect();
    for map in MapName::PER_POLICY {
        let gone = policies
            .iter()
            .filter(|policy| !pins.policy_map(map, **policy).exists());
        let gone: Vec<_> = gone.collect();
        if gone.is_empty() {
            continue;
        }
        let array = open::<PolicyId, u32>(&pins.map(map), MapType::ArrayOfMaps)?;
        let array: ArrayOfMaps<_, MapData> = ArrayOfMaps::try_from(Map::ArrayOfMaps(array))?;
        for policy in gone {
            let pin = pins.policy_map(map, *policy);
            let anew = || format!("pin map \"{}\" anew (needs CAP_SYS_ADMIN)", pin.display());
            // A policy without such entries has no map.
            if let Some(found) = optional(array.get(&policy.0, 0)).with_context(anew)? {
                found.pin(&pin).with_context(anew)?;
                restored.push(map.name());
            }
        }
    }
    Ok(restored)
}

/// Makes `META` anew from the rows of the attached pods. The state counts as that of an interrupted change
/// and of an unknown build, so that the next writer collects leftovers, and an upgrade replaces the programs.
pub fn restore_meta(pins: &Pins, rows: &[PolicyRow]) -> Result<()> {
    let numbers = rows.iter().map(|row| row.serial.0);
    let meta = Meta {
        last_number: numbers.max().unwrap_or_default(),
        changes: 1,
        build: 0,
        // Fingerprints of another key equal none of the new ones: those policies are not shared any more.
        fingerprint_key: random_key()?,
    };
    let mut map: Array<_, Meta> = Array::create(1, 0).context("create map `META`")?;
    map.set(0, meta, 0)
        .context("write the redirector's state")?;
    map.pin(pins.meta()).context("pin map `META`")
}

/// The rows of pods that name a policy, without the other maps.
pub fn active_rows(pins: &Pins, pods: &[CgroupId]) -> Result<Vec<PolicyRow>> {
    let rows = open::<CgroupId, PolicyRow>(&pins.map(MapName::Pods), MapType::CgroupStorage)?;
    let rows: HashMap<_, CgroupId, PolicyRow> = HashMap::try_from(Map::HashMap(rows))?;
    let mut found = Vec::new();
    for pod in pods {
        let row = optional(rows.get(pod, 0)).context("read the pod's row")?;
        found.extend(row.filter(|row| row.policy != PolicyId::NONE));
    }
    Ok(found)
}

/// The kernel's ids of the pinned programs, and of the programs that the pods' links run.
fn programs(pins: &Pins, pods: &[CgroupId]) -> BTreeSet<u32> {
    let hooks = Hook::ALL.into_iter().chain([Hook::SkLookup]);
    let linked = pods.iter().flat_map(|pod| {
        let links = hooks.clone().map(|hook| pins.link(*pod, hook));
        links.filter_map(|link| Some(LinkInfo::read(&link).ok()??.program))
    });
    let pinned = Hook::ALL
        .into_iter()
        .filter_map(|hook| program_id(pins, hook));
    linked.chain(pinned).collect()
}

/// The kernel's ids of the maps that programs use, by name.
fn maps_of_programs(ids: &BTreeSet<u32>) -> Result<BTreeMap<String, u32>> {
    let mut found = BTreeMap::new();
    for info in loaded_programs() {
        let info = info.context("list the programs")?;
        if !ids.contains(&info.id()) {
            continue;
        }
        for id in info.map_ids()?.unwrap_or_default() {
            let name = MapInfo::from_id(id)?.name_as_str().map(str::to_owned);
            found.extend(name.map(|name| (name, id)));
        }
    }
    Ok(found)
}
