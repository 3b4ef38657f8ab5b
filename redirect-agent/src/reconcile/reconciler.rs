//! The reconciler: plans a pass, and executes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use redirect_user::node::check_listeners;

use super::{
    attachment_cache::AttachmentCache, executor::Executor, listener_checks::ListenerChecks,
    locate::locate, location_cache::LocationCache, netns::attach_name, retries::Retries,
    step_result::StepResult,
};
use crate::{
    cgroup_ref::Hierarchies,
    desired::Desired,
    plan::{Action, ResolvedWorkload, Step, plan},
    workload::Workload,
};

/// Reconciles one state directory. Its caches only save work: a new reconciler does the same.
#[derive(Debug)]
pub struct Reconciler {
    state_dir: PathBuf,
    attachments: AttachmentCache,
    locations: LocationCache,
    retries: Retries,
    listener_checks: ListenerChecks,
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
    /// A reconciler of a state directory, which need not exist. A proxy that does not listen within `proxy_grace`
    /// after a change is warned of.
    pub fn new(state_dir: &Path, proxy_grace: Duration) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            attachments: AttachmentCache::new(state_dir),
            locations: LocationCache::default(),
            retries: Retries::default(),
            listener_checks: ListenerChecks::new(proxy_grace),
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

    /// Mends a state that cannot be read, as far as a writer can.
    pub fn recover(&self) -> Result<()> {
        Executor::new(&self.state_dir).recover()
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
        let claimed: BTreeSet<_> = steps
            .iter()
            .filter(|step| step.target.is_some())
            .filter_map(|step| step.cgroup)
            .collect();
        self.listener_checks
            .retain(|cgroup| claimed.contains(&cgroup));
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
            let workload = step.id.as_ref().and_then(|id| workloads.get(id).copied());
            results.push(self.attempt(&mut executor, step, workload));
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
                notices: Vec::new(),
                warnings: Vec::new(),
            });
        results.collect()
    }

    /// Executes a step, if it changes something and its retry is due, and checks the proxy's ports if that is due.
    fn attempt(
        &mut self,
        executor: &mut Executor,
        step: Step,
        workload: Option<&Workload>,
    ) -> StepResult {
        let netns = workload.and_then(|workload| workload.netns.as_ref());
        let policy = workload.and_then(|workload| workload.policy.as_ref().ok());
        let mut done = StepResult {
            is_attempted: false,
            result: Ok(()),
            notices: policy.map_or_else(Vec::new, |policy| policy.warnings.clone()),
            warnings: Vec::new(),
            step,
        };
        let Some(cgroup) = done.step.cgroup else {
            return done;
        };
        if done.step.action.is_change() {
            let attempt = (done.step.action, done.step.target.clone());
            let now = Instant::now();
            if let Some(error) = self.retries.pending_error(cgroup, &attempt, now) {
                done.result = Err(error);
                return done;
            }
            done.is_attempted = true;
            match executor.execute(&done.step, netns) {
                Err(error) => {
                    let error = format!("{error:#}");
                    self.retries
                        .record_failure(cgroup, attempt, error.clone(), Instant::now());
                    done.result = Err(error);
                    return done;
                }
                Ok(warnings) => done.warnings.extend(warnings),
            }
            if let (Some(target), Ok(Some(row))) = (&done.step.target, executor.row(cgroup)) {
                let config = Arc::clone(&target.config);
                self.attachments.insert(cgroup, &row, config);
            }
            self.listener_checks.record_change(cgroup, Instant::now());
        }
        if let Some(target) = &done.step.target
            && self.listener_checks.take_due(cgroup, Instant::now())
        {
            // A pod whose last process has just ended has no namespace to look into, and nothing to warn of.
            let warnings =
                attach_name(target, netns).and_then(|name| check_listeners(&target.config, &name));
            done.warnings.extend(warnings.unwrap_or_default());
        }
        done
    }
}
