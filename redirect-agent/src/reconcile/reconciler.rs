//! Making what is attached what is wanted: look, plan, act.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::Result;
use redirect_common::abi::PolicyRow;
use redirect_user::{
    config::RedirectConfig,
    node::{Reader, attached_by_others},
    sys::{cgroup::CgroupId, netns::NetnsRef},
};

use super::{
    execute::Executor,
    locate::locate,
    retry::Retries,
    sight::{FRESH, Sights},
    step_result::Done,
};
use crate::{
    cgroup_ref::Hierarchies,
    desired::Desired,
    plan::{Action, Attached, Attachments, Stand, Step, Wanted, plan},
};

/// Reconciles one owner folder. What it remembers only saves work: a new one does the same.
#[derive(Debug)]
pub struct Reconciler {
    owner: PathBuf,
    /// What attached cgroups were found to have, with their row, which is another one after every
    /// change.
    known: BTreeMap<CgroupId, (PolicyRow, Arc<RedirectConfig>)>,
    sights: Sights,
    /// When each link was last looked at.
    looked_closely: Option<Instant>,
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
            known: BTreeMap::new(),
            sights: Sights::default(),
            looked_closely: None,
            retries: Retries::default(),
        }
    }

    /// Looks, and plans. Changes nothing.
    pub fn look(&mut self, desired: &Desired) -> Result<Outlook> {
        let (attached, has_leftovers) = self.attached()?;
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
        self.share(&wanted);
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
                // What was just written need not be read.
                if let Ok(Some(row)) = executor.row(cgroup) {
                    let config = Arc::clone(&target.config);
                    self.known.insert(cgroup, (row, config));
                }
            }
            (Ok(()), None) => {}
        }
        (true, result)
    }

    /// Has what is attached and what is wanted be one in memory where they are the same: they are large,
    /// and compared in every pass.
    fn share(&mut self, wanted: &[Wanted]) {
        for workload in wanted {
            let Stand::Ready(target) = &workload.stand else {
                continue;
            };
            let Some((_, config)) = self.known.get_mut(&target.cgroup) else {
                continue;
            };
            let mut due = target.until_proxy.iter().chain([&target.config]);
            if let Some(same) = due.find(|due| *due == config) {
                *config = Arc::clone(same);
            }
        }
    }

    /// What is attached, and whether something else was left behind.
    fn attached(&mut self) -> Result<(Attachments, bool)> {
        let others = attached_by_others(&self.owner)?;
        let Some(reader) = Reader::open(&self.owner)? else {
            self.known.clear();
            let own = Vec::new();
            return Ok((Attachments { own, others }, false));
        };
        let pods = reader.pods()?;
        let rows: BTreeMap<_, _> = pods.iter().map(|pod| (pod.id, pod.row)).collect();
        self.known
            .retain(|cgroup, (row, _)| rows.get(cgroup) == Some(row));
        let unknown: Vec<_> = pods
            .iter()
            .filter(|pod| !self.known.contains_key(&pod.id))
            .copied()
            .collect();
        for (pod, config) in unknown.iter().zip(reader.configs(&unknown)?) {
            self.known.insert(pod.id, (pod.row, Arc::new(config)));
        }
        let attached = pods.iter().filter_map(|pod| {
            let (_, config) = self.known.get(&pod.id)?;
            Some(Attached {
                cgroup: pod.id,
                netns: pod.row.netns,
                config: Arc::clone(config),
            })
        });
        let own = attached.collect();
        let is_due = |at: Instant| at.elapsed() >= FRESH;
        let has_leftovers = if self.looked_closely.is_none_or(is_due) {
            self.looked_closely = Some(Instant::now());
            reader.has_leftovers()?
        } else {
            reader.is_unfinished(&pods)?
        };
        Ok((Attachments { own, others }, has_leftovers))
    }
}
