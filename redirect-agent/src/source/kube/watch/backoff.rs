//! Exponential backoff with jitter.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::timeouts::Timeouts;

/// A random time between half of this and all of it, so that nodes do not ask at the same moment.
pub(super) fn jittered(time: Duration) -> Duration {
    let chance = RandomState::new().build_hasher().finish() % 512;
    let part = u32::try_from(1024 - chance).unwrap_or(1024);
    time.saturating_mul(part) / 1024
}

/// The pause before the next request.
#[derive(Debug)]
pub(super) struct Backoff {
    timeouts: Timeouts,
    next: Duration,
    until: Option<Instant>,
}

impl Backoff {
    pub(super) const fn new(timeouts: Timeouts) -> Self {
        Self {
            timeouts,
            next: timeouts.initial_backoff,
            until: None,
        }
    }

    /// Waits until the pause is over, if there is one.
    pub(super) async fn wait(&mut self) {
        if let Some(until) = self.until.take() {
            sleep_until(until).await;
        }
    }

    /// Starts a pause after a failure, twice as long as the one before.
    pub(super) fn grow(&mut self) {
        let pause = jittered(self.next);
        self.until = Instant::now().checked_add(pause);
        self.next = self.next.saturating_mul(2).min(self.timeouts.max_backoff);
    }

    pub(super) const fn reset(&mut self) {
        self.next = self.timeouts.initial_backoff;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_backoff_grows_to_a_limit_and_a_success_resets_it() {
        let mut backoff = Backoff::new(Timeouts::default());
        let mut grown = || {
            let before = Instant::now();
            backoff.grow();
            let pause = backoff.until.unwrap().duration_since(before);
            (pause, backoff.next)
        };
        for limit in [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0] {
            let (pause, _) = grown();
            let seconds = pause.as_secs_f64();
            assert!(seconds > limit * 0.49 && seconds < limit + 0.1, "{seconds}");
        }
        backoff.reset();
        assert_eq!(backoff.next, Timeouts::default().initial_backoff);
    }
}
