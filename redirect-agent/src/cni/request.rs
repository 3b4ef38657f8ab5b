//! What the loop is asked for.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use crate::{desired::Sandbox, outcome::WorkloadStatus, workload::WorkloadId};

/// What is told of a workload after a pass; `None` if nobody wants it.
pub type Verdict = Option<WorkloadStatus>;

/// A request to the loop.
#[derive(Debug)]
pub enum Request {
    /// There is this sandbox. The reply comes after the first pass that has settled how its pod is: not
    /// as long as that waits for its cgroup.
    Hold {
        /// The sandbox.
        sandbox: Box<Sandbox>,
        /// Who waits.
        reply: oneshot::Sender<Verdict>,
    },
    /// How is this workload? The reply comes after the next pass.
    Check {
        /// The workload.
        id: WorkloadId,
        /// Who waits.
        reply: oneshot::Sender<Verdict>,
    },
    /// A sandbox is gone, by the runtime's name for it.
    Release(String),
    /// There are no sandboxes but these, by the runtime's names for them.
    Keep(BTreeSet<String>),
}
