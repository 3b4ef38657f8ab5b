//! What a source is, and what it says.

use crate::workload::{Workload, WorkloadId};

/// Describes workloads: first all of them, then what changes.
///
/// A source never says that a workload is gone because it cannot be asked: that is
/// [`SourceEvent::Unavailable`], and what it described before stays in force.
pub trait Source: Send + 'static {
    /// What it is called in ids, logs and metrics.
    fn name(&self) -> &'static str;

    /// Waits for the next event. The first one, [`SourceEvent::Unavailable`] apart, is a snapshot.
    /// Dropped and called again, it loses none.
    fn next(&mut self) -> impl Future<Output = SourceEvent> + Send;
}

/// What a source says. Saying the same again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// These are all there are.
    Snapshot(Vec<Workload>),
    /// There is a workload, or it is another now.
    Changed(Box<Workload>),
    /// A workload is there no more.
    Removed(WorkloadId),
    /// It cannot be asked, and why; the next event ends that.
    Unavailable(String),
}
