//! The running agent: its lock, its tasks, its control loop, and its end.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use redirect_user::node::{self, FailedUpgrade, Upgraded};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task,
};
use tracing::{info, warn};

use super::{
    control_loop::{Completion, ControlLoop, Inputs, PassState},
    follow,
    tasks::Tasks,
};
use crate::{
    cni::{self, CniHandler, CniTimeouts, LoopRequest, Socket},
    http::{self, HttpHandler},
    metrics::Metrics,
    outcome::{Outcome, Reporter},
    reconcile::upgrade,
    source::{OpenedSource, Source, SourceEvent, kube::PodLookup},
    state_dir::AgentLock,
    status::StatusStore,
};

/// Options of a running agent.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state directory.
    pub state_dir: PathBuf,
    /// Address that metrics and probes are served at.
    pub listen: Option<SocketAddr>,
    /// Path of the socket for the CNI plugin.
    pub cni_socket: Option<PathBuf>,
    /// Time for a proxy to start after a change, before a warning says that it does not listen. One pass does not wait.
    pub proxy_grace: Duration,
    /// Whether the agent ends after one pass.
    pub once: bool,
    /// Whether the agent detaches everything when it ends.
    pub detach_on_exit: bool,
}

/// Runs until a signal, or for one pass. The source is opened in the runtime that uses it.
pub fn run<S: Source>(
    opened: impl Future<Output = Result<OpenedSource<S>>>,
    options: &Options,
) -> Result<Completion> {
    let lock = AgentLock::acquire(&options.state_dir)?;
    if let Some(upgraded) = upgrade(&options.state_dir)? {
        let Upgraded {
            cgroups,
            links,
            failed,
        } = upgraded;
        info!(cgroups, links, "replaced the programs of another version");
        for FailedUpgrade { cgroup_id, error } in failed {
            warn!(cgroup = cgroup_id, "replacing the programs failed: {error}");
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    let completion = runtime.block_on(run_until_stopped(opened, options))?;
    if options.detach_on_exit {
        node::uninstall(&options.state_dir)?.complete(&options.state_dir)?;
        lock.remove()?;
        info!("detached all");
    }
    Ok(completion)
}

async fn run_until_stopped<S: Source>(
    opened: impl Future<Output = Result<OpenedSource<S>>>,
    options: &Options,
) -> Result<Completion> {
    let OpenedSource {
        source,
        reporter,
        event_counts,
        pods,
    } = opened.await?;
    let (stop, stopping) = watch::channel(false);
    task::spawn(stop_on_signal(stop.clone())?);
    let mut tasks = Tasks::default();
    let status = Arc::new(StatusStore::default());
    let metrics = Metrics::new(&options.state_dir, Arc::clone(&status), &event_counts);
    let metrics = Arc::new(metrics);
    if let Some(address) = options.listen {
        let handler = HttpHandler::new(Arc::clone(&metrics), Arc::clone(&status));
        serve_http(address, handler, stopping.clone(), &mut tasks).await?;
    }
    let socket = options.cni_socket.as_deref();
    let requests = serve_cni(socket, pods, &status, &stopping, &mut tasks)?;
    if !options.once {
        let (state_dir, stopping) = (options.state_dir.clone(), stopping.clone());
        let follow = move || follow::follow(&state_dir, stopping);
        tasks.spawn_blocking("the address follower", follow);
    }
    let proxy_grace = if options.once {
        Duration::ZERO
    } else {
        options.proxy_grace
    };
    let state = PassState::new(&options.state_dir, proxy_grace, source.name());
    let (event_sender, events) = mpsc::channel(64);
    let (outcome_sender, outcomes) = mpsc::channel(64);
    if let Some(reporter) = reporter {
        tasks.spawn("the reporter", forward_outcomes(reporter, outcomes));
    }
    tasks.spawn("the source", forward_events(source, event_sender));
    let mut control_loop = ControlLoop::new(status, metrics, outcome_sender, stopping);
    let mut inputs = Inputs {
        events,
        requests,
        tasks,
    };
    let completion = control_loop.run(state, &mut inputs, options.once).await;
    stop.send_replace(true);
    inputs.tasks.shutdown().await;
    completion
}

/// Serves metrics and probes at an address.
async fn serve_http(
    address: SocketAddr,
    handler: HttpHandler,
    stopping: watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> Result<()> {
    let listener = http::bind(address).await?;
    info!(address = %listener.local_addr()?, "serving /metrics, /healthz and /readyz");
    tasks.spawn("the HTTP server", http::serve(listener, handler, stopping));
    Ok(())
}

/// Serves the CNI plugin, if there is a path to listen at. Returns the requests for the control loop.
fn serve_cni(
    path: Option<&Path>,
    pods: Option<PodLookup>,
    status: &Arc<StatusStore>,
    stopping: &watch::Receiver<bool>,
    tasks: &mut Tasks,
) -> Result<mpsc::Receiver<LoopRequest>> {
    // Without a path the sender is dropped, and no request ever arrives.
    let (sender, requests) = mpsc::channel(64);
    if let Some(path) = path {
        let pods =
            pods.context("listen for the CNI plugin (--cni-socket): it needs --source kube")?;
        let socket = Socket::bind(path)?;
        info!(socket = %path.display(), "listening for the CNI plugin");
        let handler = CniHandler::new(pods, Arc::clone(status), sender, CniTimeouts::default());
        let served = cni::serve(socket, handler, stopping.clone());
        tasks.spawn("the CNI server", served);
    }
    Ok(requests)
}

/// Stops the agent at SIGTERM and SIGINT.
fn stop_on_signal(stop: watch::Sender<bool>) -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("listen for signals");
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

/// Forwards the events of the source to the control loop.
async fn forward_events<S: Source>(mut source: S, events: mpsc::Sender<SourceEvent>) {
    loop {
        let event = source.next().await;
        if events.send(event).await.is_err() {
            return;
        }
    }
}

/// Forwards the outcomes of passes to the reporter.
async fn forward_outcomes(
    mut reporter: Box<dyn Reporter>,
    mut outcomes: mpsc::Receiver<Vec<Outcome>>,
) {
    while let Some(outcomes) = outcomes.recv().await {
        reporter.report(&outcomes);
    }
}
