//! Counts of Events by result.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Counts of Events by result. Clones share them.
#[derive(Clone, Debug)]
pub struct EventCounts(Family<Labels, Counter>);

/// The result of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventResult {
    /// The API server accepted the Event.
    Written,
    /// The API server did not accept the Event, this time.
    Failed,
    /// The Event was not sent: there were too many, or its reason was over before.
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
    /// Counts one more.
    pub fn add(&self, result: EventResult) {
        self.0.get_or_create(&result.labels()).inc();
    }

    /// The count of a result.
    pub fn count(&self, result: EventResult) -> u64 {
        self.0.get_or_create(&result.labels()).get()
    }

    /// Registers the counts as a metric.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "redirect_agent_events",
            "Kubernetes Events by result: written, failed, dropped",
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
