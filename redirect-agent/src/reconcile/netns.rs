//! The network namespace of a workload: found by its name, or by the processes of its cgroup.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use redirect_user::sys::{
    cgroup::{Cgroup, is_gone},
    netns::{NetnsHandle, NetnsId, NetnsRef},
};

use super::location_cache::NetnsAnchor;
use crate::plan::Target;

/// Path of a file that stands for a network namespace, and the namespace's cookie.
pub(super) type FoundNetns = (PathBuf, u64);

/// The namespace with this name.
pub(super) fn netns_by_name(name: &NetnsRef, before: Option<&NetnsAnchor>) -> Result<FoundNetns> {
    let netns = name.open()?;
    let cookie = before.and_then(|before| before.cookie_of(&netns.path()));
    Ok((netns.path(), cookie.map_or_else(|| netns.cookie(), Ok)?))
}

/// The namespace of a cgroup's processes. If they are in several, the attached one wins, and for a pod that
/// is not attached that of its first process. The node's namespace is never a pod's: helpers of container
/// runtimes are in it. An error means that there may be one that cannot be looked at.
pub(super) fn netns_of_processes(
    cgroup: &Cgroup,
    is_pod: bool,
    attached: Option<u64>,
    before: Option<&NetnsAnchor>,
) -> Result<Option<FoundNetns>> {
    let mut pids = cgroup.processes();
    if is_pod && attached.is_none() {
        pids.sort_by_cached_key(|pid| start_time(*pid));
    }
    let (mut first, mut hidden) = (None, None);
    let mut seen = if is_pod { node_netns() } else { Vec::new() };
    for pid in pids {
        let found = unseen_netns(pid, &mut seen).and_then(|netns| {
            let Some(netns) = netns else {
                return Ok(None);
            };
            let file = netns.path();
            let known = before.and_then(|before| before.cookie_of(&file));
            let cookie = known.map_or_else(|| netns.cookie(), Ok)?;
            Ok(Some((file, cookie)))
        });
        match found {
            Ok(Some(found)) if attached.is_none_or(|attached| attached == found.1) => {
                return Ok(Some(found));
            }
            Ok(Some(found)) => drop(first.get_or_insert(found)),
            Err(error) if !has_ended(pid, &error) => drop(hidden.get_or_insert(error)),
            Ok(None) | Err(_) => {}
        }
    }
    match (first, hidden) {
        (None, Some(error)) if attached.is_none() => Err(error),
        (first, _) => Ok(first),
    }
}

/// The namespace of a process, unless it was seen before.
fn unseen_netns(pid: u32, seen: &mut Vec<NetnsId>) -> Result<Option<NetnsHandle>> {
    let netns = NetnsRef::Pid(pid).open()?;
    if seen.contains(&netns.id()) {
        return Ok(None);
    }
    seen.push(netns.id());
    Ok(Some(netns))
}

/// Whether the process of an error has ended: the kernel then reports that it does not exist, or denies
/// access (`fs/proc/namespaces.c`).
fn has_ended(pid: u32, error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(is_gone) || !Path::new(&format!("/proc/{pid}")).exists()
}

/// The node's namespaces. On a node that is itself a container, the first process's namespace is not the
/// node's, but the agent's own is: a process that a container runtime has just started is in it until it
/// enters that of its pod.
fn node_netns() -> Vec<NetnsId> {
    let names = [NetnsRef::Pid(1), NetnsRef::Own].into_iter();
    names
        .filter_map(|name| Some(name.open().ok()?.id()))
        .collect()
}

/// Start of a process in ticks since boot (`/proc/PID/stat`, field 22); the maximum if the process has ended.
fn start_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field, in parentheses, is a name that may contain anything.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let start = fields.split(' ').nth(19).map(str::parse);
    start.and_then(Result::ok).unwrap_or(u64::MAX)
}

/// A process of a cgroup in the namespace with this cookie.
pub(super) fn process_in(cgroup: &Cgroup, cookie: u64) -> Option<u32> {
    let mut seen = Vec::new();
    let mut is_in_it = |pid: &u32| {
        let netns = unseen_netns(*pid, &mut seen).ok().flatten();
        netns.is_some_and(|netns| netns.cookie().is_ok_and(|found| found == cookie))
    };
    cgroup.processes().into_iter().find(|pid| is_in_it(pid))
}

/// Name of a target's namespace for an attach: the described one, or that of a process in it. Without any
/// process it is the machine's.
pub(super) fn attach_name(target: &Target, described: Option<&NetnsRef>) -> Result<NetnsRef> {
    if let Some(name) = described.filter(|name| name.open().is_ok()) {
        return Ok(name.clone());
    }
    let Some(cookie) = target.netns else {
        return Ok(NetnsRef::Own);
    };
    let cgroup = Cgroup::open(&target.path).context("find its processes")?;
    let name = process_in(&cgroup, cookie).map(NetnsRef::Pid);
    name.context("find a process in its network namespace: all have ended")
}
