//! What became of the Events that a source writes.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// How many Events were written, and how many not. Clones count together.
#[derive(Clone, Debug)]
pub struct EventCounts(Family<Labels, Counter>);

/// What became of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventResult {
    /// It was written.
    Written,
    /// The API server did not take it, this time.
    Failed,
    /// It was never written: there were too many, or its reason was over before it could be.
    Dropped,
}

#[derive(Clone, Debug, EncodeLabelSet, PartialEq, Eq, Hash)]
struct Labels {
    result: &'static str,
}

impl Default for EventCounts {
    fn default() -> Self {
        let counts = Self(Family::default());
        for result in [
            EventResult::Written,
            EventResult::Failed,
            EventResult::Dropped,
        ] {
            drop(counts.0.get_or_create(&result.labels()));
        }
        counts
    }
}

impl EventCounts {
    /// One more.
    pub fn add(&self, result: EventResult) {
        self.0.get_or_create(&result.labels()).inc();
    }

    /// How many of these there were.
    pub fn count(&self, result: EventResult) -> u64 {
        self.0.get_or_create(&result.labels()).get()
    }

    /// Has them told.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "redirect_agent_events",
            "Kubernetes Events, by what became of them: written, failed, dropped",
            self.0.clone(),
        );
    }
}

impl EventResult {
    const fn labels(self) -> Labels {
        let result = match self {
            Self::Written => "written",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        };
        Labels { result }
    }
}
