//! What the running kernel can do, found by asking it: no version is compared with another.
//!
//! A [`Probe`] tries the real thing where that can be done without a trace: maps are made,
//! programs verified, and both are given up at once; nothing is mounted, pinned or attached.
//!
//! Depends on: `sys`, and the trial load of this module's siblings. Used by: `redirectctl doctor`.

mod cause;
mod hints;
mod machine;
mod object;
mod probe;

use std::path::Path;

use redirect_common::hooks::FLOOR;

pub use self::{
    hints::hints,
    probe::{Availability, Probe, all_present},
};
use self::{
    machine::{bpffs, btf, cgroup2, has, kernel, membarrier, netns},
    object::{about, brief, since, tried},
};
use super::{Trial, try_load};
use crate::sys::capability::{ADMIN, NEEDED};

/// Every question, in the order in which a reader would ask them. `state_dir` is the folder that will
/// hold all state.
pub fn probes(state_dir: &Path) -> Vec<Probe> {
    let state_dir = state_dir.to_owned();
    let mut probes =
        vec![Probe::new("kernel", "see the checks below; they count", FLOOR, kernel).optional()];
    probes.extend(NEEDED.map(|(name, capability, purpose)| {
        Probe::new(name, purpose, None, move || has(capability))
    }));
    let (name, capability, purpose) = ADMIN;
    probes.push(Probe::new(name, purpose, None, move || has(capability)).optional());
    probes.extend([
        Probe::new(
            "cgroup2",
            "what is redirected is a cgroup",
            since(4, 5),
            cgroup2,
        ),
        Probe::new(
            "bpffs",
            "keep state without a process",
            since(4, 4),
            move || bpffs(&state_dir),
        ),
        Probe::new(
            "kernel BTF",
            "find a socket's owner (-u, -g)",
            since(5, 4),
            btf,
        ),
        Probe::new(
            "netns cookie",
            "tell network namespaces apart",
            since(5, 14),
            netns,
        ),
        Probe::new(
            "membarrier",
            "update and detach without a gap",
            since(4, 3),
            membarrier,
        ),
    ]);
    let Trial { maps, programs } = try_load();
    probes.extend(maps.into_iter().map(|(map, attempt)| {
        let (needed_for, since) = about(map);
        Probe::new(
            format!("map {}", map.name()),
            needed_for,
            since,
            move || tried(&attempt),
        )
    }));
    probes.extend(programs.into_iter().map(|(hook, attempt)| {
        let name = format!("program {}", hook.program());
        Probe::new(name, brief(hook), hook.since(), move || tried(&attempt))
    }));
    probes
}
