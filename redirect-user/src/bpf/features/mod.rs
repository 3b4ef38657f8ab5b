//! The features of the running kernel, found by trying them. The version is shown with a hint; only
//! operations that were tried decide.
//!
//! A [`Probe`] tries the real operation wherever that leaves no trace: maps are created and
//! programs verified, and both are dropped at once; nothing is mounted, pinned or attached.

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
    machine::{bpffs, btf, cgroup2, has, ingress_interface, kernel, netns},
    object::{availability, hook_purpose, map_purpose, since},
};
use super::object::{Trial, try_load};
use crate::sys::{
    capability::{ADMIN, NEEDED},
    kernel_features::kernel_features,
};

/// All probes, in the order in which their results are read. `state_dir` is the state directory.
pub fn probes(state_dir: &Path) -> Vec<Probe> {
    let state_dir = state_dir.to_owned();
    let mut probes =
        vec![Probe::new("kernel", "the checks below decide", FLOOR, kernel).optional()];
    probes.extend(NEEDED.map(|(name, capability, purpose)| {
        Probe::new(name, purpose, None, move || has(capability))
    }));
    let (name, capability, purpose) = ADMIN;
    probes.push(Probe::new(name, purpose, None, move || has(capability)).optional());
    probes.extend([
        Probe::new(
            "cgroup2",
            "redirection is attached to a cgroup",
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
        Probe::new("netns cookie", "tell network namespaces apart", None, netns),
        Probe::new(
            "ingress interface",
            "exclude inbound connections by interface (-b with -c)",
            since(5, 17),
            ingress_interface,
        )
        .optional(),
    ]);
    let Trial { maps, programs } = try_load(kernel_features());
    probes.extend(maps.into_iter().map(|(map, attempt)| {
        let (needed_for, since) = map_purpose(map);
        Probe::new(
            format!("map {}", map.name()),
            needed_for,
            since,
            move || availability(&attempt),
        )
    }));
    probes.extend(programs.into_iter().map(|(hook, attempt)| {
        let name = format!("program {}", hook.program());
        Probe::new(name, hook_purpose(hook), hook.since(), move || {
            availability(&attempt)
        })
    }));
    probes
}
