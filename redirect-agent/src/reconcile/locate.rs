//! Where a workload stands: its cgroup, its network namespace, and its resolvers, as they are now.

use std::sync::Arc;

use anyhow::Result;
use redirect_user::{
    config::RedirectConfig,
    node::{ResolvConf, find_resolvers},
    policy::canonical,
    sys::{
        cgroup::{Cgroup, OpenError},
        listeners,
    },
};

use super::{
    netns::{named, namespace, process_in},
    sight::{Namespaces, Sights, Witness},
};
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
        Err(OpenError::Missing(_)) => Ok(None),
        Err(error @ OpenError::Unreadable(..)) => Err(unknown(error.into())),
        Err(error @ (OpenError::NotVersion2(_) | OpenError::File(_) | OpenError::Root(_))) => {
            Err((Holds::Nothing, error.to_string()))
        }
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
    let found = given.map(|name| named(name, before.as_ref())).transpose();
    // That of a sandbox can go before its pod.
    let (name, found) = match found {
        Err(_) if is_pod => (None, None),
        found => (given, found?),
    };
    let found = match found {
        None => namespace(cgroup, is_pod, attached, before.as_ref())?,
        found => found,
    };
    let netns = found.as_ref().map(|(_, cookie)| *cookie);
    if is_pod && netns.or(attached).is_none() {
        return Ok(None);
    }
    *found_by = found.and_then(|(file, cookie)| Witness::new(file, cookie));
    let asker = ResolvConf::Pod {
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
fn answered(config: &Arc<RedirectConfig>, asker: ResolvConf<'_>) -> Result<Arc<RedirectConfig>> {
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
