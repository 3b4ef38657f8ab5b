//! What is to be done, a step for each workload.

use redirect_user::sys::cgroup::CgroupId;
use serde::Serialize;

use super::resolution::Target;
use crate::workload::WorkloadId;

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
