//! Where workloads come from.

mod event_counts;
pub mod file;
pub mod kube;
mod options;

pub use event_counts::{EventCounts, Fate};
pub use file::FileSource;
pub use kube::{KubeSource, Lookup};

use crate::{
    status::Outcome,
    workload::{Workload, WorkloadId},
};

/// Describes workloads: first all of them, then what changes.
///
/// A source never says that a workload is gone because it cannot be asked: that is
/// [`Event::Unavailable`], and what it described before stays in force.
pub trait Source: Send + 'static {
    /// What it is called in ids, logs and metrics.
    fn name(&self) -> &'static str;

    /// Waits for the next event. The first one, [`Event::Unavailable`] apart, is a snapshot.
    /// Dropped and called again, it loses none.
    fn next(&mut self) -> impl Future<Output = Event> + Send;

    /// Hears what became of its workloads, all of them, after a pass; of some passes it hears nothing.
    /// It must not take long.
    fn hear(&mut self, outcomes: &[Outcome]) {
        // Who described them may not care.
        _ = outcomes;
    }

    /// Where it counts the Events that it writes, if it writes any.
    fn event_counts(&self) -> EventCounts {
        EventCounts::default()
    }

    /// How a pod of its is asked for by name, if it knows pods.
    fn lookup(&self) -> Option<Lookup> {
        None
    }
}

/// What a source says. Saying the same again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These are all there are.
    Snapshot(Vec<Workload>),
    /// There is a workload, or it is another now.
    Changed(Box<Workload>),
    /// A workload is there no more.
    Removed(WorkloadId),
    /// It cannot be asked, and why; the next event ends that.
    Unavailable(String),
}
