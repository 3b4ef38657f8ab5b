//! What is to be done, given what is wanted and what is attached.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use redirect_user::{config::RedirectConfig, sys::cgroup::CgroupId};

use super::{
    attachments::{Attached, Attachments},
    resolution::{Holds, Stand, Target, Wanted},
    step::{Action, Step},
};

/// Decides, for every workload and every attached cgroup, in the order in which it is done.
pub fn plan(wanted: &[Wanted], attached: &Attachments) -> Vec<Step> {
    let claims = claims(wanted);
    let own = attached.own.iter();
    let by_cgroup = own.map(|pod| (pod.cgroup, pod)).collect();
    let mut steps: Vec<_> = wanted
        .iter()
        .map(|workload| for_workload(workload, &claims, &by_cgroup, &attached.others))
        .collect();
    let unreadable = wanted.iter().find(|workload| {
        matches!(
            workload.stand,
            Stand::Refused {
                holds: Holds::Unknown,
                ..
            }
        )
    });
    let own = attached.own.iter().map(|pod| pod.cgroup);
    let all: BTreeSet<_> = own.chain(attached.others.iter().copied()).collect();
    let unclaimed = all
        .into_iter()
        .filter(|cgroup| !claims.contains_key(cgroup));
    steps.extend(unclaimed.map(|cgroup| for_unclaimed(cgroup, unreadable)));
    steps.sort_by(|one, other| {
        (one.action, &one.id, one.cgroup).cmp(&(other.action, &other.id, other.cgroup))
    });
    steps
}

/// What is attached, by cgroup.
type ByCgroup<'a> = BTreeMap<CgroupId, &'a Attached>;

/// The workloads that each cgroup is wanted, or held, by.
type Claims<'a> = BTreeMap<CgroupId, Vec<&'a Wanted>>;

fn claims(wanted: &[Wanted]) -> Claims<'_> {
    let mut claims = Claims::new();
    for workload in wanted {
        let cgroup = match &workload.stand {
            Stand::Ready(target) => target.cgroup,
            Stand::Refused {
                holds: Holds::Cgroup(cgroup),
                ..
            }
            | Stand::Waiting {
                cgroup: Some(cgroup),
                ..
            } => *cgroup,
            Stand::Refused { .. } | Stand::Waiting { cgroup: None, .. } => continue,
        };
        claims.entry(cgroup).or_default().push(workload);
    }
    claims
}

fn for_workload(
    workload: &Wanted,
    claims: &Claims<'_>,
    attached: &ByCgroup<'_>,
    others: &BTreeSet<CgroupId>,
) -> Step {
    let step = |cgroup, action, reason| Step {
        id: Some(workload.id.clone()),
        cgroup,
        action,
        target: None,
        reason,
    };
    let target = match &workload.stand {
        Stand::Ready(target) => target,
        Stand::Waiting { cgroup, why } => {
            return step(*cgroup, Action::Wait, Some(why.clone()));
        }
        Stand::Refused { holds, why } => {
            let cgroup = match holds {
                Holds::Cgroup(cgroup) => Some(*cgroup),
                Holds::Nothing | Holds::Unknown => None,
            };
            return step(cgroup, Action::Refuse, Some(why.clone()));
        }
    };
    let rivals: Vec<_> = claims
        .get(&target.cgroup)
        .into_iter()
        .flatten()
        .filter(|other| other.id != workload.id)
        .map(|other| other.id.to_string())
        .collect();
    let there = Some(target.cgroup);
    if !rivals.is_empty() {
        let why = format!(
            "cgroup \"{}\" is also named by {}: remove all but one",
            target.path.display(),
            rivals.join(", ")
        );
        return step(there, Action::Refuse, Some(why));
    }
    let is_others = others.contains(&target.cgroup);
    let now = attached.get(&target.cgroup).copied();
    let (config, remark) = due(target, now, is_others);
    let action = match now {
        _ if is_others => Action::TakeOver,
        None => Action::Attach,
        Some(pod) if target.netns.is_some_and(|netns| netns != pod.netns) => Action::Move,
        Some(pod) if *config != pod.config => Action::Update,
        Some(_) => Action::Keep,
    };
    let target = Target {
        config: Arc::clone(config),
        ..(**target).clone()
    };
    Step {
        target: Some(Box::new(target)),
        ..step(there, action, remark.map(str::to_owned))
    }
}

/// What a workload has now, and what there is to say of it. Its proxy has listened already where it has its whole
/// configuration, or something that nobody can read; that it does no more makes no difference.
fn due<'a>(
    target: &'a Target,
    now: Option<&Attached>,
    is_others: bool,
) -> (&'a Arc<RedirectConfig>, Option<&'static str>) {
    let Target {
        config,
        until_proxy,
        ..
    } = target;
    let is_before = |before: &Arc<RedirectConfig>| match now {
        Some(pod) => pod.config == *before,
        None => !is_others,
    };
    match until_proxy.as_ref().filter(|before| is_before(before)) {
        Some(before) => (
            before,
            Some("its applications connect directly until its proxy listens"),
        ),
        None if config.shadow => (
            config,
            Some("a rehearsal: connections are decided and counted, not redirected"),
        ),
        None => (config, None),
    }
}

fn for_unclaimed(cgroup: CgroupId, unreadable: Option<&Wanted>) -> Step {
    let (action, reason) = match unreadable {
        Some(workload) => (
            Action::Hold,
            format!("it may be that of {}, which cannot be read", workload.id),
        ),
        None => (Action::Detach, "no workload names it".to_owned()),
    };
    Step {
        id: None,
        cgroup: Some(cgroup),
        action,
        target: None,
        reason: Some(reason),
    }
}
