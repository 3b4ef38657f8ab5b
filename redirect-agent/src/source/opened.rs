//! A source that was opened, and what belongs to it.

use std::fmt;

use super::{
    contract::Source,
    kube::{EventCounts, PodLookup},
};
use crate::outcome::Reporter;

/// A source, and what runs beside it.
pub struct OpenedSource<S> {
    /// Describes the workloads.
    pub source: S,
    /// Is told what became of them.
    pub reporter: Option<Box<dyn Reporter>>,
    /// Counts the Events that the reporter writes.
    pub event_counts: EventCounts,
    /// Finds pods by name, if workloads are pods.
    pub pods: Option<PodLookup>,
}

impl<S: Source> OpenedSource<S> {
    /// A source with nothing beside it.
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
