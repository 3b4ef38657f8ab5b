//! The rate limit of Events.

use std::time::{Duration, Instant};

/// Capacity, and initial number of tokens: a node that starts has as many pods.
pub(super) const BURST: u32 = 100;
/// Interval at which a token is added.
const REFILL: Duration = Duration::from_secs(3);

/// A token bucket: an Event takes a token.
#[derive(Debug)]
pub(super) struct TokenBucket {
    left: u32,
    since: Instant,
}

impl TokenBucket {
    pub(super) const fn full(now: Instant) -> Self {
        Self {
            left: BURST,
            since: now,
        }
    }

    pub(super) fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.duration_since(self.since) >= REFILL {
            self.left += 1;
            self.since += REFILL;
        }
        if self.left == BURST {
            self.since = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_written_and_then_one_at_a_time() {
        let mut now = Instant::now();
        let mut token_bucket = TokenBucket::full(now);
        let mut taken = |wait| {
            now += wait;
            let mut taken = 0;
            while token_bucket.take(now) {
                taken += 1;
            }
            taken
        };
        assert_eq!(taken(Duration::ZERO), BURST);
        assert_eq!(taken(REFILL * 3), 3);
        assert_eq!(taken(REFILL / 2), 0);
        assert_eq!(taken(REFILL / 2), 1);
        assert_eq!(taken(REFILL * BURST * 2), BURST);
    }
}
