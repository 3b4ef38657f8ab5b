//! The status of a workload after a pass, and its outcome for reporters.

use redirect_user::sys::cgroup::CgroupId;

use crate::{plan::Action, workload::WorkloadId};

/// The state of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Redirected as described.
    Attached,
    /// Its cgroup does not exist yet, or no process in it is in a network namespace of its own.
    Waiting,
    /// Its description cannot be used; an existing attachment stays.
    Refused,
    /// A step failed, and will be retried.
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Attached, Self::Waiting, Self::Refused, Self::Failed];

    /// Name in labels and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The status of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// The workload.
    pub id: WorkloadId,
    /// Name for people.
    pub name: String,
    /// Its cgroup, if that exists.
    pub cgroup: Option<CgroupId>,
    /// Its state.
    pub state: State,
    /// Reason of the state, or a remark about it.
    pub detail: Option<String>,
}

/// The outcome of a pass for one workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The workload.
    pub id: WorkloadId,
    /// Its state after the pass.
    pub state: State,
    /// Reason of the state, or a remark about it.
    pub detail: Option<String>,
    /// The action that the pass attempted, if any.
    pub action: Option<Action>,
    /// Remarks about the workload's settings, which the report of an action includes.
    pub remarks: Vec<String>,
    /// New warnings about the workload's settings, each of which is worth a report.
    pub warnings: Vec<String>,
}

/// Receives the outcomes of passes.
pub trait Reporter: Send + 'static {
    /// Reports the outcomes of one pass, one for each workload. Some passes are left out. Must return
    /// quickly.
    fn report(&mut self, outcomes: &[Outcome]);
}
