//! Retries of failed steps, with exponential backoff.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use redirect_user::sys::cgroup::CgroupId;

use crate::plan::{Action, Target};

/// Pause before the second attempt; each further one doubles it.
const INITIAL_BACKOFF: Duration = Duration::from_secs(1);
/// Longest pause.
const MAX_BACKOFF: Duration = Duration::from_mins(1);

/// A step to attempt. Another step for the same cgroup is attempted at once.
pub(super) type Attempt = (Action, Option<Box<Target>>);

/// Failures by cgroup.
#[derive(Debug, Default)]
pub(super) struct Retries {
    failures: BTreeMap<CgroupId, Failure>,
}

#[derive(Debug)]
struct Failure {
    attempt: Attempt,
    count: u32,
    next_attempt: Instant,
    error: String,
}

impl Retries {
    /// The error of this step's last attempt, if its retry is not due yet.
    pub(super) fn pending_error(
        &self,
        cgroup: CgroupId,
        attempt: &Attempt,
        now: Instant,
    ) -> Option<String> {
        let failure = self.failures.get(&cgroup)?;
        (failure.attempt == *attempt && now < failure.next_attempt).then(|| failure.error.clone())
    }

    /// Records a failure.
    pub(super) fn record_failure(
        &mut self,
        cgroup: CgroupId,
        attempt: Attempt,
        error: String,
        now: Instant,
    ) {
        let before = self.failures.remove(&cgroup);
        let count = before
            .filter(|failure| failure.attempt == attempt)
            .map_or(0, |failure| failure.count.saturating_add(1));
        let wait = INITIAL_BACKOFF
            .saturating_mul(1 << count.min(16))
            .min(MAX_BACKOFF);
        self.failures.insert(
            cgroup,
            Failure {
                attempt,
                count,
                next_attempt: now.checked_add(wait).unwrap_or(now),
                error,
            },
        );
    }

    /// Forgets the failures of cgroups that do not satisfy `is_attempted`.
    pub(super) fn retain(&mut self, is_attempted: impl Fn(CgroupId) -> bool) {
        self.failures.retain(|cgroup, _| is_attempted(*cgroup));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_grows_to_a_limit_and_another_step_is_tried_at_once() {
        let start = Instant::now();
        let mut now = start;
        let mut retries = Retries::default();
        let attempt = (Action::Detach, None);
        let mut waits = Vec::new();
        for _ in 0..8 {
            retries.record_failure(7, attempt.clone(), "no".to_owned(), now);
            let failed_at = now;
            while retries.pending_error(7, &attempt, now).is_some() {
                now += Duration::from_secs(1);
            }
            waits.push(now.duration_since(failed_at).as_secs());
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        retries.record_failure(7, attempt.clone(), "no".to_owned(), now);
        assert_eq!(
            retries.pending_error(7, &attempt, now),
            Some("no".to_owned())
        );
        assert_eq!(retries.pending_error(7, &(Action::Attach, None), now), None);
        assert_eq!(retries.pending_error(8, &attempt, now), None);
        retries.retain(|cgroup| cgroup != 7);
        assert_eq!(retries.pending_error(7, &attempt, now), None);
    }
}
