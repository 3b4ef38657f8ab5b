//! One pod that is followed, and its backoff while it cannot be brought up to date.

use std::time::{Duration, Instant};

use anyhow::Error;

use super::LOOK;
use crate::sys::{cgroup::Cgroup, netns::NetnsId};

/// How long a pod that cannot be brought up to date waits at most until it is tried again. Each time it waits
/// twice as long, from [`LOOK`] on, unless something changes in its namespace.
const LONGEST: Duration = Duration::from_mins(5);

/// A pod that is followed.
pub(super) struct Followed {
    pub(super) cgroup: Cgroup,
    /// The namespace that is listened to for it.
    pub(super) space: Option<NetnsId>,
    /// Whether it was told that there is none.
    pub(super) is_unseen: bool,
    /// Why it is not up to date, if so.
    failure: Option<Failure>,
}

/// What is in the way of bringing a pod up to date.
struct Failure {
    /// As it was told.
    text: String,
    /// How long to wait with the next attempt.
    pause: Duration,
    since: Instant,
}

impl Followed {
    pub(super) const fn new(cgroup: Cgroup) -> Self {
        Self {
            cgroup,
            space: None,
            is_unseen: false,
            failure: None,
        }
    }

    /// The last attempt succeeded.
    pub(super) fn succeed(&mut self) {
        self.failure = None;
    }

    /// Whether an attempt has failed, and the next one is due or not.
    pub(super) fn is_due(&self) -> Option<bool> {
        let failure = self.failure.as_ref()?;
        Some(failure.since.elapsed() >= failure.pause)
    }

    /// Notes that an attempt has failed; whether that is to be told, because it was not already.
    pub(super) fn fail(&mut self, error: &Error) -> bool {
        let text = format!("{error:#}");
        let last = self.failure.take();
        let pause = last
            .as_ref()
            .map_or(LOOK, |last| last.pause.saturating_mul(2).min(LONGEST));
        let is_news = last.is_none_or(|last| last.text != text);
        self.failure = Some(Failure {
            text,
            pause,
            since: Instant::now(),
        });
        is_news
    }
}
