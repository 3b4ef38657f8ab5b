//! The folders of other layouts below the state directory, and the cgroups whose programs decide there.
//!
//! The maps of another layout cannot be read. All layouts have in common the folders, and the names
//! of the links whose programs decide ([`Pins`]).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use redirect_common::hooks::Hook;

use super::contents::{Contents, children, name};
use crate::{
    bpf::Pins,
    sys::{
        attached::{cgroup_of_link, program_of_link},
        cgroup::CgroupId,
    },
};

/// The time for which programs of another layout answer after they no longer decide. It is longer
/// than twice the time for which the kernel tries to establish a connection (`tcp_syn_retries`,
/// `tcp_synack_retries`: 127 and 63 seconds).
const GRACE: Duration = Duration::from_mins(10);

/// The programs that decide, in the order in which they are detached.
pub(super) const DECIDING: [Hook; 5] = [
    Hook::SkLookup,
    Hook::Connect6,
    Hook::Connect4,
    Hook::SendMsg6,
    Hook::SendMsg4,
];

/// The cgroups for which programs of another layout below the state directory decide.
pub fn attached_by_others(state_dir: &Path) -> Result<BTreeSet<CgroupId>> {
    let mut found = BTreeSet::new();
    for version in other_versions(&Pins::new(state_dir))? {
        for pod in pods(&version)? {
            if let Some(id) = deciding_cgroup(&pod)? {
                found.insert(id);
            }
        }
    }
    Ok(found)
}

/// Whether the programs of some other layout have answered for long enough.
pub(super) fn any_expired(pins: &Pins) -> Result<bool> {
    for version in other_versions(pins)? {
        if is_expired(&version)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The version folders of other layouts.
pub(super) fn other_versions(pins: &Pins) -> Result<Vec<PathBuf>> {
    if !pins.state_dir().exists() {
        return Ok(Vec::new());
    }
    let is_other = |path: &PathBuf| {
        path != pins.version() && *path != pins.staging() && Pins::is_version(&name(path))
    };
    Ok(children(pins.state_dir())?
        .into_iter()
        .filter(is_other)
        .collect())
}

/// Whether no program in a version folder decides any more, the others have answered for long
/// enough, and the folder contains pins of the redirector.
pub(super) fn is_expired(version: &Path) -> Result<bool> {
    if !Contents::of(version)?.has_ours() {
        return Ok(false);
    }
    for pod in pods(version)? {
        if deciding_cgroup(&pod)?.is_some() || !is_old(&pod)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The folders of the cgroups in a version folder.
fn pods(version: &Path) -> Result<Vec<PathBuf>> {
    let folder = version.join("pods");
    if folder.is_dir() {
        children(&folder)
    } else {
        Ok(Vec::new())
    }
}

/// The cgroup for which some program in its folder decides; `None` if none does, or if the cgroup is
/// gone.
fn deciding_cgroup(pod: &Path) -> Result<Option<CgroupId>> {
    for hook in DECIDING {
        let link = pod.join(hook.program());
        // The lookup program is on a namespace instead of a cgroup, and never decides alone.
        if hook != Hook::SkLookup && link.exists() {
            let cgroup = cgroup_of_link(&link)?;
            return Ok(cgroup.filter(|id| name(pod) == id.to_string()));
        }
    }
    Ok(None)
}

/// The programs of other layouts that are attached to a cgroup at a hook.
pub(super) fn programs_of_others(pins: &Pins, id: CgroupId, hook: Hook) -> Result<Vec<u32>> {
    let mut programs = Vec::new();
    for version in other_versions(pins)? {
        let link = version
            .join("pods")
            .join(id.to_string())
            .join(hook.program());
        if link.exists() {
            programs.push(program_of_link(&link)?);
        }
    }
    Ok(programs)
}

/// Whether the last link was removed from a cgroup's folder long ago, or the cgroup is gone. The
/// kernel stores the time of a folder's last change.
fn is_old(pod: &Path) -> Result<bool> {
    let answering = pod.join(Hook::SockOps.program());
    if !answering.exists() || cgroup_of_link(&answering)?.is_none() {
        return Ok(true);
    }
    let changed = fs::metadata(pod).and_then(|metadata| metadata.modified());
    let changed = changed.with_context(|| format!("read the age of \"{}\"", pod.display()))?;
    // With a clock that was set back, the folder gets old later: the clock goes on.
    let age = SystemTime::now().duration_since(changed);
    Ok(age.is_ok_and(|age| age >= GRACE))
}
