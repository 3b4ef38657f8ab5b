//! How long to wait: for an answer, and before it is asked again.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::patience::Patience;

/// By chance up to half of it less, so that not all nodes ask at once.
pub(super) fn by_chance(time: Duration) -> Duration {
    let chance = RandomState::new().build_hasher().finish() % 512;
    let part = u32::try_from(1024 - chance).unwrap_or(1024);
    time.saturating_mul(part) / 1024
}

/// How long to wait before it is asked again.
#[derive(Debug)]
pub(super) struct Pauses {
    patience: Patience,
    next: Duration,
    until: Option<Instant>,
}

impl Pauses {
    pub(super) const fn new(patience: Patience) -> Self {
        Self {
            patience,
            next: patience.first_pause,
            until: None,
        }
    }

    pub(super) async fn wait(&mut self) {
        if let Some(until) = self.until.take() {
            sleep_until(until).await;
        }
    }

    /// After a failure: twice as long as after the last one.
    pub(super) fn grow(&mut self) {
        let pause = by_chance(self.next);
        self.until = Instant::now().checked_add(pause);
        self.next = self.next.saturating_mul(2).min(self.patience.longest_pause);
    }

    pub(super) const fn reset(&mut self) {
        self.next = self.patience.first_pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pauses_grow_to_a_limit_and_begin_anew_after_a_success() {
        let mut pauses = Pauses::new(Patience::default());
        let mut grown = || {
            let before = Instant::now();
            pauses.grow();
            let pause = pauses.until.unwrap().duration_since(before);
            (pause, pauses.next)
        };
        for limit in [0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0] {
            let (pause, _) = grown();
            let seconds = pause.as_secs_f64();
            assert!(seconds > limit * 0.49 && seconds < limit + 0.1, "{seconds}");
        }
        pauses.reset();
        assert_eq!(pauses.next, Patience::default().first_pause);
    }
}
