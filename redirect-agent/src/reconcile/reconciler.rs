//! The reconciler: plans a pass, and executes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::Result;
use redirect_user::sys::netns::NetnsRef;

use super::{
    attachment_cache::AttachmentCache, executor::Executor, locate::locate,
    location_cache::LocationCache, retries::Retries, step_result::StepResult,
};
use crate::{
    cgroup_ref::Hierarchies,
    desired::Desired,
    plan::{Action, ResolvedWorkload, Step, plan},
};

/// Reconciles one state directory. Its caches only save work: a new reconciler does the same.
#[derive(Debug)]
pub struct Reconciler {
    state_dir: PathBuf,
    attachments: AttachmentCache,
    locations: LocationCache,
    retries: Retries,
}

/// A planned pass.
#[derive(Debug)]
pub struct PlannedPass {
    /// The workloads, resolved.
    pub workloads: Vec<ResolvedWorkload>,
    /// The steps.
    pub steps: Vec<Step>,
    /// Whether a killed writer left something behind that is to be collected.
    pub has_leftovers: bool,
}

impl Reconciler {
    /// A reconciler of a state directory, which need not exist.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            attachments: AttachmentCache::new(state_dir),
            locations: LocationCache::default(),
            retries: Retries::default(),
        }
    }

    /// Plans a pass, and changes nothing.
    pub fn plan(&mut self, desired: &Desired) -> Result<PlannedPass> {
        let (attached, has_leftovers) = self.attachments.read()?;
        let own = attached.current_layout.iter();
        let namespaces: BTreeMap<_, _> = own.map(|pod| (pod.cgroup, pod.netns)).collect();
        let hierarchies = Hierarchies::mounted()?;
        let locations = &mut self.locations;
        let workloads: Vec<_> = desired
            .workloads()
            .map(|workload| {
                let cached = locations.get(workload, &namespaces);
                cached.unwrap_or_else(|| locate(workload, &namespaces, &hierarchies, locations))
            })
            .collect();
        let ids: BTreeSet<_> = workloads.iter().map(|workload| &workload.id).collect();
        locations.retain(|id| ids.contains(id));
        self.attachments.share(&workloads);
        Ok(PlannedPass {
            steps: plan(&workloads, &attached),
            workloads,
            has_leftovers,
        })
    }

    /// Executes a planned pass, until `is_stopping`; the next plan has the steps that are left.
    pub fn execute(
        &mut self,
        planned: PlannedPass,
        desired: &Desired,
        is_stopping: impl Fn() -> bool,
    ) -> Result<Vec<StepResult>> {
        let PlannedPass {
            steps,
            has_leftovers,
            ..
        } = planned;
        let workloads: BTreeMap<_, _> = desired
            .workloads()
            .map(|workload| (&workload.id, workload))
            .collect();
        let mut executor = Executor::new(&self.state_dir);
        if has_leftovers {
            executor.collect_leftovers()?;
        }
        let changed: BTreeSet<_> = steps
            .iter()
            .filter(|step| step.action.is_change())
            .filter_map(|step| step.cgroup)
            .collect();
        self.retries.retain(|cgroup| changed.contains(&cgroup));
        let (detaches, steps): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .partition(|step| step.action == Action::Detach);
        let mut results = Vec::new();
        if !is_stopping() {
            results.extend(self.detach(&mut executor, detaches));
        }
        for step in steps {
            if is_stopping() {
                break;
            }
            let workload = step.id.as_ref().and_then(|id| workloads.get(id));
            let netns = workload.and_then(|workload| workload.netns.as_ref());
            let (is_attempted, result) = self.attempt(&mut executor, &step, netns);
            results.push(StepResult {
                step,
                is_attempted,
                result,
            });
        }
        Ok(results)
    }

    /// Detaches, together, all cgroups whose retry is due.
    fn detach(&mut self, executor: &mut Executor, steps: Vec<Step>) -> Vec<StepResult> {
        let attempt = (Action::Detach, None);
        let now = Instant::now();
        let blocked: Vec<_> = steps
            .iter()
            .map(|step| self.retries.pending_error(step.cgroup?, &attempt, now))
            .collect();
        let due = steps
            .iter()
            .zip(&blocked)
            .filter(|(_, blocked)| blocked.is_none());
        let due: Vec<_> = due.filter_map(|(step, _)| step.cgroup).collect();
        let result = match due.as_slice() {
            [] => Ok(()),
            due => executor.detach(due).map_err(|error| format!("{error:#}")),
        };
        if let Err(error) = &result {
            for &cgroup in &due {
                self.retries
                    .record_failure(cgroup, attempt.clone(), error.clone(), Instant::now());
            }
        }
        let results = steps
            .into_iter()
            .zip(blocked)
            .map(|(step, blocked)| StepResult {
                step,
                is_attempted: blocked.is_none(),
                result: blocked.map_or_else(|| result.clone(), Err),
            });
        results.collect()
    }

    /// Executes a step, if it changes something and its retry is due. Returns whether it was attempted now,
    /// and the error of this or the last attempt.
    fn attempt(
        &mut self,
        executor: &mut Executor,
        step: &Step,
        netns: Option<&NetnsRef>,
    ) -> (bool, Result<(), String>) {
        let Some(cgroup) = step.cgroup.filter(|_| step.action.is_change()) else {
            return (false, Ok(()));
        };
        let attempt = (step.action, step.target.clone());
        if let Some(error) = self.retries.pending_error(cgroup, &attempt, Instant::now()) {
            return (false, Err(error));
        }
        let result = executor.execute(step, netns);
        let result = result.map_err(|error| format!("{error:#}"));
        match (&result, &step.target) {
            (Err(error), _) => {
                let error = error.clone();
                self.retries
                    .record_failure(cgroup, attempt, error, Instant::now());
            }
            (Ok(()), Some(target)) => {
                if let Ok(Some(row)) = executor.row(cgroup) {
                    let config = Arc::clone(&target.config);
                    self.attachments.insert(cgroup, &row, config);
                }
            }
            (Ok(()), None) => {}
        }
        (true, result)
    }
}
