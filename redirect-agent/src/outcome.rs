//! How a workload is after a pass, and what became of it.

use redirect_user::sys::cgroup::CgroupId;

use crate::{plan::Action, workload::WorkloadId};

/// How a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is redirected as described.
    Attached,
    /// Its cgroup, or a process of its own, is not there.
    Waiting,
    /// Its description cannot be used; what it had stays.
    Refused,
    /// It could not be done; it is tried again.
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Attached, Self::Waiting, Self::Refused, Self::Failed];

    /// Its name, as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// A workload, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// Which one it is.
    pub id: WorkloadId,
    /// What people call it.
    pub name: String,
    /// Its cgroup, if it is there.
    pub cgroup: Option<CgroupId>,
    /// How it is.
    pub state: State,
    /// Why, or what there is to say of it.
    pub detail: Option<String>,
}

/// What became of a workload in a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which one it is.
    pub id: WorkloadId,
    /// How it is now.
    pub state: State,
    /// Why, or what there is to say of it.
    pub detail: Option<String>,
    /// What was done to make it so, if that was anything.
    pub action: Option<Action>,
}

/// Is told the outcomes of passes.
pub trait Reporter: Send + 'static {
    /// Reports the outcomes of a pass, one for each workload. Some passes are left out. It must not take long.
    fn report(&mut self, outcomes: &[Outcome]);
}
