//! The control loop: applies source events and CNI requests to the desired state, and makes a pass after each.

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
    log::{self, WarningDedup},
    pending_requests::PendingRequests,
    tasks::Tasks,
};
use crate::{
    cni::LoopRequest,
    desired::Desired,
    metrics::Metrics,
    outcome::{Outcome, State, WorkloadStatus},
    reconcile::{Reconciler, StepResult, outcomes, workload_statuses},
    source::SourceEvent,
    status::StatusStore,
};

/// Interval between passes when nothing happens: cgroups come and go unannounced, and failed steps are retried.
const RESYNC_INTERVAL: Duration = Duration::from_secs(1);

/// How completely the workloads are as described when the agent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Stopped as told, or one pass in which every workload was attached or waits.
    Complete,
    /// One pass in which some workloads were refused or failed.
    Incomplete,
}

/// Everything that arrives at the control loop.
pub(super) struct Inputs {
    pub(super) events: mpsc::Receiver<SourceEvent>,
    pub(super) requests: mpsc::Receiver<LoopRequest>,
    pub(super) tasks: Tasks,
}

/// Makes passes, and publishes their results.
pub(super) struct ControlLoop {
    status: Arc<StatusStore>,
    metrics: Arc<Metrics>,
    outcomes: mpsc::Sender<Vec<Outcome>>,
    pending: PendingRequests,
    stopping: watch::Receiver<bool>,
}

impl ControlLoop {
    pub(super) fn new(
        status: Arc<StatusStore>,
        metrics: Arc<Metrics>,
        outcomes: mpsc::Sender<Vec<Outcome>>,
        stopping: watch::Receiver<bool>,
    ) -> Self {
        Self {
            status,
            metrics,
            outcomes,
            pending: PendingRequests::default(),
            stopping,
        }
    }

    /// Runs until the agent is stopped, a task ends, or one pass is made with `once`.
    pub(super) async fn run(
        &mut self,
        mut state: PassState,
        inputs: &mut Inputs,
        once: bool,
    ) -> Result<Completion> {
        let mut stopping = self.stopping.clone();
        let mut resync = interval(RESYNC_INTERVAL);
        resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let Inputs {
            events,
            requests,
            tasks,
        } = inputs;
        loop {
            tokio::select! {
                biased;
                stopped = stopping.wait_for(|stopping| *stopping) => {
                    drop(stopped);
                    return Ok(Completion::Complete);
                }
                exit = tasks.first_exit() => return Err(exit),
                Some(event) = events.recv() => {
                    state.apply(event);
                    while let Ok(event) = events.try_recv() {
                        state.apply(event);
                    }
                }
                Some(request) = requests.recv() => {
                    self.pending.accept(request, &mut state.desired);
                    while let Ok(request) = requests.try_recv() {
                        self.pending.accept(request, &mut state.desired);
                    }
                }
                _ = resync.tick() => {}
            }
            self.status.heartbeat(&state.desired);
            let mut workloads = None;
            if state.desired.is_complete() {
                (state, workloads) = self.pass(state).await?;
            }
            if let (true, Some(workloads)) = (once, workloads) {
                return Ok(completion(&workloads));
            }
            if let (true, Some(problem)) = (once, self.status.snapshot().problem()) {
                bail!(problem);
            }
        }
    }

    /// Makes one pass on a blocking thread, and gives the state back. No workloads if the pass could not even plan.
    async fn pass(
        &mut self,
        mut state: PassState,
    ) -> Result<(PassState, Option<Vec<WorkloadStatus>>)> {
        let begun = Instant::now();
        let stopping = self.stopping.clone();
        let pass = task::spawn_blocking(move || {
            let result = state.pass(&stopping);
            (state, result)
        });
        let (state, result) = pass.await.context("reconcile")?;
        self.metrics.observe_pass(begun.elapsed().as_secs_f64());
        match result {
            Ok((workloads, results)) => {
                self.publish(&workloads, &results);
                Ok((state, Some(workloads)))
            }
            Err(error) => {
                self.metrics.count_failed_pass();
                let error = format!("{error:#}");
                if self.status.pass_failed(error.clone()) {
                    error!("reconcile failed: {error}");
                }
                Ok((state, None))
            }
        }
    }

    /// Publishes the results of a pass: to metrics, the log, the reporter, the status, and waiting requests.
    fn publish(&mut self, workloads: &[WorkloadStatus], results: &[StepResult]) {
        for StepResult { step, result, .. } in results.iter().filter(|done| done.is_attempted) {
            self.metrics.count_action(step.action, result.is_ok());
        }
        log::pass_result(&self.status.snapshot().workloads, workloads, results);
        // A reporter that is still busy with the last outcomes gets those of the next pass.
        drop(self.outcomes.try_send(outcomes(workloads, results)));
        self.status.pass_succeeded(workloads.to_vec());
        self.pending.resolve(workloads);
    }
}

/// Status of the workloads after a pass, and results of its steps.
type PassResult = (Vec<WorkloadStatus>, Vec<StepResult>);

/// State of the passes, which goes with them to the blocking thread.
pub(super) struct PassState {
    reconciler: Reconciler,
    desired: Desired,
    warnings: WarningDedup,
}

impl PassState {
    /// State for a state directory, and for a source with this name.
    pub(super) fn new(state_dir: &Path, proxy_grace: Duration, source: &'static str) -> Self {
        Self {
            reconciler: Reconciler::new(state_dir, proxy_grace),
            desired: Desired::new(source),
            warnings: WarningDedup::default(),
        }
    }

    fn apply(&mut self, event: SourceEvent) {
        log::source_event(self.desired.source(), &event, &mut self.warnings);
        self.desired.apply(event);
    }

    fn pass(&mut self, stopping: &watch::Receiver<bool>) -> Result<PassResult> {
        let mut planned = match self.reconciler.plan(&self.desired) {
            Ok(planned) => planned,
            // A writer mends a state whose pins another process has removed.
            Err(error) if self.reconciler.recover().is_err() => return Err(error),
            Err(_) => self.reconciler.plan(&self.desired)?,
        };
        let workloads = mem::take(&mut planned.workloads);
        let results = self
            .reconciler
            .execute(planned, &self.desired, || *stopping.borrow())?;
        Ok((workload_statuses(&workloads, &results), results))
    }
}

fn completion(workloads: &[WorkloadStatus]) -> Completion {
    let is_bad = |state| matches!(state, State::Refused | State::Failed);
    if workloads.iter().any(|workload| is_bad(workload.state)) {
        Completion::Incomplete
    } else {
        Completion::Complete
    }
}
