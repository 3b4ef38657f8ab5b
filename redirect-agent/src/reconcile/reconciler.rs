//! Making what is attached what is wanted: look, plan, act.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::Result;
use redirect_user::sys::netns::NetnsRef;

use super::{
    attachment_cache::AttachmentCache, execute::Executor, locate::locate, retry::Retries,
    sight::Sights, step_result::Done,
};
use crate::{
    cgroup_ref::Hierarchies,
    desired::Desired,
    plan::{Action, Step, Wanted, plan},
};

/// Reconciles one owner folder. What it remembers only saves work: a new one does the same.
#[derive(Debug)]
pub struct Reconciler {
    owner: PathBuf,
    attachments: AttachmentCache,
    sights: Sights,
    retries: Retries,
}

/// What there is, and what is to be done about it.
#[derive(Debug)]
pub struct Outlook {
    /// The workloads, and where they stand.
    pub wanted: Vec<Wanted>,
    /// What is to be done.
    pub steps: Vec<Step>,
    /// Whether something was left behind that is to be collected.
    pub has_leftovers: bool,
}

impl Reconciler {
    /// For an owner folder, which need not exist.
    pub fn new(owner: &Path) -> Self {
        Self {
            owner: owner.to_owned(),
            attachments: AttachmentCache::new(owner),
            sights: Sights::default(),
            retries: Retries::default(),
        }
    }

    /// Looks, and plans. Changes nothing.
    pub fn look(&mut self, desired: &Desired) -> Result<Outlook> {
        let (attached, has_leftovers) = self.attachments.read()?;
        let own = attached.own.iter();
        let namespaces: BTreeMap<_, _> = own.map(|pod| (pod.cgroup, pod.netns)).collect();
        let hierarchies = Hierarchies::mounted()?;
        let sights = &mut self.sights;
        let wanted: Vec<_> = desired
            .workloads()
            .map(|workload| {
                let still = sights.still(workload, &namespaces);
                still.unwrap_or_else(|| locate(workload, &namespaces, &hierarchies, sights))
            })
            .collect();
        let ids: BTreeSet<_> = wanted.iter().map(|workload| &workload.id).collect();
        sights.keep(|id| ids.contains(id));
        self.attachments.share(&wanted);
        Ok(Outlook {
            steps: plan(&wanted, &attached),
            wanted,
            has_leftovers,
        })
    }

    /// Does what was planned, until it is told to stop: the rest is planned again.
    pub fn act(
        &mut self,
        outlook: Outlook,
        desired: &Desired,
        is_stopping: impl Fn() -> bool,
    ) -> Result<Vec<Done>> {
        let Outlook {
            steps,
            has_leftovers,
            ..
        } = outlook;
        let workloads: BTreeMap<_, _> = desired
            .workloads()
            .map(|workload| (&workload.id, workload))
            .collect();
        let mut executor = Executor::new(&self.owner);
        if has_leftovers {
            executor.collect()?;
        }
        let changed: BTreeSet<_> = steps
            .iter()
            .filter(|step| step.action.is_change())
            .filter_map(|step| step.cgroup)
            .collect();
        self.retries.keep(|cgroup| changed.contains(&cgroup));
        let (ends, steps): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .partition(|step| step.action == Action::Detach);
        let mut done = Vec::new();
        if !is_stopping() {
            done.extend(self.end(&mut executor, ends));
        }
        for step in steps {
            if is_stopping() {
                break;
            }
            let workload = step.id.as_ref().and_then(|id| workloads.get(id));
            let netns = workload.and_then(|workload| workload.netns.as_ref());
            let (is_attempted, result) = self.attempt(&mut executor, &step, netns);
            done.push(Done {
                step,
                is_attempted,
                result,
            });
        }
        Ok(done)
    }

    /// Detaches, together, everything whose time has come.
    fn end(&mut self, executor: &mut Executor, steps: Vec<Step>) -> Vec<Done> {
        let attempt = (Action::Detach, None);
        let now = Instant::now();
        let held: Vec<_> = steps
            .iter()
            .map(|step| self.retries.holds_back(step.cgroup?, &attempt, now))
            .collect();
        let due = steps.iter().zip(&held).filter(|(_, held)| held.is_none());
        let due: Vec<_> = due.filter_map(|(step, _)| step.cgroup).collect();
        let result = match due.as_slice() {
            [] => Ok(()),
            due => executor.detach(due).map_err(|error| format!("{error:#}")),
        };
        if let Err(error) = &result {
            for &cgroup in &due {
                self.retries
                    .failed(cgroup, attempt.clone(), error.clone(), Instant::now());
            }
        }
        let done = steps.into_iter().zip(held).map(|(step, held)| Done {
            step,
            is_attempted: held.is_none(),
            result: held.map_or_else(|| result.clone(), Err),
        });
        done.collect()
    }

    /// Does a step, if it changes something and its time has come: whether it was done now, and why it
    /// failed, now or the last time.
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
        if let Some(error) = self.retries.holds_back(cgroup, &attempt, Instant::now()) {
            return (false, Err(error));
        }
        let result = executor.execute(step, netns);
        let result = result.map_err(|error| format!("{error:#}"));
        match (&result, &step.target) {
            (Err(error), _) => {
                let error = error.clone();
                self.retries.failed(cgroup, attempt, error, Instant::now());
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
