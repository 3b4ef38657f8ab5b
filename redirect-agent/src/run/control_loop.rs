//! The loop: what sources say goes in, passes come out, until it is told to stop.

use std::{
    mem,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use redirect_user::node::{self, Upgraded};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task,
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info};

use super::{
    askers::Askers,
    beside::Beside,
    follow,
    tell::{self, Warned},
};
use crate::{
    cni::{self, Desk, Limits, Request, Socket},
    desired::Desired,
    http::{self, Answers},
    metrics::Metrics,
    outcome::{Outcome, Reporter, State, WorkloadStatus},
    owner::Ownership,
    reconcile::{Done, Reconciler, outcomes, statuses, upgrade},
    source::{Event, OpenedSource, Source, kube::PodLookup},
    status::Board,
};

/// How often it is looked without a source saying anything: for cgroups that come and go, and for
/// what is to be tried again.
const LOOK: Duration = Duration::from_secs(1);

/// How the agent runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The owner folder.
    pub owner: PathBuf,
    /// Where metrics and probes are served.
    pub listen: Option<SocketAddr>,
    /// Where the CNI plugin is listened to.
    pub cni_socket: Option<PathBuf>,
    /// Whether it ends after one pass.
    pub once: bool,
    /// Whether it detaches everything when it ends.
    pub detach_on_exit: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it was told to.
    Well,
    /// After one pass, in which some workloads were refused or failed.
    Incomplete,
}

/// Runs until a signal, or for one pass. The source is opened in the runtime that it is used in.
pub fn run<S: Source>(
    opened: impl Future<Output = Result<OpenedSource<S>>>,
    options: &Options,
) -> Result<Ended> {
    let ownership = Ownership::take(&options.owner)?;
    if let Some(Upgraded { cgroups, links }) = upgrade(&options.owner)? {
        info!(cgroups, links, "replaced the programs of another version");
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    let ended = runtime.block_on(live(opened, options))?;
    if options.detach_on_exit {
        node::uninstall(&options.owner)?.complete(&options.owner)?;
        ownership.remove()?;
        info!("detached all");
    }
    Ok(ended)
}

async fn live<S: Source>(
    opened: impl Future<Output = Result<OpenedSource<S>>>,
    options: &Options,
) -> Result<Ended> {
    let OpenedSource {
        source,
        reporter,
        event_counts,
        pods,
    } = opened.await?;
    let (stop, stopping) = watch::channel(false);
    task::spawn(stop_on_signal(stop.clone())?);
    let mut beside = Beside::default();
    let board = Arc::new(Board::default());
    let metrics = Arc::new(Metrics::new(
        &options.owner,
        Arc::clone(&board),
        &event_counts,
    ));
    if let Some(address) = options.listen {
        let answers = Answers::new(Arc::clone(&metrics), Arc::clone(&board));
        serve_http(address, answers, stopping.clone(), &mut beside).await?;
    }
    let socket = options.cni_socket.as_deref();
    let requests = serve_plugin(socket, pods, &board, &stopping, &mut beside)?;
    if !options.once {
        let (owner, stopping) = (options.owner.clone(), stopping.clone());
        let follow = move || follow::follow(&owner, stopping);
        beside.start_thread("who follows addresses", follow);
    }
    let work = Work {
        reconciler: Reconciler::new(&options.owner),
        desired: Desired::new(source.name()),
        warned: Warned::default(),
    };
    let (said, events) = mpsc::channel(64);
    let (tell, told) = mpsc::channel(64);
    if let Some(reporter) = reporter {
        beside.start("the reporter", report(reporter, told));
    }
    beside.start("the source", talk(source, said));
    let mut looper = Looper {
        board,
        metrics,
        tell,
        askers: Askers::default(),
        stopping: stopping.clone(),
    };
    let mut incoming = Incoming {
        events,
        requests,
        beside,
    };
    let ended = looper
        .go_round(work, &mut incoming, stopping, options.once)
        .await;
    stop.send_replace(true);
    incoming.beside.end().await;
    ended
}

/// Serves metrics and probes at an address.
async fn serve_http(
    address: SocketAddr,
    answers: Answers,
    stopping: watch::Receiver<bool>,
    beside: &mut Beside,
) -> Result<()> {
    let listener = http::bind(address).await?;
    info!(address = %listener.local_addr()?, "serving /metrics, /healthz and /readyz");
    beside.start("the HTTP server", http::serve(listener, answers, stopping));
    Ok(())
}

/// Answers the CNI plugin, if there is a path to listen at; gives what it asks the loop for.
fn serve_plugin(
    path: Option<&Path>,
    pods: Option<PodLookup>,
    board: &Arc<Board>,
    stopping: &watch::Receiver<bool>,
    beside: &mut Beside,
) -> Result<mpsc::Receiver<Request>> {
    // Without anybody to ask, nobody does.
    let (ask, requests) = mpsc::channel(64);
    if let Some(path) = path {
        let pods =
            pods.context("listen to the CNI plugin (--cni-socket): it needs --source kube")?;
        let socket = Socket::bind(path)?;
        info!(socket = %path.display(), "listening to the CNI plugin");
        let desk = Desk::new(pods, Arc::clone(board), ask, Limits::default());
        let served = cni::serve(socket, desk, stopping.clone());
        beside.start("the server of the CNI plugin", served);
    }
    Ok(requests)
}

/// Tells everybody to stop when SIGTERM or SIGINT comes.
fn stop_on_signal(stop: watch::Sender<bool>) -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("listen to signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping");
        stop.send_replace(true);
        stop.closed().await;
    })
}

/// Passes on what a source says.
async fn talk<S: Source>(mut source: S, said: mpsc::Sender<Event>) {
    loop {
        let event = source.next().await;
        if said.send(event).await.is_err() {
            return;
        }
    }
}

/// Tells a reporter the outcomes of passes.
async fn report(mut reporter: Box<dyn Reporter>, mut told: mpsc::Receiver<Vec<Outcome>>) {
    while let Some(outcomes) = told.recv().await {
        reporter.report(&outcomes);
    }
}

/// What a pass works with, in a thread where it may wait.
struct Work {
    reconciler: Reconciler,
    desired: Desired,
    warned: Warned,
}

/// What there is to take in.
struct Incoming {
    events: mpsc::Receiver<Event>,
    requests: mpsc::Receiver<Request>,
    beside: Beside,
}

struct Looper {
    board: Arc<Board>,
    metrics: Arc<Metrics>,
    tell: mpsc::Sender<Vec<Outcome>>,
    askers: Askers,
    stopping: watch::Receiver<bool>,
}

impl Looper {
    async fn go_round(
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
