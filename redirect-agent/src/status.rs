//! How it stands: what the last pass has found, for probes, metrics and the log.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redirect_user::sys::cgroup::CgroupId;

use crate::{
    desired::Desired,
    plan::{Action, Wanted},
    reconcile::Done,
    workload::WorkloadId,
};

/// How a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is redirected as described.
    Attached,
    /// Its cgroup, or a process of its own, is not there.
    Waiting,
    /// Its description cannot be used; what it had stays.
    Refused,
    /// It could not be done; it is tried again.
    Failed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Attached, Self::Waiting, Self::Refused, Self::Failed];

    /// Its name, as a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// A workload, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// Which one it is.
    pub id: WorkloadId,
    /// What people call it.
    pub name: String,
    /// Its cgroup, if it is there.
    pub cgroup: Option<CgroupId>,
    /// How it is.
    pub state: State,
    /// Why, or what there is to say of it.
    pub detail: Option<String>,
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

/// What became of a workload in a pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which one it is.
    pub id: WorkloadId,
    /// How it is now.
    pub state: State,
    /// Why, or what there is to say of it.
    pub detail: Option<String>,
    /// What was done to make it so, if that was anything.
    pub action: Option<Action>,
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

/// Where the loop says how it stands, and others read it.
#[derive(Debug)]
pub struct Board {
    told: Mutex<Told>,
}

/// What the loop has said last.
#[derive(Clone, Debug)]
pub struct Told {
    /// The workloads after the last pass.
    pub workloads: Vec<WorkloadStatus>,
    /// The sources, and why they cannot be asked, if so.
    pub sources: Vec<(&'static str, Option<String>)>,
    /// Why nothing could be looked at in the last pass, if so.
    pub error: Option<String>,
    /// Whether a first pass was made with all that the sources have.
    pub is_ready: bool,
    /// When the loop last went round.
    beat: Instant,
}

/// Much longer than a round takes, with a whole node to attach.
const SILENCE: Duration = Duration::from_mins(2);

impl Default for Board {
    fn default() -> Self {
        Self {
            told: Mutex::new(Told {
                workloads: Vec::new(),
                sources: Vec::new(),
                error: None,
                is_ready: false,
                beat: Instant::now(),
            }),
        }
    }
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was said last.
    pub fn read(&self) -> Told {
        self.lock().clone()
    }

    /// The loop is alive, and knows this of the sources.
    pub fn beat(&self, desired: &Desired) {
        let sources = desired.sources();
        let sources = sources
            .map(|(name, trouble)| (name, trouble.map(str::to_owned)))
            .collect();
        let mut told = self.lock();
        told.sources = sources;
        told.beat = Instant::now();
    }

    /// A pass was made.
    pub fn passed(&self, workloads: Vec<WorkloadStatus>) {
        let mut told = self.lock();
        told.workloads = workloads;
        told.error = None;
        told.is_ready = true;
    }

    /// A pass could not be made. True if that is news.
    pub fn failed(&self, error: String) -> bool {
        let mut told = self.lock();
        let is_news = told.error.as_ref() != Some(&error);
        told.error = Some(error);
        is_news
    }
}

impl Told {
    /// An error if the loop has not gone round for too long.
    pub fn health(&self) -> Result<(), String> {
        let silence = self.beat.elapsed();
        if silence > SILENCE {
            return Err(format!("no reconcile for {} s", silence.as_secs()));
        }
        Ok(())
    }

    /// An error if not all that the sources have was looked at once.
    pub fn readiness(&self) -> Result<(), String> {
        if self.is_ready {
            return Ok(());
        }
        let reason = self.problem();
        Err(reason.unwrap_or_else(|| "the first reconcile is not done yet".to_owned()))
    }

    /// What keeps it from being done, if anything does: sources that cannot be asked, or the kernel.
    pub fn problem(&self) -> Option<String> {
        let troubles = self.sources.iter().filter_map(|(name, trouble)| {
            let trouble = trouble.as_ref()?;
            Some(format!("source {name}: {trouble}"))
        });
        let problems: Vec<_> = troubles.chain(self.error.clone()).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}
