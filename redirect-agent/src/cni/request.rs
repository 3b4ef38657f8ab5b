//! Requests of the CNI handler to the control loop.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use crate::{desired::Sandbox, outcome::WorkloadStatus, workload::WorkloadId};

/// A request to the control loop. A reply is the status of the workload, or `None` if nothing describes it.
#[derive(Debug)]
pub enum LoopRequest {
    /// A sandbox was made. The reply comes after the first pass in which its pod does not wait for its cgroup any
    /// more.
    Add {
        /// The sandbox.
        sandbox: Box<Sandbox>,
        /// Receives the status of the pod.
        reply: oneshot::Sender<Option<WorkloadStatus>>,
    },
    /// Asks for the status of a workload. The reply comes after the next pass.
    Check {
        /// The workload.
        id: WorkloadId,
        /// Receives the status of the workload.
        reply: oneshot::Sender<Option<WorkloadStatus>>,
    },
    /// A sandbox was removed: its container id.
    Del(String),
    /// The container ids of all sandboxes that there are; every other sandbox is gone.
    Gc(BTreeSet<String>),
}
