//! What becomes of pods, told to whoever looks at them with `kubectl describe pod`: an Event when one
//! is attached, changed, or cannot be.

mod counts;
mod report;
mod reporter;
mod token_bucket;
mod writer;

pub use self::{
    counts::{EventCounts, EventResult},
    reporter::EventReporter,
};
