//! The planner: compares workloads with attachments.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use redirect_user::{config::RedirectConfig, sys::cgroup::CgroupId};

use super::{
    attachments::{Attached, Attachments},
    resolution::{Claim, Resolution, ResolvedWorkload, Target},
    step::{Action, Step},
};

/// Plans a step for every workload and every unclaimed attachment, in the order in which they are executed.
pub fn plan(workloads: &[ResolvedWorkload], attached: &Attachments) -> Vec<Step> {
    let claims = claims(workloads);
    let current = attached.current_layout.iter();
    let by_cgroup = current.map(|pod| (pod.cgroup, pod)).collect();
    let mut steps: Vec<_> = workloads
        .iter()
        .map(|workload| step_for_workload(workload, &claims, &by_cgroup, &attached.other_layouts))
        .collect();
    let unlocated = workloads.iter().find(|workload| {
        matches!(
            workload.resolution,
            Resolution::Refused {
                claim: Claim::Unknown,
                ..
            }
        )
    });
    let current = attached.current_layout.iter().map(|pod| pod.cgroup);
    let all: BTreeSet<_> = current
        .chain(attached.other_layouts.iter().copied())
        .collect();
    let unclaimed = all
        .into_iter()
        .filter(|cgroup| !claims.contains_key(cgroup));
    steps.extend(unclaimed.map(|cgroup| step_for_unclaimed(cgroup, unlocated)));
    steps.sort_by(|one, other| {
        (one.action, &one.id, one.cgroup).cmp(&(other.action, &other.id, other.cgroup))
    });
    steps
}

/// Attachments by cgroup.
type ByCgroup<'a> = BTreeMap<CgroupId, &'a Attached>;

/// Workloads that claim a cgroup, by cgroup.
type Claims<'a> = BTreeMap<CgroupId, Vec<&'a ResolvedWorkload>>;

fn claims(workloads: &[ResolvedWorkload]) -> Claims<'_> {
    let mut claims = Claims::new();
    for workload in workloads {
        let cgroup = match &workload.resolution {
            Resolution::Ready(target) => target.cgroup,
            Resolution::Refused {
                claim: Claim::Cgroup(cgroup),
                ..
            }
            | Resolution::Waiting {
                cgroup: Some(cgroup),
                ..
            } => *cgroup,
            Resolution::Refused { .. } | Resolution::Waiting { cgroup: None, .. } => continue,
        };
        claims.entry(cgroup).or_default().push(workload);
    }
    claims
}

fn step_for_workload(
    workload: &ResolvedWorkload,
    claims: &Claims<'_>,
    attached: &ByCgroup<'_>,
    other_layouts: &BTreeSet<CgroupId>,
) -> Step {
    let step = |cgroup, action, reason| Step {
        id: Some(workload.id.clone()),
        cgroup,
        action,
        target: None,
        reason,
    };
    let target = match &workload.resolution {
        Resolution::Ready(target) => target,
        Resolution::Waiting { cgroup, reason } => {
            return step(*cgroup, Action::Wait, Some(reason.clone()));
        }
        Resolution::Refused { claim, reason } => {
            let cgroup = match claim {
                Claim::Cgroup(cgroup) => Some(*cgroup),
                Claim::None | Claim::Unknown => None,
            };
            return step(cgroup, Action::Refuse, Some(reason.clone()));
        }
    };
    let rivals: Vec<_> = claims
        .get(&target.cgroup)
        .into_iter()
        .flatten()
        .filter(|other| other.id != workload.id)
        .map(|other| other.id.to_string())
        .collect();
    let cgroup = Some(target.cgroup);
    if !rivals.is_empty() {
        let reason = format!(
            "cgroup \"{}\" is also named by {}: remove all but one",
            target.path.display(),
            rivals.join(", ")
        );
        return step(cgroup, Action::Refuse, Some(reason));
    }
    let is_other_layout = other_layouts.contains(&target.cgroup);
    let attached = attached.get(&target.cgroup).copied();
    let (config, remark) = config_due(target, attached, is_other_layout);
    let action = match attached {
        _ if is_other_layout => Action::TakeOver,
        None => Action::Attach,
        Some(pod) if target.netns.is_some_and(|netns| netns != pod.netns) => Action::Move,
        // An update and a move attach missing programs as well.
        Some(pod) if *config != pod.config => Action::Update,
        Some(pod) if pod.missing.is_some() => Action::Repair,
        Some(_) => Action::Keep,
    };
    let reason = match (action, attached) {
        (Action::Repair, Some(pod)) => pod.missing.clone(),
        _ => remark.map(str::to_owned),
    };
    let target = Target {
        config: Arc::clone(config),
        ..(**target).clone()
    };
    Step {
        target: Some(Box::new(target)),
        ..step(cgroup, action, reason)
    }
}

/// The configuration that is due, and a remark about it. A proxy has listened before if its pod has the whole
/// configuration, or an attachment that cannot be read; whether it still listens makes no difference.
fn config_due<'a>(
    target: &'a Target,
    attached: Option<&Attached>,
    is_other_layout: bool,
) -> (&'a Arc<RedirectConfig>, Option<&'static str>) {
    let Target {
        config,
        until_proxy,
        ..
    } = target;
    let is_before = |before: &Arc<RedirectConfig>| match attached {
        Some(pod) => pod.config == *before,
        None => !is_other_layout,
    };
    match until_proxy.as_ref().filter(|before| is_before(before)) {
        Some(before) => (
            before,
            Some("its applications connect directly until its proxy listens"),
        ),
        None if config.shadow => (
            config,
            Some("shadow mode: connections are decided and counted, not redirected"),
        ),
        None => (config, None),
    }
}

fn step_for_unclaimed(cgroup: CgroupId, unlocated: Option<&ResolvedWorkload>) -> Step {
    let (action, reason) = match unlocated {
        Some(workload) => (
            Action::Hold,
            format!(
                "the description of {}, which cannot be read, may claim it",
                workload.id
            ),
        ),
        None => (Action::Detach, "no workload claims it".to_owned()),
    };
    Step {
        id: None,
        cgroup: Some(cgroup),
        action,
        target: None,
        reason: Some(reason),
    }
}
