//! Time limits and pauses of requests to the API server.

use std::time::Duration;

/// Time limits and pauses of requests to the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a response begins.
    pub response: Duration,
    /// For which the server leaves a watch open. Jitter takes up to half of it away.
    pub watch: Duration,
    /// Pause after the first failure.
    pub initial_backoff: Duration,
    /// Longest pause after a failure.
    pub max_backoff: Duration,
}

impl Default for Timeouts {
    /// The pauses are those of client-go's reflector.
    fn default() -> Self {
        Self {
            response: Duration::from_mins(1),
            watch: Duration::from_mins(4),
            initial_backoff: Duration::from_millis(800),
            max_backoff: Duration::from_secs(30),
        }
    }
}
