//! Where a workload stands: its cgroup, its network namespace, and its resolvers, as they are now.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use redirect_user::{
    config::RedirectConfig,
    node::{Asker, find_resolvers},
    policy::canonical,
    sys::{
        cgroup::{Cgroup, is_gone},
        listeners,
        netns::{NetnsId, NetnsRef, OpenNetns},
    },
};

use super::sight::{Namespaces, Sights, Witness};
use crate::{
    cgroup_ref::{CgroupRef, Hierarchies},
    plan::{Holds, Stand, Target, Wanted},
    workload::{Policy, Workload},
};

/// Looks where a workload stands.
pub(super) fn locate(
    workload: &Workload,
    attached: &Namespaces,
    hierarchies: &Hierarchies,
    sights: &mut Sights,
) -> Wanted {
    let mut found_by = sights.witness(&workload.id).cloned();
    let stand = stand(workload, attached, hierarchies, &mut found_by);
    sights.note(workload, &stand, found_by);
    Wanted {
        id: workload.id.clone(),
        name: workload.name.clone(),
        stand,
    }
}

/// Where it stands. `found_by` is what its namespace was found by, the last time and now.
fn stand(
    workload: &Workload,
    attached: &Namespaces,
    hierarchies: &Hierarchies,
    found_by: &mut Option<Witness>,
) -> Stand {
    let name = workload.cgroup.as_ref();
    let found = name.map(|name| find(name, hierarchies));
    let refused = |holds, why| Stand::Refused { holds, why };
    let waiting = |cgroup, why: &str| Stand::Waiting {
        cgroup,
        why: why.to_owned(),
    };
    let (cgroup, policy) = match (found, &workload.policy) {
        (Some(Err((holds, why))), _) => return refused(holds, why),
        (None, Err(why)) => return refused(Holds::Unknown, why.clone()),
        (None, Ok(_)) => return waiting(None, "its cgroup is not known yet"),
        (Some(Ok(None)), Err(why)) => return refused(Holds::Nothing, why.clone()),
        (Some(Ok(None)), Ok(_)) => {
            if let Some(obstacle) = name.and_then(|name| name.obstacle(hierarchies)) {
                return refused(Holds::Unknown, obstacle.to_owned());
            }
            let name = name.map_or_else(String::new, ToString::to_string);
            return waiting(None, &format!("there is no cgroup \"{name}\""));
        }
        (Some(Ok(Some(cgroup))), Err(why)) => {
            return refused(Holds::Cgroup(cgroup.id()), why.clone());
        }
        (Some(Ok(Some(cgroup))), Ok(policy)) => (cgroup, policy),
    };
    let attached = attached.get(&cgroup.id()).copied();
    match target(&cgroup, workload, policy, attached, found_by) {
        Ok(Some(target)) => Stand::Ready(Box::new(target)),
        Ok(None) => waiting(
            Some(cgroup.id()),
            "no process in it is in a network namespace of its own yet",
        ),
        Err(error) => refused(Holds::Cgroup(cgroup.id()), format!("{error:#}")),
    }
}

/// Whether it is a pod that has a network namespace of its own: of others none is described.
const fn is_pod(workload: &Workload) -> bool {
    matches!(workload.cgroup, Some(CgroupRef::Pod(_)))
}

/// The cgroup of a name, if there is one; what is wrong with it, and whose policy stays then. What cannot be looked
/// at may be there.
fn find(name: &CgroupRef, hierarchies: &Hierarchies) -> Result<Option<Cgroup>, (Holds, String)> {
    let unknown = |error| (Holds::Unknown, format!("{error:#}"));
    let Some(path) = name.find(hierarchies).map_err(unknown)? else {
        return Ok(None);
    };
    match Cgroup::open(&path) {
        Ok(cgroup) => Ok(Some(cgroup)),
        // It may have gone in between.
        Err(error) => match error.downcast_ref::<io::Error>() {
            Some(why) if is_gone(why) => Ok(None),
            Some(_) => Err(unknown(error)),
            None => Err((Holds::Nothing, format!("{error:#}"))),
        },
    }
}

/// What a workload should have; `None` if it is a pod that nothing has begun in.
fn target(
    cgroup: &Cgroup,
    workload: &Workload,
    policy: &Policy,
    attached: Option<u64>,
    found_by: &mut Option<Witness>,
) -> Result<Option<Target>> {
    let is_pod = is_pod(workload);
    let given = workload.netns.as_ref();
    let before = found_by.take();
    let named = given.map(|name| named(name, before.as_ref())).transpose();
    // That of a sandbox can go before its pod.
    let (name, named) = match named {
        Err(_) if is_pod => (None, None),
        named => (given, named?),
    };
    let found = match named {
        None => namespace(cgroup, is_pod, attached, before.as_ref())?,
        named => named,
    };
    let netns = found.as_ref().map(|(_, cookie)| *cookie);
    if is_pod && netns.or(attached).is_none() {
        return Ok(None);
    }
    *found_by = found.and_then(|(file, cookie)| Witness::new(file, cookie));
    let asker = Asker::Pod {
        cgroup,
        netns: name,
    };
    let until_proxy = match &policy.until_proxy {
        Some(_) if has_proxy(cgroup, netns, policy.config.out_port)? => None,
        until_proxy => until_proxy.clone(),
    };
    Ok(Some(Target {
        cgroup: cgroup.id(),
        path: cgroup.path().to_owned(),
        netns,
        config: answered(&policy.config, asker)?,
        until_proxy,
    }))
}

/// A configuration with the resolvers that are meant, if it says that those of the pod are.
fn answered(config: &Arc<RedirectConfig>, asker: Asker<'_>) -> Result<Arc<RedirectConfig>> {
    let mut answered = RedirectConfig {
        dns: config.dns.clone(),
        ..RedirectConfig::default()
    };
    find_resolvers(&mut answered, asker)?;
    if answered.dns == config.dns {
        return Ok(Arc::clone(config));
    }
    let answered = RedirectConfig {
        dns: answered.dns,
        ..(**config).clone()
    };
    Ok(Arc::new(canonical(&answered)?))
}

/// Whether a sidecar listens at its outbound port: it does for all addresses. What listens there for loopback only
/// is Istio's container `istio-validation`, which comes first.
fn has_proxy(cgroup: &Cgroup, netns: Option<u64>, port: u16) -> Result<bool> {
    match netns.and_then(|cookie| process_in(cgroup, cookie)) {
        Some(pid) => listeners::is_served_everywhere(pid, port),
        None => Ok(false),
    }
}

/// A file that stands for a network namespace, and the namespace's cookie.
type Found = (PathBuf, u64);

/// The namespace of a name.
fn named(name: &NetnsRef, before: Option<&Witness>) -> Result<Found> {
    let netns = name.open()?;
    let cookie = before.and_then(|before| before.cookie_by(&netns.path()));
    Ok((netns.path(), cookie.map_or_else(|| netns.cookie(), Ok)?))
}

/// The namespace whose connections are to be redirected. Of several that a cgroup's processes are in
/// it is the one that it is attached in. Of a pod it is that of its first process, and never the node's,
/// which helpers of container runtimes are in. An error if there may be one that cannot be looked at.
fn namespace(
    cgroup: &Cgroup,
    is_pod: bool,
    attached: Option<u64>,
    before: Option<&Witness>,
) -> Result<Option<Found>> {
    let mut pids = cgroup.processes();
    if is_pod && attached.is_none() {
        pids.sort_by_cached_key(|pid| started(*pid));
    }
    let (mut first, mut hidden) = (None, None);
    let mut seen = if is_pod { of_the_node() } else { Vec::new() };
    for pid in pids {
        let found = another(pid, &mut seen).and_then(|netns| {
            let Some(netns) = netns else {
                return Ok(None);
            };
            let file = netns.path();
            let known = before.and_then(|before| before.cookie_by(&file));
            let cookie = known.map_or_else(|| netns.cookie(), Ok)?;
            Ok(Some((file, cookie)))
        });
        match found {
            Ok(Some(found)) if attached.is_none_or(|attached| attached == found.1) => {
                return Ok(Some(found));
            }
            Ok(Some(found)) => drop(first.get_or_insert(found)),
            Err(error) if !is_over(pid, &error) => drop(hidden.get_or_insert(error)),
            Ok(None) | Err(_) => {}
        }
    }
    match (first, hidden) {
        (None, Some(error)) if attached.is_none() => Err(error),
        (first, _) => Ok(first),
    }
}

/// The namespace of a process, if it is none of those that were seen.
fn another(pid: u32, seen: &mut Vec<NetnsId>) -> Result<Option<OpenNetns>> {
    let netns = NetnsRef::Pid(pid).open()?;
    if seen.contains(&netns.id()) {
        return Ok(None);
    }
    seen.push(netns.id());
    Ok(Some(netns))
}

/// Whether the process that an error is about has ended: the kernel then says that it is not there, or that one may
/// not look (`fs/proc/namespaces.c`).
fn is_over(pid: u32, error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(is_gone) || !Path::new(&format!("/proc/{pid}")).exists()
}

/// The node's namespaces. On a node that is itself a container that is not the first process's, but
/// this one's: what a container runtime has just started is there before it goes into that of its pod.
fn of_the_node() -> Vec<NetnsId> {
    let names = [NetnsRef::Pid(1), NetnsRef::Own].into_iter();
    names
        .filter_map(|name| Some(name.open().ok()?.id()))
        .collect()
}

/// When a process started, in ticks since the machine did (`/proc/PID/stat`, field 22); the last
/// of all if it has ended.
fn started(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A process may have any name, in the second field, in parentheses.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let start = fields.split(' ').nth(19).map(str::parse);
    start.and_then(Result::ok).unwrap_or(u64::MAX)
}

/// A process of a cgroup that is in the namespace with this cookie.
fn process_in(cgroup: &Cgroup, cookie: u64) -> Option<u32> {
    let mut seen = Vec::new();
    let mut is_in_it = |pid: &u32| {
        let netns = another(*pid, &mut seen).ok().flatten();
        netns.is_some_and(|netns| netns.cookie().is_ok_and(|found| found == cookie))
    };
    cgroup.processes().into_iter().find(|pid| is_in_it(pid))
}

/// How the namespace of a target is named when it is attached: as asked for, or by a process that is
/// in it; while there is none, it is taken to be the machine's.
pub(super) fn netns_name(target: &Target, asked: Option<&NetnsRef>) -> Result<NetnsRef> {
    if let Some(name) = asked.filter(|name| name.open().is_ok()) {
        return Ok(name.clone());
    }
    let Some(cookie) = target.netns else {
        return Ok(NetnsRef::Own);
    };
    let cgroup = Cgroup::open(&target.path).context("find its processes")?;
    let name = process_in(&cgroup, cookie).map(NetnsRef::Pid);
    name.context("find a process in its network namespace: all have ended")
}
