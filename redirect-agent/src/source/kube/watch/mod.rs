//! The watch of one node's pods.

mod backoff;
mod pod_event;
mod timeouts;
mod watcher;

pub use self::timeouts::Timeouts;
pub(super) use self::{pod_event::PodEvent, watcher::pod_events};
