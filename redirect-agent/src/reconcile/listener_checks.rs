//! Checks whether the proxies of attached workloads listen. A proxy may start after the attach, so that each check is
//! due some time after the last change.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use redirect_user::sys::cgroup::CgroupId;

/// The checks that are due, by cgroup.
#[derive(Debug)]
pub(super) struct ListenerChecks {
    grace: Duration,
    due: BTreeMap<CgroupId, Instant>,
}

impl ListenerChecks {
    /// Checks that give a proxy this time to start.
    pub(super) const fn new(grace: Duration) -> Self {
        Self {
            grace,
            due: BTreeMap::new(),
        }
    }

    /// Records that an attachment changed now, and has to be checked.
    pub(super) fn record_change(&mut self, cgroup: CgroupId, now: Instant) {
        let due = now.checked_add(self.grace).unwrap_or(now);
        self.due.insert(cgroup, due);
    }

    /// Whether the check of a cgroup is due. A due check is taken, so that it is made once for each change.
    pub(super) fn take_due(&mut self, cgroup: CgroupId, now: Instant) -> bool {
        let is_due = self.due.get(&cgroup).is_some_and(|due| *due <= now);
        is_due && self.due.remove(&cgroup).is_some()
    }

    /// Forgets the checks of cgroups that do not satisfy `is_attached`.
    pub(super) fn retain(&mut self, is_attached: impl Fn(CgroupId) -> bool) {
        self.due.retain(|cgroup, _| is_attached(*cgroup));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_due_once_after_the_last_change() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut checks = ListenerChecks::new(Duration::from_mins(1));
        assert!(!checks.take_due(7, at(0)), "nothing has changed");
        checks.record_change(7, at(0));
        checks.record_change(7, at(10));
        assert!(!checks.take_due(7, at(69)));
        assert!(!checks.take_due(8, at(70)));
        assert!(checks.take_due(7, at(70)));
        assert!(!checks.take_due(7, at(71)), "a second time");
        checks.record_change(7, at(80));
        checks.retain(|cgroup| cgroup != 7);
        assert!(!checks.take_due(7, at(200)));
    }
}
