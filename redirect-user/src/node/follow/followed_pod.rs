//! A followed pod, and its backoff while its addresses cannot be brought up to date.

use std::time::{Duration, Instant};

use anyhow::Error;

use crate::sys::{cgroup::Cgroup, netns::NetnsId};

/// The interval at which attached pods are listed. Pods that were attached in the meantime are then
/// followed. Pods that were detached, or whose last process has ended, are no longer watched, because
/// a watch keeps their namespace alive.
pub(super) const LIST_INTERVAL: Duration = Duration::from_secs(2);

/// The longest pause before the next attempt for a pod that cannot be brought up to date. Each
/// pause is twice as long as the one before, beginning with [`LIST_INTERVAL`], unless the pod's
/// namespace changes.
const LONGEST: Duration = Duration::from_mins(5);

/// A followed pod.
pub(super) struct FollowedPod {
    pub(super) cgroup: Cgroup,
    /// The network namespace that is watched for the pod.
    pub(super) netns: Option<NetnsId>,
    /// Whether the event was sent that no such namespace exists.
    pub(super) is_unseen: bool,
    /// The last failure, if the pod is not up to date.
    failure: Option<Failure>,
}

/// The failure of an attempt to bring a pod up to date.
struct Failure {
    /// The text of the error, as the event contained it.
    text: String,
    /// The pause before the next attempt.
    pause: Duration,
    since: Instant,
}

impl FollowedPod {
    pub(super) const fn new(cgroup: Cgroup) -> Self {
        Self {
            cgroup,
            netns: None,
            is_unseen: false,
            failure: None,
        }
    }

    /// Notes that the last attempt succeeded.
    pub(super) fn succeed(&mut self) {
        self.failure = None;
    }

    /// `None` if the last attempt succeeded; otherwise whether the next one is due.
    pub(super) fn is_due(&self) -> Option<bool> {
        let failure = self.failure.as_ref()?;
        Some(failure.since.elapsed() >= failure.pause)
    }

    /// Notes that an attempt has failed. Returns whether the error is new, so that an event is due.
    pub(super) fn fail(&mut self, error: &Error) -> bool {
        let text = format!("{error:#}");
        let last = self.failure.take();
        let pause = last.as_ref().map_or(LIST_INTERVAL, |last| {
            last.pause.saturating_mul(2).min(LONGEST)
        });
        let is_new = last.is_none_or(|last| last.text != text);
        self.failure = Some(Failure {
            text,
            pause,
            since: Instant::now(),
        });
        is_new
    }
}
