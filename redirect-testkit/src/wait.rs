// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waits with a deadline. This is the only module that sleeps.

use std::time::{Duration, Instant};

/// The poll interval: short enough not to slow tests down, long enough not to burn a core.
const POLL: Duration = Duration::from_millis(2);

/// Polls `condition` until it holds or `limit` has passed. Returns whether it held.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        pause();
    }
}

/// The time left until a deadline, but never zero: as a socket's time-out, zero would mean no limit at all.
pub(crate) fn time_left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the poll interval of wait_until, never a synchronisation by itself"
)]
fn pause() {
    std::thread::sleep(POLL);
}
