//! How it stands: what the last pass has found, for probes, metrics and the log.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::{desired::Desired, outcome::WorkloadStatus};

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
    /// The source's name, and why it cannot be asked, if so; none before the loop has begun.
    pub source: Option<(&'static str, Option<String>)>,
    /// Why nothing could be looked at in the last pass, if so.
    pub error: Option<String>,
    /// Whether a first pass was made with all that the source has.
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
                source: None,
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

    /// The loop is alive, and knows this of the source.
    pub fn beat(&self, desired: &Desired) {
        let trouble = desired.trouble().map(str::to_owned);
        let mut told = self.lock();
        told.source = Some((desired.source(), trouble));
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

    /// An error if not all that the source has was looked at once.
    pub fn readiness(&self) -> Result<(), String> {
        if self.is_ready {
            return Ok(());
        }
        let reason = self.problem();
        Err(reason.unwrap_or_else(|| "the first reconcile is not done yet".to_owned()))
    }

    /// What keeps it from being done, if anything does: a source that cannot be asked, or the kernel.
    pub fn problem(&self) -> Option<String> {
        let trouble = self.source.as_ref().and_then(|(name, trouble)| {
            let trouble = trouble.as_ref()?;
            Some(format!("source {name}: {trouble}"))
        });
        let problems: Vec<_> = trouble.into_iter().chain(self.error.clone()).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}
