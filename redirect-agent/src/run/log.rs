//! The log lines of the control loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    slice,
};

use tracing::{debug, error, info, warn};

use crate::{
    outcome::{State, WorkloadStatus},
    plan::Action,
    reconcile::StepResult,
    source::SourceEvent,
    workload::{Workload, WorkloadId},
};

/// Logs an event of the source, and its new warnings.
pub(super) fn source_event(source: &'static str, event: &SourceEvent, dedup: &mut WarningDedup) {
    match event {
        SourceEvent::Snapshot(workloads) => debug!(source, workloads = workloads.len(), "snapshot"),
        SourceEvent::Changed(_) => {}
        SourceEvent::Removed(id) => info!(workload = %id, "no longer described"),
        SourceEvent::Unavailable(reason) => {
            warn!(
                source,
                "source unavailable, its workloads stay as they are: {reason}"
            );
        }
    }
    for (id, warning) in dedup.new_warnings(event) {
        warn!(workload = %id, "{warning}");
    }
}

/// Warnings that were logged: a source that recovers repeats all of them.
#[derive(Debug, Default)]
pub(super) struct WarningDedup(BTreeSet<Warning>);

type Warning = (WorkloadId, String);

impl WarningDedup {
    /// The warnings of an event that were not logged before.
    fn new_warnings(&mut self, event: &SourceEvent) -> Vec<Warning> {
        let is_about = |id: &WorkloadId| match event {
            SourceEvent::Snapshot(_) => true,
            SourceEvent::Changed(workload) => workload.id == *id,
            SourceEvent::Removed(removed) => removed == id,
            SourceEvent::Unavailable(_) => false,
        };
        let workloads = match event {
            SourceEvent::Snapshot(workloads) => &workloads[..],
            SourceEvent::Changed(workload) => slice::from_ref(&**workload),
            SourceEvent::Removed(_) | SourceEvent::Unavailable(_) => &[],
        };
        let now: BTreeSet<_> = workloads.iter().flat_map(warnings).collect();
        let new_warnings = now.difference(&self.0).cloned().collect();
        self.0.retain(|(id, _)| !is_about(id));
        self.0.extend(now);
        new_warnings
    }
}

fn warnings(workload: &Workload) -> impl Iterator<Item = Warning> {
    let warnings = workload.policy.iter().flat_map(|policy| &policy.warnings);
    warnings.map(|warning| (workload.id.clone(), warning.clone()))
}

/// Logs the changes that a pass made, and workloads whose status changed.
pub(super) fn pass_result(
    before: &[WorkloadStatus],
    now: &[WorkloadStatus],
    results: &[StepResult],
) {
    for StepResult {
        step,
        result,
        warnings,
        ..
    } in results
    {
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
            (Ok(()), Action::Repair) => {
                let reason = step.reason.as_deref().unwrap_or_default();
                warn!(workload, cgroup, "repaired: {reason}");
            }
            (Ok(()), Action::Detach) => info!(cgroup, "detached"),
            (Err(error), Action::Detach) => warn!(cgroup, "detach failed, will retry: {error}"),
            (_, Action::Hold) => debug!(cgroup, reason = step.reason, "not detached"),
            // The status of the workload shows these.
            (Ok(()), Action::Keep | Action::Wait | Action::Refuse) | (Err(_), _) => {}
        }
        for warning in warnings {
            if warning.is_by_design() {
                info!(workload, cgroup, "{warning}");
            } else {
                warn!(workload, cgroup, "{warning}");
            }
        }
    }
    let before: BTreeMap<_, _> = before
        .iter()
        .map(|workload| (&workload.id, workload))
        .collect();
    for workload in now {
        let detail = workload.detail.as_deref().unwrap_or_default();
        if before.get(&workload.id) == Some(&workload) {
            continue;
        }
        match workload.state {
            State::Attached => {}
            State::Waiting => info!(workload = %workload.id, "waiting: {detail}"),
            State::Refused => error!(workload = %workload.id, "refused: {detail}"),
            State::Failed => error!(workload = %workload.id, "failed, will retry: {detail}"),
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
    fn a_repeated_warning_is_logged_once() {
        let mut warnings_seen = WarningDedup::default();
        let mut new_warnings = |event| {
            let new_warnings = warnings_seen.new_warnings(&event).into_iter();
            new_warnings
                .map(|(id, warning)| format!("{} {warning}", id.key))
                .collect::<Vec<_>>()
        };
        let changed = |key, warning| SourceEvent::Changed(Box::new(workload(key, warning)));
        let both = || SourceEvent::Snapshot(vec![workload("a", "1"), workload("b", "1")]);
        assert_eq!(new_warnings(both()), ["a 1", "b 1"]);
        assert_eq!(
            new_warnings(SourceEvent::Unavailable("away".to_owned())),
            [""; 0]
        );
        assert_eq!(new_warnings(both()), [""; 0]);
        assert_eq!(new_warnings(changed("a", "1")), [""; 0]);
        assert_eq!(new_warnings(changed("a", "2")), ["a 2"]);
        assert_eq!(new_warnings(both()), ["a 1"]);
        assert_eq!(new_warnings(SourceEvent::Removed(id("a"))), [""; 0]);
        assert_eq!(new_warnings(changed("b", "1")), [""; 0]);
        assert_eq!(new_warnings(changed("a", "1")), ["a 1"]);
    }
}
