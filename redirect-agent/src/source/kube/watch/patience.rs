//! How long things may take.

use std::time::Duration;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For an answer to begin.
    pub answer: Duration,
    /// For a watch to be left open by the server; by chance up to half of it less.
    pub watch: Duration,
    /// Before it is asked again after a failure.
    pub first_pause: Duration,
    /// The same, after many.
    pub longest_pause: Duration,
}

impl Default for Patience {
    /// The pauses are those of client-go's reflector.
    fn default() -> Self {
        Self {
            answer: Duration::from_mins(1),
            watch: Duration::from_mins(4),
            first_pause: Duration::from_millis(800),
            longest_pause: Duration::from_secs(30),
        }
    }
}
