//! What becomes of pods, told to whoever looks at them with `kubectl describe pod`: an Event when one
//! is attached, changed, or cannot be.

mod budget;
mod report;
mod reporter;

pub(super) use self::reporter::Reporter;
