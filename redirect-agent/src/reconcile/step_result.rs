//! Results of the steps of a pass, and what follows from them: the status of each workload, and its outcome.

use std::collections::BTreeMap;

use redirect_user::node::Warning;

use crate::{
    outcome::{Outcome, State, WorkloadStatus},
    plan::{Action, ResolvedWorkload, Step},
};

/// A step and its result.
#[derive(Debug)]
pub struct StepResult {
    /// The step.
    pub step: Step,
    /// Whether the step was attempted now: not if it changes nothing, and not if its retry is not due.
    pub is_attempted: bool,
    /// `Ok` for a step that succeeded or changes nothing; otherwise the error of this or the last attempt.
    pub result: Result<(), String>,
    /// Warnings of the workload's description, which the control loop has logged.
    pub notices: Vec<String>,
    /// New warnings about settings that the pod does not fit: its addresses, its interfaces, the ports of its proxy.
    pub warnings: Vec<Warning>,
}

impl StepResult {
    fn remarks(&self) -> Vec<String> {
        let by_design = self
            .warnings
            .iter()
            .filter(|warning| warning.is_by_design());
        let by_design = by_design.map(ToString::to_string);
        self.notices.iter().cloned().chain(by_design).collect()
    }

    fn severe_warnings(&self) -> Vec<String> {
        let severe = self
            .warnings
            .iter()
            .filter(|warning| !warning.is_by_design());
        severe.map(ToString::to_string).collect()
    }
}

/// Status of the workloads after a pass.
pub fn workload_statuses(
    workloads: &[ResolvedWorkload],
    results: &[StepResult],
) -> Vec<WorkloadStatus> {
    let names: BTreeMap<_, _> = workloads
        .iter()
        .map(|workload| (&workload.id, &workload.name))
        .collect();
    results
        .iter()
        .filter_map(|StepResult { step, result, .. }| {
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

/// Outcomes of a pass, one for each workload.
pub fn outcomes(workloads: &[WorkloadStatus], results: &[StepResult]) -> Vec<Outcome> {
    let attempted = results.iter().filter(|result| result.is_attempted);
    let actions: BTreeMap<_, _> = attempted
        .filter_map(|result| Some((result.step.id.as_ref()?, result.step.action)))
        .collect();
    let by_workload: BTreeMap<_, _> = results
        .iter()
        .filter_map(|result| Some((result.step.id.as_ref()?, result)))
        .collect();
    let outcome = |workload: &WorkloadStatus| {
        let result = by_workload.get(&workload.id);
        Outcome {
            id: workload.id.clone(),
            state: workload.state,
            detail: workload.detail.clone(),
            action: actions.get(&workload.id).copied(),
            remarks: result.map_or_else(Vec::new, |result| result.remarks()),
            warnings: result.map_or_else(Vec::new, |result| result.severe_warnings()),
        }
    };
    workloads.iter().map(outcome).collect()
}
