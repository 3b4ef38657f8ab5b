//! Exit statuses besides 0 (done), 1 (not done) and 2 (bad command line).

/// Some workloads are not as described.
pub(super) const INCOMPLETE: u8 = 3;
/// Another agent is running.
pub(super) const ALREADY_RUNNING: u8 = 4;
