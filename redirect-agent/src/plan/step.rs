//! A step of the plan.

use redirect_user::sys::cgroup::CgroupId;
use serde::Serialize;

use super::resolution::Target;
use crate::workload::WorkloadId;

/// A step for one workload, or for a cgroup that no workload claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The workload, if one claims the cgroup.
    pub id: Option<WorkloadId>,
    /// The cgroup, if that is known.
    pub cgroup: Option<CgroupId>,
    /// The action.
    pub action: Action,
    /// The attachment after the step, if that is known: with the configuration that is due.
    pub target: Option<Box<Target>>,
    /// Reason of the action, or a remark, if the action does not say enough.
    pub reason: Option<String>,
}

/// The actions, in the order in which they are executed: detaching makes room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// No workload claims the cgroup any more.
    Detach,
    /// The cgroup is attached in another network namespace than it is in.
    Move,
    /// The description has another configuration.
    Update,
    /// The attachment lacks programs.
    Repair,
    /// A version with another layout of the maps has attached the cgroup.
    TakeOver,
    /// The cgroup is not attached.
    Attach,
    /// The cgroup is attached as described.
    Keep,
    /// The workload cannot be attached yet.
    Wait,
    /// The description cannot be used; an existing attachment stays.
    Refuse,
    /// No known workload claims the cgroup, but an unreadable description might.
    Hold,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 10] = [
        Self::Detach,
        Self::Move,
        Self::Update,
        Self::Repair,
        Self::TakeOver,
        Self::Attach,
        Self::Keep,
        Self::Wait,
        Self::Refuse,
        Self::Hold,
    ];

    /// Name in tables and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detach => "detach",
            Self::Move => "move",
            Self::Update => "update",
            Self::Repair => "repair",
            Self::TakeOver => "take-over",
            Self::Attach => "attach",
            Self::Keep => "keep",
            Self::Wait => "wait",
            Self::Refuse => "refuse",
            Self::Hold => "hold",
        }
    }

    /// Whether the action changes an attachment.
    pub const fn is_change(self) -> bool {
        matches!(
            self,
            Self::Detach | Self::Move | Self::Update | Self::Repair | Self::TakeOver | Self::Attach
        )
    }
}
