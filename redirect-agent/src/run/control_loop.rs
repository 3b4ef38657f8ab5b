//! The loop: what the source says goes in, passes come out, until it is told to stop.

use std::{
    mem,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    sync::{mpsc, watch},
    task,
    time::{MissedTickBehavior, interval},
};
use tracing::error;

use super::{
    askers::Askers,
    beside::Beside,
    tell::{self, Warned},
};
use crate::{
    cni::Request,
    desired::Desired,
    metrics::Metrics,
    outcome::{Outcome, State, WorkloadStatus},
    reconcile::{Done, Reconciler, outcomes, statuses},
    source::Event,
    status::Board,
};

/// How often it is looked without the source saying anything: for cgroups that come and go, and for
/// what is to be tried again.
const LOOK: Duration = Duration::from_secs(1);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it was told to.
    Well,
    /// After one pass, in which some workloads were refused or failed.
    Incomplete,
}

/// What a pass works with, in a thread where it may wait.
pub(super) struct Work {
    reconciler: Reconciler,
    desired: Desired,
    warned: Warned,
}

/// What there is to take in.
pub(super) struct Incoming {
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) beside: Beside,
}

pub(super) struct Looper {
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    tell: mpsc::Sender<Vec<Outcome>>,
    askers: Askers,
    stopping: watch::Receiver<bool>,
}

impl Looper {
    pub(super) fn new(
        board: Arc<Board>,
        metrics: Arc<Metrics>,
        tell: mpsc::Sender<Vec<Outcome>>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            board,
            metrics,
            tell,
            askers: Askers::default(),
            stopping,
        }
    }

    pub(super) async fn go_round(
        &mut self,
        mut work: Work,
        incoming: &mut Incoming,
        mut stopping: watch::Receiver<bool>,
        once: bool,
    ) -> Result<Ended> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Incoming {
            events,
            requests,
            beside,
        } = incoming;
        loop {
            tokio::select! {
                biased;
                stopped = stopping.wait_for(|stopping| *stopping) => {
                    drop(stopped);
                    return Ok(Ended::Well);
                }
                lost = beside.lost() => return Err(lost),
                Some(event) = events.recv() => {
                    work.take_in(event);
                    while let Ok(event) = events.try_recv() {
                        work.take_in(event);
                    }
                }
                Some(request) = requests.recv() => {
                    self.askers.take_in(request, &mut work.desired);
                    while let Ok(request) = requests.try_recv() {
                        self.askers.take_in(request, &mut work.desired);
                    }
                }
                _ = look.tick() => {}
            }
            self.board.beat(&work.desired);
            let mut workloads = None;
            if work.desired.is_complete() {
                (work, workloads) = self.pass(work).await?;
            }
            if let (true, Some(workloads)) = (once, workloads) {
                return Ok(ended(&workloads));
            }
            if let (true, Some(problem)) = (once, self.board.read().problem()) {
                bail!(problem);
            }
        }
    }

    fn tell_reporter(&self, outcomes: Vec<Outcome>) {
        // If it has not heard of the last ones yet, it hears of the next.
        drop(self.tell.try_send(outcomes));
    }

    /// One pass, which gives back what it works with; no workloads if it could not even look.
    async fn pass(&mut self, mut work: Work) -> Result<(Work, Option<Vec<WorkloadStatus>>)> {
        let begun = Instant::now();
        let stopping = self.stopping.clone();
        let passed = task::spawn_blocking(move || {
            let passed = work.pass(&stopping);
            (work, passed)
        });
        let (work, passed) = passed.await.context("reconcile")?;
        self.metrics.passed(begun.elapsed().as_secs_f64());
        match passed {
            Ok((workloads, done)) => {
                for Done { step, result, .. } in done.iter().filter(|done| done.is_attempted) {
                    self.metrics.acted(step.action, result.is_ok());
                }
                tell::passed(&self.board.read().workloads, &workloads, &done);
                self.tell_reporter(outcomes(&workloads, &done));
                self.board.passed(workloads.clone());
                self.askers.passed(&workloads);
                Ok((work, Some(workloads)))
            }
            Err(error) => {
                self.metrics.failed();
                let error = format!("{error:#}");
                if self.board.failed(error.clone()) {
                    error!("reconcile: {error}");
                }
                Ok((work, None))
            }
        }
    }
}

/// How workloads are after a pass, and what was done in it.
type Passed = (Vec<WorkloadStatus>, Vec<Done>);

impl Work {
    /// For a state directory, and a source with this name.
    pub(super) fn new(owner: &Path, source: &'static str) -> Self {
        Self {
            reconciler: Reconciler::new(owner),
            desired: Desired::new(source),
            warned: Warned::default(),
        }
    }

    fn take_in(&mut self, event: Event) {
        tell::said(self.desired.source(), &event, &mut self.warned);
        self.desired.apply(event);
    }

    fn pass(&mut self, stopping: &watch::Receiver<bool>) -> Result<Passed> {
        let mut outlook = self.reconciler.look(&self.desired)?;
        let wanted = mem::take(&mut outlook.wanted);
        let done = self
            .reconciler
            .act(outlook, &self.desired, || *stopping.borrow())?;
        Ok((statuses(&wanted, &done), done))
    }
}

fn ended(workloads: &[WorkloadStatus]) -> Ended {
    let is_bad = |state| matches!(state, State::Refused | State::Failed);
    if workloads.iter().any(|workload| is_bad(workload.state)) {
        Ended::Incomplete
    } else {
        Ended::Well
    }
}
