//! What is worth a line of the log.

use std::collections::BTreeMap;

use tracing::{debug, error, info, warn};

use crate::{
    plan::Action,
    reconcile::Done,
    source::Event,
    status::{State, WorkloadStatus},
    workload::Workload,
};

/// Tells what a source says, where that is worth a line.
pub(super) fn said(source: &'static str, event: &Event) {
    let warnings = |workload: &Workload| {
        for warning in workload.policy.iter().flat_map(|policy| &policy.warnings) {
            warn!(workload = %workload.id, "{warning}");
        }
    };
    match event {
        Event::Snapshot(workloads) => {
            debug!(source, workloads = workloads.len(), "snapshot");
            workloads.iter().for_each(warnings);
        }
        Event::Changed(workload) => warnings(workload),
        Event::Removed(id) => info!(workload = %id, "no longer described"),
        Event::Unavailable(reason) => {
            warn!(source, "{reason}: what it described stays as it is");
        }
    }
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
