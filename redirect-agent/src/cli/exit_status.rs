//! Exit statuses other than 0 (done), 1 (failed) and 2 (bad command line).

/// Some workloads are not as described.
pub(super) const INCOMPLETE: u8 = 3;
/// Another agent is running.
pub(super) const ALREADY_RUNNING: u8 = 4;
