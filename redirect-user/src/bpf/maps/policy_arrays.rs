//! The arrays in which programs find the maps of a policy, by its id.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    thread,
};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, MapType};
use redirect_common::abi::{MapName, PolicyId};

use super::open::open;
use crate::{bpf::pins::Pins, sys};

/// The most calls that wait at once.
const THREADS: usize = 64;

/// The arrays of maps.
pub(super) struct PolicyArrays {
    cidrs4: MapData,
    cidrs6: MapData,
    ports: MapData,
    groups: MapData,
}

impl PolicyArrays {
    pub(super) fn open(pins: &Pins) -> Result<Self> {
        let array = |map| open::<PolicyId, u32>(&pins.map(map), MapType::ArrayOfMaps);
        Ok(Self {
            cidrs4: array(MapName::Cidrs4)?,
            cidrs6: array(MapName::Cidrs6)?,
            ports: array(MapName::Ports)?,
            groups: array(MapName::Groups)?,
        })
    }

    fn array(&self, map: MapName) -> BorrowedFd<'_> {
        let array = if map == MapName::Cidrs4 {
            &self.cidrs4
        } else if map == MapName::Cidrs6 {
            &self.cidrs6
        } else if map == MapName::Ports {
            &self.ports
        } else {
            &self.groups
        };
        array.fd().as_fd()
    }

    /// Makes programs find the pinned maps of a policy. Returns whether that has waited for every
    /// program run that began before: the policy may have no maps.
    pub(super) fn store(&self, pins: &Pins, policy: PolicyId) -> Result<bool> {
        let mut maps = Vec::new();
        for map in MapName::PER_POLICY {
            let pin = pins.policy_map(map, policy);
            if pin.exists() {
                let opened = sys::bpf::open(&pin);
                maps.push((
                    map,
                    opened.with_context(|| format!("open map \"{}\"", pin.display()))?,
                ));
            }
        }
        at_once(&maps, |(map, fd)| {
            sys::bpf::set_element(self.array(*map), policy.0, fd.as_fd())
        })
        .context("store the policy's maps")?;
        Ok(!maps.is_empty())
    }

    /// Makes programs no longer find the maps of these policies, and waits for the programs that
    /// have found them.
    pub(super) fn clear(&self, pins: &Pins, policies: &[PolicyId]) -> Result<()> {
        let maps = policies.iter().flat_map(|&policy| {
            let all = MapName::PER_POLICY.into_iter();
            // Maps are pinned before they are stored, so that no element without a pin is filled.
            let pinned = all.filter(move |map| pins.policy_map(*map, policy).exists());
            pinned.map(move |map| (map, policy))
        });
        let maps: Vec<_> = maps.collect();
        at_once(&maps, |(map, policy)| {
            sys::bpf::clear_element(self.array(*map), policy.0)
        })
        .context("remove the policy's maps")
    }

    /// Waits until every program run that began before this call has ended.
    ///
    /// The kernel waits for an RCU grace period after it has stored an element of an array of maps,
    /// on every machine. `membarrier(MEMBARRIER_CMD_GLOBAL)` is refused with `nohz_full`, and waits
    /// for nothing where one CPU is online.
    pub(super) fn wait(&self, pins: &Pins) -> Result<()> {
        let waiting = || "wait for running BPF programs";
        let pin = pins.policy_map(MapName::Groups, PolicyId::NONE);
        let map = sys::bpf::open(&pin).with_context(waiting)?;
        sys::bpf::set_element(self.array(MapName::Groups), PolicyId::NONE.0, map.as_fd())
            .with_context(waiting)
    }
}

/// Makes one system call for each item, in threads: each call waits for RCU, and waits that overlap
/// take no longer than one.
fn at_once<T: Sync>(items: &[T], act: impl Fn(&T) -> io::Result<()> + Sync) -> io::Result<()> {
    for items in items.chunks(THREADS) {
        let Some((first, others)) = items.split_first() else {
            continue;
        };
        thread::scope(|scope| {
            let others: Vec<_> = others
                .iter()
                .map(|item| scope.spawn(|| act(item)))
                .collect();
            let mut result = act(first);
            for other in others {
                let ended = other.join();
                result = result.and(ended.unwrap_or_else(|_| Err(io::Error::other("a panic"))));
            }
            result
        })?;
    }
    Ok(())
}
