//! Status of the agent: the source, the workloads and the last error, for probes, metrics and CNI requests.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{desired::Desired, outcome::WorkloadStatus};

/// The status that the control loop writes and others read.
#[derive(Debug)]
pub struct StatusStore {
    current: Mutex<StatusSnapshot>,
}

/// The status at one moment.
#[derive(Clone, Debug)]
pub struct StatusSnapshot {
    /// The workloads after the last pass.
    pub workloads: Vec<WorkloadStatus>,
    /// The source; `None` before the control loop has begun.
    pub source: Option<SourceStatus>,
    /// The error of the last pass, if it could not even plan.
    pub error: Option<String>,
    /// Whether a first pass was made with all workloads of the source.
    pub is_ready: bool,
    /// Time of the last reconcile.
    last_heartbeat: Instant,
}

/// Status of the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// Name of the source.
    pub name: &'static str,
    /// Why the source is unavailable, if it is.
    pub unavailable: Option<String>,
}

/// Longest time without a heartbeat: much longer than a round takes, with a whole node to attach.
const STALL_LIMIT: Duration = Duration::from_mins(2);

impl Default for StatusStore {
    fn default() -> Self {
        Self {
            current: Mutex::new(StatusSnapshot {
                workloads: Vec::new(),
                source: None,
                error: None,
                is_ready: false,
                last_heartbeat: Instant::now(),
            }),
        }
    }
}

impl StatusStore {
    fn lock(&self) -> MutexGuard<'_, StatusSnapshot> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Copies the current status.
    pub fn snapshot(&self) -> StatusSnapshot {
        self.lock().clone()
    }

    /// Records that the control loop is alive, and the status of the source.
    pub fn heartbeat(&self, desired: &Desired) {
        let source = SourceStatus {
            name: desired.source(),
            unavailable: desired.unavailable().map(str::to_owned),
        };
        let mut current = self.lock();
        current.source = Some(source);
        current.last_heartbeat = Instant::now();
    }

    /// Records the workloads after a pass.
    pub fn pass_succeeded(&self, workloads: Vec<WorkloadStatus>) {
        let mut current = self.lock();
        current.workloads = workloads;
        current.error = None;
        current.is_ready = true;
    }

    /// Records that a pass failed. True if the error differs from that of the pass before.
    pub fn pass_failed(&self, error: String) -> bool {
        let mut current = self.lock();
        let is_new = current.error.as_ref() != Some(&error);
        current.error = Some(error);
        is_new
    }
}

impl StatusSnapshot {
    /// An error if the control loop has stalled.
    pub fn health(&self) -> Result<(), String> {
        let stalled_for = self.last_heartbeat.elapsed();
        if stalled_for > STALL_LIMIT {
            return Err(format!("no reconcile for {} s", stalled_for.as_secs()));
        }
        Ok(())
    }

    /// An error if no pass was made yet with all workloads of the source.
    pub fn readiness(&self) -> Result<(), String> {
        if self.is_ready {
            return Ok(());
        }
        let reason = self.problem();
        Err(reason.unwrap_or_else(|| "the first reconcile is not done yet".to_owned()))
    }

    /// The reason why passes fail or cannot be made, if there is one: the source is unavailable, or the kernel
    /// refuses.
    pub fn problem(&self) -> Option<String> {
        let source = self.source.as_ref().and_then(|source| {
            let reason = source.unavailable.as_ref()?;
            Some(format!("source {}: {reason}", source.name))
        });
        let problems: Vec<_> = source.into_iter().chain(self.error.clone()).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}
