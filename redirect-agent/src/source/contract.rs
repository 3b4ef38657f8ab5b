//! The contract between a source and the control loop.

use crate::workload::{Workload, WorkloadId};

/// Describes workloads: first all of them, then changes.
///
/// A source that is unavailable never reports workloads as removed: it sends [`SourceEvent::Unavailable`],
/// and its descriptions stay in force.
pub trait Source: Send + 'static {
    /// Name in ids, logs and metrics.
    fn name(&self) -> &'static str;

    /// Waits for the next event. The first one is a snapshot, possibly after [`SourceEvent::Unavailable`].
    /// Cancel-safe: a call that is dropped loses no event.
    fn next(&mut self) -> impl Future<Output = SourceEvent> + Send;
}

/// An event of a source. Repeating an event changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// All workloads.
    Snapshot(Vec<Workload>),
    /// A new or changed workload.
    Changed(Box<Workload>),
    /// A workload was removed.
    Removed(WorkloadId),
    /// The source is unavailable, for this reason; the next event ends that.
    Unavailable(String),
}
