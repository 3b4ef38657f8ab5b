// SPDX-License-Identifier: MIT OR Apache-2.0
//! Waiting with a deadline: the only place that sleeps.

use std::time::{Duration, Instant};

/// Often enough not to slow tests down, seldom enough not to burn a core.
const POLL: Duration = Duration::from_millis(2);

/// Asks `condition` until it holds or `limit` has passed; tells whether it held.
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

/// Never zero, which would mean no limit at all.
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
