//! Where a workload stands: its cgroup, its network namespace, and its resolvers, as they are now.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use redirect_common::facts::Transport;
use redirect_user::{
    config::RedirectConfig,
    node::{Asker, find_resolvers},
    policy::canonical,
    sys::{
        cgroup::{Cgroup, CgroupId},
        listeners,
        netns::{NetnsId, NetnsRef},
    },
};

use super::sight::{Sights, Witness};
use crate::{
    cgroup_ref::{CgroupRef, Hierarchies},
    plan::{Holds, Stand, Target, Wanted},
    workload::{BeforeProxy, Workload},
};

/// The network namespaces that cgroups are attached in, by cookie.
pub(super) type Namespaces = BTreeMap<CgroupId, u64>;

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
    let (cgroup, policy) = match (found, &workload.policy) {
        (None, Err(why)) => return refused(Holds::Unknown, why.clone()),
        (None, Ok(_)) => return Stand::Waiting("its cgroup is not known yet".to_owned()),
        (Some(Ok(None)), Err(why)) => return refused(Holds::Nothing, why.clone()),
        (Some(Ok(None)), Ok(_)) => {
            let why = name.map(|name| name.absence(hierarchies));
            return Stand::Waiting(why.unwrap_or_default());
        }
        (Some(Ok(Some(cgroup))), Err(why)) => {
            return refused(Holds::Cgroup(cgroup.id()), why.clone());
        }
        (Some(Ok(Some(cgroup))), Ok(policy)) => (cgroup, policy),
        (Some(Err(error)), _) => return refused(Holds::Nothing, format!("{error:#}")),
    };
    let attached = attached.get(&cgroup.id()).copied();
    match target(&cgroup, workload, &policy.config, attached, found_by) {
        Ok(Some(target)) if policy.before_proxy == BeforeProxy::Direct && attached.is_none() => {
            match has_proxy(&cgroup, &target) {
                Ok(true) => Stand::Ready(Box::new(target)),
                Ok(false) => Stand::Waiting(NO_PROXY.to_owned()),
                Err(error) => refused(Holds::Cgroup(cgroup.id()), format!("{error:#}")),
            }
        }
        Ok(Some(target)) => Stand::Ready(Box::new(target)),
        Ok(None) => {
            Stand::Waiting("no process in it is in a network namespace of its own yet".to_owned())
        }
        Err(error) => refused(Holds::Cgroup(cgroup.id()), format!("{error:#}")),
    }
}

/// Why a workload waits that is direct until its proxy listens.
const NO_PROXY: &str = "its proxy does not listen yet, and it is direct until then";

/// Whether somebody listens at the proxy's outbound port, in the network namespace of a workload.
fn has_proxy(cgroup: &Cgroup, target: &Target) -> Result<bool> {
    let inside = target.netns.and_then(|cookie| process_in(cgroup, cookie));
    match inside {
        Some(pid) => listeners::is_served_to(pid, Transport::Tcp, target.config.out_port),
        None => Ok(false),
    }
}

/// Whether it is a pod that has a network namespace of its own: of others none is described.
const fn is_pod(workload: &Workload) -> bool {
    matches!(workload.cgroup, Some(CgroupRef::Pod(_)))
}

/// The cgroup of a name, if there is one.
fn find(name: &CgroupRef, hierarchies: &Hierarchies) -> Result<Option<Cgroup>> {
    let Some(path) = name.find(hierarchies)? else {
        return Ok(None);
    };
    match Cgroup::open(&path) {
        // It may have gone in between.
        Err(_) if !path.exists() => Ok(None),
        opened => opened.map(Some),
    }
}

/// What a workload should have; `None` if it is a pod that nothing has begun in.
fn target(
    cgroup: &Cgroup,
    workload: &Workload,
    config: &Arc<RedirectConfig>,
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
    let found = named.or_else(|| namespace(cgroup, is_pod, attached, before.as_ref()));
    let netns = found.as_ref().map(|(_, cookie)| *cookie);
    if is_pod && netns.or(attached).is_none() {
        return Ok(None);
    }
    *found_by = found.and_then(|(file, cookie)| Witness::new(file, cookie));
    let mut config = Arc::clone(config);
    let asker = Asker::Pod {
        cgroup,
        netns: name,
    };
    let mut answered = RedirectConfig {
        dns: config.dns.clone(),
        ..RedirectConfig::default()
    };
    find_resolvers(&mut answered, asker)?;
    if answered.dns != config.dns {
        let answered = RedirectConfig {
            dns: answered.dns,
            ..(*config).clone()
        };
        config = Arc::new(canonical(&answered)?);
    }
    Ok(Some(Target {
        cgroup: cgroup.id(),
        path: cgroup.path().to_owned(),
        netns,
        config,
    }))
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
/// which helpers of container runtimes are in.
fn namespace(
    cgroup: &Cgroup,
    is_pod: bool,
    attached: Option<u64>,
    before: Option<&Witness>,
) -> Option<Found> {
    let mut pids = cgroup.processes();
    if is_pod && attached.is_none() {
        pids.sort_by_cached_key(|pid| started(*pid));
    }
    let mut first = None;
    let mut seen = if is_pod { of_the_node() } else { Vec::new() };
    for pid in pids {
        // It may have ended.
        let Ok(netns) = NetnsRef::Pid(pid).open() else {
            continue;
        };
        if seen.contains(&netns.id()) {
            continue;
        }
        seen.push(netns.id());
        let file = netns.path();
        let known = before.and_then(|before| before.cookie_by(&file));
        let Some(cookie) = known.or_else(|| netns.cookie().ok()) else {
            continue;
        };
        if attached.is_none() || attached == Some(cookie) {
            return Some((file, cookie));
        }
        first.get_or_insert((file, cookie));
    }
    first
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
    let is_in_it = |pid: &u32| {
        let found = NetnsRef::Pid(*pid).open().and_then(|netns| netns.cookie());
        found.is_ok_and(|found| found == cookie)
    };
    cgroup.processes().into_iter().find(is_in_it)
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
