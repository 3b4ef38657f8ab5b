//! Where a workload stands: its cgroup, its network namespace, and its resolvers, as they are now.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result};
use redirect_user::{
    config::RedirectConfig,
    node::{Asker, find_resolvers},
    policy::canonical,
    sys::{
        cgroup::{Cgroup, CgroupId},
        netns::NetnsRef,
    },
};

use crate::{
    cgroup_ref::CgroupRef,
    plan::{Holds, Stand, Target, Wanted},
    workload::Workload,
};

/// The network namespaces that cgroups are attached in, by cookie.
pub(super) type Namespaces = BTreeMap<CgroupId, u64>;

/// Looks where a workload stands.
pub(super) fn locate(workload: &Workload, attached: &Namespaces) -> Wanted {
    Wanted {
        id: workload.id.clone(),
        name: workload.name.clone(),
        stand: stand(workload, attached),
    }
}

fn stand(workload: &Workload, attached: &Namespaces) -> Stand {
    let found = workload.cgroup.as_ref().map(find);
    let refused = |holds, why| Stand::Refused { holds, why };
    let (cgroup, policy) = match (found, &workload.policy) {
        (None, Err(why)) => return refused(Holds::Unknown, why.clone()),
        (None, Ok(_)) => return Stand::Waiting("its cgroup is not known yet".to_owned()),
        (Some(Ok(None)), Err(why)) => return refused(Holds::Nothing, why.clone()),
        (Some(Ok(None)), Ok(_)) => {
            let name = workload.cgroup.iter().map(ToString::to_string);
            let name: String = name.collect();
            return Stand::Waiting(format!("there is no cgroup \"{name}\""));
        }
        (Some(Ok(Some(cgroup))), Err(why)) => {
            return refused(Holds::Cgroup(cgroup.id()), why.clone());
        }
        (Some(Ok(Some(cgroup))), Ok(policy)) => (cgroup, policy),
        (Some(Err(error)), _) => return refused(Holds::Nothing, format!("{error:#}")),
    };
    let name = workload.netns.as_ref();
    target(
        &cgroup,
        name,
        &policy.config,
        attached.get(&cgroup.id()).copied(),
    )
    .map_or_else(
        |error| refused(Holds::Cgroup(cgroup.id()), format!("{error:#}")),
        |target| Stand::Ready(Box::new(target)),
    )
}

/// The cgroup of a name, if there is one.
fn find(name: &CgroupRef) -> Result<Option<Cgroup>> {
    let Some(path) = name.find()? else {
        return Ok(None);
    };
    match Cgroup::open(&path) {
        // It may have gone in between.
        Err(_) if !path.exists() => Ok(None),
        opened => opened.map(Some),
    }
}

fn target(
    cgroup: &Cgroup,
    name: Option<&NetnsRef>,
    config: &RedirectConfig,
    attached: Option<u64>,
) -> Result<Target> {
    let mut config = config.clone();
    let asker = Asker::Pod {
        cgroup,
        netns: name,
    };
    let wanted_dns = config.dns.clone();
    find_resolvers(&mut config, asker)?;
    if config.dns != wanted_dns {
        config = canonical(&config)?;
    }
    Ok(Target {
        cgroup: cgroup.id(),
        path: cgroup.path().to_owned(),
        netns: namespace(cgroup, name, attached)?,
        config,
    })
}

/// The cookie of the namespace whose connections are to be redirected. Of several that a cgroup's
/// processes are in it is the one that it is attached in.
fn namespace(
    cgroup: &Cgroup,
    name: Option<&NetnsRef>,
    attached: Option<u64>,
) -> Result<Option<u64>> {
    if let Some(name) = name {
        return name.open()?.cookie().map(Some);
    }
    let mut first = None;
    let mut seen = Vec::new();
    for pid in cgroup.processes() {
        // It may have ended.
        let Ok(netns) = NetnsRef::Pid(pid).open() else {
            continue;
        };
        if seen.contains(&netns.id()) {
            continue;
        }
        seen.push(netns.id());
        let Ok(cookie) = netns.cookie() else {
            continue;
        };
        if attached.is_none() || attached == Some(cookie) {
            return Ok(Some(cookie));
        }
        first.get_or_insert(cookie);
    }
    Ok(first)
}

/// How the namespace of a cgroup is named when it is attached: as asked for, or by a process; while
/// there is none, it is taken to be the machine's.
pub(super) fn netns_name(path: &Path, asked: Option<&NetnsRef>) -> Result<NetnsRef> {
    if let Some(name) = asked {
        return Ok(name.clone());
    }
    let cgroup = Cgroup::open(path).context("find its processes")?;
    let first = cgroup.processes().first().copied();
    Ok(first.map_or(NetnsRef::Own, NetnsRef::Pid))
}
