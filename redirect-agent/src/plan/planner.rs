//! What is to be done, given what is wanted and what is attached. Pure: this is the only place that
//! decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use redirect_user::{config::RedirectConfig, sys::cgroup::CgroupId};
use serde::Serialize;

use crate::workload::WorkloadId;

/// A workload, and where it stands at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which one it is.
    pub id: WorkloadId,
    /// What people call it.
    pub name: String,
    /// Where it stands.
    pub stand: Stand,
}

/// Where a workload stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It is there, and it is known what it should have.
    Ready(Box<Target>),
    /// It cannot have anything yet. What it has stays.
    Waiting {
        /// Its cgroup, if that is there already.
        cgroup: Option<CgroupId>,
        /// What it waits for.
        why: String,
    },
    /// What it should have cannot be used, and why. What it has stays.
    Refused {
        /// Whose policy stays.
        holds: Holds,
        /// What is wrong.
        why: String,
    },
}

/// Which cgroup a refused workload is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// This one.
    Cgroup(CgroupId),
    /// One that is not there.
    Nothing,
    /// It may be any.
    Unknown,
}

/// What a workload should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// The cgroup's folder.
    pub path: PathBuf,
    /// The cookie of its network namespace; `None` if nothing tells, so that what it has is right.
    pub netns: Option<u64>,
    /// Its configuration, in canonical form.
    pub config: Arc<RedirectConfig>,
    /// What it has instead if its proxy has not listened yet; `None` if it does now, or if that makes no
    /// difference.
    pub until_proxy: Option<Arc<RedirectConfig>>,
}

/// What is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachments {
    /// By this version's layout of the maps.
    pub own: Vec<Attached>,
    /// The cgroups that a version with another layout decides about. Nothing more can be known of them.
    pub others: BTreeSet<CgroupId>,
}

/// A cgroup that is attached by this version's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The cgroup.
    pub cgroup: CgroupId,
    /// The cookie of the network namespace whose connections are redirected.
    pub netns: u64,
    /// The configuration, as it is read off the maps.
    pub config: Arc<RedirectConfig>,
}

/// What is to be done with one workload, or with a cgroup that no workload wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The workload, if one wants it.
    pub id: Option<WorkloadId>,
    /// The cgroup, if it is known.
    pub cgroup: Option<CgroupId>,
    /// What is done.
    pub action: Action,
    /// What it has then, if that is known: with the configuration that is due.
    pub target: Option<Box<Target>>,
    /// Why, or what there is to say of it, where that is not clear from the action.
    pub reason: Option<String>,
}

/// What can be done, in the order in which it is done: what ends first makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nobody wants it any more.
    Detach,
    /// It is attached in another network namespace than it is in.
    Move,
    /// It has another configuration.
    Update,
    /// A version with another layout of the maps has attached it.
    TakeOver,
    /// It has none.
    Attach,
    /// It is as it should be.
    Keep,
    /// It is not there yet.
    Wait,
    /// What is wanted cannot be used; what is attached stays.
    Refuse,
    /// Nobody is known to want it, but that may be what cannot be read.
    Hold,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 9] = [
        Self::Detach,
        Self::Move,
        Self::Update,
        Self::TakeOver,
        Self::Attach,
        Self::Keep,
        Self::Wait,
        Self::Refuse,
        Self::Hold,
    ];

    /// Its name, in tables and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detach => "detach",
            Self::Move => "move",
            Self::Update => "update",
            Self::TakeOver => "take-over",
            Self::Attach => "attach",
            Self::Keep => "keep",
            Self::Wait => "wait",
            Self::Refuse => "refuse",
            Self::Hold => "hold",
        }
    }

    /// Whether it changes anything.
    pub const fn is_change(self) -> bool {
        matches!(
            self,
            Self::Detach | Self::Move | Self::Update | Self::TakeOver | Self::Attach
        )
    }
}

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
