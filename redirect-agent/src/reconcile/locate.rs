//! The location of a workload: its cgroup, its network namespace and its resolvers, as they are now.

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
    location_cache::{AttachedNetns, LocationCache, NetnsAnchor},
    netns::{netns_by_name, netns_of_processes, process_in},
};
use crate::{
    cgroup_ref::{CgroupRef, Hierarchies},
    plan::{Claim, Resolution, ResolvedWorkload, Target},
    workload::{Policy, Workload},
};

/// Locates a workload, and records its location in the cache.
pub(super) fn locate(
    workload: &Workload,
    attached: &AttachedNetns,
    hierarchies: &Hierarchies,
    cache: &mut LocationCache,
) -> ResolvedWorkload {
    let mut anchor = cache.anchor(&workload.id).cloned();
    let resolution = resolve(workload, attached, hierarchies, &mut anchor);
    cache.insert(workload, &resolution, anchor);
    ResolvedWorkload {
        id: workload.id.clone(),
        name: workload.name.clone(),
        resolution,
    }
}

/// Resolves a workload. `anchor` is the file that its namespace was found by, last time and now.
fn resolve(
    workload: &Workload,
    attached: &AttachedNetns,
    hierarchies: &Hierarchies,
    anchor: &mut Option<NetnsAnchor>,
) -> Resolution {
    let name = workload.cgroup.as_ref();
    let found = name.map(|name| find_cgroup(name, hierarchies));
    let refused = |claim, reason| Resolution::Refused { claim, reason };
    let waiting = |cgroup, reason: &str| Resolution::Waiting {
        cgroup,
        reason: reason.to_owned(),
    };
    let (cgroup, policy) = match (found, &workload.policy) {
        (Some(Err((claim, reason))), _) => return refused(claim, reason),
        (None, Err(reason)) => return refused(Claim::Unknown, reason.clone()),
        (None, Ok(_)) => return waiting(None, "its cgroup is not known yet"),
        (Some(Ok(None)), Err(reason)) => return refused(Claim::None, reason.clone()),
        (Some(Ok(None)), Ok(_)) => {
            if let Some(obstacle) = name.and_then(|name| name.obstacle(hierarchies)) {
                return refused(Claim::Unknown, obstacle.to_owned());
            }
            let name = name.map_or_else(String::new, ToString::to_string);
            return waiting(None, &format!("there is no cgroup \"{name}\""));
        }
        (Some(Ok(Some(cgroup))), Err(reason)) => {
            return refused(Claim::Cgroup(cgroup.id()), reason.clone());
        }
        (Some(Ok(Some(cgroup))), Ok(policy)) => (cgroup, policy),
    };
    let attached = attached.get(&cgroup.id()).copied();
    match target(&cgroup, workload, policy, attached, anchor) {
        Ok(Some(target)) => Resolution::Ready(Box::new(target)),
        Ok(None) => waiting(
            Some(cgroup.id()),
            "its cgroup has no process in a network namespace of its own yet",
        ),
        Err(error) => refused(Claim::Cgroup(cgroup.id()), format!("{error:#}")),
    }
}

/// Whether the workload is a pod, which has a network namespace of its own: other pods are never described.
const fn is_pod(workload: &Workload) -> bool {
    matches!(workload.cgroup, Some(CgroupRef::Pod(_)))
}

/// The cgroup of a reference, if it exists. The error has the claim that follows, and the problem; a cgroup
/// that cannot be looked at may exist.
fn find_cgroup(
    name: &CgroupRef,
    hierarchies: &Hierarchies,
) -> Result<Option<Cgroup>, (Claim, String)> {
    let unknown = |error| (Claim::Unknown, format!("{error:#}"));
    let Some(path) = name.find(hierarchies).map_err(unknown)? else {
        return Ok(None);
    };
    match Cgroup::open(&path) {
        Ok(cgroup) => Ok(Some(cgroup)),
        // The cgroup may have gone in between.
        Err(OpenError::Missing(_)) => Ok(None),
        Err(error @ OpenError::Unreadable(..)) => Err(unknown(error.into())),
        Err(error @ (OpenError::NotVersion2(_) | OpenError::File(_) | OpenError::Root(_))) => {
            Err((Claim::None, error.to_string()))
        }
    }
}

/// The attachment that a workload should have; `None` for a pod without a process.
fn target(
    cgroup: &Cgroup,
    workload: &Workload,
    policy: &Policy,
    attached: Option<u64>,
    anchor: &mut Option<NetnsAnchor>,
) -> Result<Option<Target>> {
    let is_pod = is_pod(workload);
    let given = workload.netns.as_ref();
    let before = anchor.take();
    let found = given
        .map(|name| netns_by_name(name, before.as_ref()))
        .transpose();
    // The namespace of a sandbox can go before its pod.
    let (name, found) = match found {
        Err(_) if is_pod => (None, None),
        found => (given, found?),
    };
    let found = match found {
        None => netns_of_processes(cgroup, is_pod, attached, before.as_ref())?,
        found => found,
    };
    let netns = found.as_ref().map(|(_, cookie)| *cookie);
    if is_pod && netns.or(attached).is_none() {
        return Ok(None);
    }
    *anchor = found.and_then(|(file, cookie)| NetnsAnchor::new(file, cookie));
    let asker = ResolvConf::Pod {
        cgroup,
        netns: name,
    };
    let until_proxy = match &policy.until_proxy {
        Some(_) if is_proxy_listening(cgroup, netns, policy.config.out_port)? => None,
        until_proxy => until_proxy.clone(),
    };
    Ok(Some(Target {
        cgroup: cgroup.id(),
        path: cgroup.path().to_owned(),
        netns,
        config: with_resolvers(&policy.config, asker)?,
        until_proxy,
    }))
}

/// The configuration with the pod's resolvers in it, if it refers to them.
fn with_resolvers(
    config: &Arc<RedirectConfig>,
    asker: ResolvConf<'_>,
) -> Result<Arc<RedirectConfig>> {
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

/// Whether a sidecar listens at its outbound port, which it does at the wildcard address. Istio's container
/// `istio-validation`, which comes first, listens at loopback only.
fn is_proxy_listening(cgroup: &Cgroup, netns: Option<u64>, port: u16) -> Result<bool> {
    match netns.and_then(|cookie| process_in(cgroup, cookie)) {
        Some(pid) => listeners::is_served_everywhere(pid, port),
        None => Ok(false),
    }
}
