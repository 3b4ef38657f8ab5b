//! What came of the steps of a pass.

use std::collections::BTreeMap;

use crate::{
    outcome::{Outcome, State, WorkloadStatus},
    plan::{Action, Step, Wanted},
};

/// A step, and what came of it; `Ok` if there was nothing to do.
#[derive(Debug)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// Whether it was done now: not if it changes nothing, and not if its time has not come.
    pub is_attempted: bool,
    /// Why it failed, now or the last time.
    pub result: Result<(), String>,
}

/// The workloads as a pass has left them.
pub fn statuses(wanted: &[Wanted], done: &[Done]) -> Vec<WorkloadStatus> {
    let names: BTreeMap<_, _> = wanted.iter().map(|one| (&one.id, &one.name)).collect();
    done.iter()
        .filter_map(|Done { step, result, .. }| {
            let id = step.id.clone()?;
            let (state, detail) = match (result, step.action) {
                (Err(error), _) => (State::Failed, Some(error.clone())),
                (Ok(()), Action::Wait) => (State::Waiting, step.reason.clone()),
                (Ok(()), Action::Refuse) => (State::Refused, step.reason.clone()),
                (Ok(()), _) => (State::Attached, step.reason.clone()),
            };
            Some(WorkloadStatus {
                name: names
                    .get(&id)
                    .map_or_else(String::new, |name| (*name).clone()),
                id,
                cgroup: step.cgroup,
                state,
                detail,
            })
        })
        .collect()
}

/// What became of each workload.
pub fn outcomes(workloads: &[WorkloadStatus], done: &[Done]) -> Vec<Outcome> {
    let attempted = done.iter().filter(|done| done.is_attempted);
    let actions: BTreeMap<_, _> = attempted
        .filter_map(|done| Some((done.step.id.as_ref()?, done.step.action)))
        .collect();
    let outcome = |workload: &WorkloadStatus| Outcome {
        id: workload.id.clone(),
        state: workload.state,
        detail: workload.detail.clone(),
        action: actions.get(&workload.id).copied(),
    };
    workloads.iter().map(outcome).collect()
}
