//! An opened source, with the services that belong to it.

use std::fmt;

use super::{
    contract::Source,
    kube::{EventCounts, PodLookup},
};
use crate::outcome::Reporter;

/// An opened source, with the services that belong to it.
pub struct OpenedSource<S> {
    /// The source.
    pub source: S,
    /// Reports the outcomes of passes.
    pub reporter: Option<Box<dyn Reporter>>,
    /// Counts of the Events that the reporter writes.
    pub event_counts: EventCounts,
    /// Looks up pods by name, if the workloads are pods.
    pub pods: Option<PodLookup>,
}

impl<S: Source> OpenedSource<S> {
    /// A source without services.
    pub fn alone(source: S) -> Self {
        Self {
            source,
            reporter: None,
            event_counts: EventCounts::default(),
            pods: None,
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for OpenedSource<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedSource")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
