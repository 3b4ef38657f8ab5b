//! What is worth a line of the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
};

use tracing::{debug, error, info, warn};

use crate::{
    outcome::{State, WorkloadStatus},
    plan::Action,
    reconcile::Done,
    source::Event,
    workload::{Workload, WorkloadId},
};

/// Tells what the source says, where that is worth a line.
pub(super) fn said(source: &'static str, event: &Event, warned: &mut Warned) {
    match event {
        Event::Snapshot(workloads) => debug!(source, workloads = workloads.len(), "snapshot"),
        Event::Changed(_) => {}
        Event::Removed(id) => info!(workload = %id, "no longer described"),
        Event::Unavailable(reason) => {
            warn!(source, "{reason}: what it described stays as it is");
        }
    }
    for (id, warning) in warned.news(event) {
        warn!(workload = %id, "{warning}");
    }
}

/// What was warned of: a source that is back says all again.
#[derive(Debug, Default)]
pub(super) struct Warned(BTreeSet<Warning>);

type Warning = (WorkloadId, String);

impl Warned {
    /// What the source's event warns of for the first time.
    fn news(&mut self, event: &Event) -> Vec<Warning> {
        let is_about = |id: &WorkloadId| match event {
            Event::Snapshot(_) => true,
            Event::Changed(workload) => workload.id == *id,
            Event::Removed(removed) => removed == id,
            Event::Unavailable(_) => false,
        };
        let workloads = match event {
            Event::Snapshot(workloads) => &workloads[..],
            Event::Changed(workload) => slice::from_ref(&**workload),
            Event::Removed(_) | Event::Unavailable(_) => &[],
        };
        let now: BTreeSet<_> = workloads.iter().flat_map(warnings).collect();
        let news = now.difference(&self.0).cloned().collect();
        self.0.retain(|(id, _)| !is_about(id));
        self.0.extend(now);
        news
    }
}

fn warnings(workload: &Workload) -> impl Iterator<Item = Warning> {
    let warnings = workload.policy.iter().flat_map(|policy| &policy.warnings);
    warnings.map(|warning| (workload.id.clone(), warning.clone()))
}

/// Tells what was done, and which workloads are otherwise than before.
pub(super) fn passed(before: &[WorkloadStatus], now: &[WorkloadStatus], done: &[Done]) {
    for Done { step, result, .. } in done {
        let cgroup = step.cgroup.unwrap_or_default();
        let id = step.id.as_ref();
        let workload = id.map_or_else(|| "-".to_owned(), ToString::to_string);
        match (result, step.action) {
            (Ok(()), Action::Attach) => info!(workload, cgroup, "attached"),
            (Ok(()), Action::Update) => info!(workload, cgroup, "updated"),
            (Ok(()), Action::TakeOver) => {
                info!(workload, cgroup, "taken over from another version");
            }
            (Ok(()), Action::Move) => info!(workload, cgroup, "moved to another network namespace"),
            (Ok(()), Action::Detach) => info!(cgroup, "detached"),
            (Err(error), Action::Detach) => warn!(cgroup, "detach, to be tried again: {error}"),
            (_, Action::Hold) => debug!(cgroup, reason = step.reason, "not detached"),
            // They show in how their workload is.
            (Ok(()), Action::Keep | Action::Wait | Action::Refuse) | (Err(_), _) => {}
        }
    }
    let before: BTreeMap<_, _> = before.iter().map(|one| (&one.id, one)).collect();
    for workload in now {
        let detail = workload.detail.as_deref().unwrap_or_default();
        if before.get(&workload.id) == Some(&workload) {
            continue;
        }
        match workload.state {
            State::Attached => {}
            State::Waiting => info!(workload = %workload.id, "waiting: {detail}"),
            State::Refused => error!(workload = %workload.id, "refused: {detail}"),
            State::Failed => error!(workload = %workload.id, "failed, to be tried again: {detail}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use redirect_user::config::RedirectConfig;

    use super::*;
    use crate::workload::Policy;

    fn workload(key: &str, warning: &str) -> Workload {
        Workload {
            id: id(key),
            name: key.to_owned(),
            cgroup: None,
            netns: None,
            policy: Ok(Policy {
                config: Arc::new(RedirectConfig::default()),
                warnings: vec![warning.to_owned()],
                until_proxy: None,
            }),
        }
    }

    fn id(key: &str) -> WorkloadId {
        WorkloadId {
            source: "kube",
            key: key.to_owned(),
        }
    }

    #[test]
    fn what_is_said_again_is_warned_of_once() {
        let mut warned = Warned::default();
        let mut news = |event| {
            let news = warned.news(&event).into_iter();
            news.map(|(id, warning)| format!("{} {warning}", id.key))
                .collect::<Vec<_>>()
        };
        let changed = |key, warning| Event::Changed(Box::new(workload(key, warning)));
        let both = || Event::Snapshot(vec![workload("a", "1"), workload("b", "1")]);
        assert_eq!(news(both()), ["a 1", "b 1"]);
        assert_eq!(news(Event::Unavailable("away".to_owned())), [""; 0]);
        assert_eq!(news(both()), [""; 0]);
        assert_eq!(news(changed("a", "1")), [""; 0]);
        assert_eq!(news(changed("a", "2")), ["a 2"]);
        assert_eq!(news(both()), ["a 1"]);
        assert_eq!(news(Event::Removed(id("a"))), [""; 0]);
        assert_eq!(news(changed("b", "1")), [""; 0]);
        assert_eq!(news(changed("a", "1")), ["a 1"]);
    }
}
