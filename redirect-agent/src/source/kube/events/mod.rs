//! Kubernetes Events about pods, for `kubectl describe pod`: one when a pod is attached, changed, refused, or
//! fails.

mod counts;
mod report;
mod reporter;
mod token_bucket;
mod writer;

pub use self::{
    counts::{EventCounts, EventResult},
    reporter::EventReporter,
};
