//! One agent, from its lock to its end: what runs in it, and what it does before and after.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use redirect_user::node::{self, Upgraded};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, watch},
    task,
};
use tracing::info;

use super::{
    beside::Beside,
    control_loop::{Ended, Incoming, Looper, Work},
    follow,
};
use crate::{
    cni::{self, Desk, Limits, Request, Socket},
    http::{self, Answers},
    metrics::Metrics,
    outcome::{Outcome, Reporter},
    owner::Ownership,
    reconcile::upgrade,
    source::{Event, OpenedSource, Source, kube::PodLookup},
    status::Board,
};

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
    let work = Work::new(&options.owner, source.name());
    let (said, events) = mpsc::channel(64);
    let (tell, told) = mpsc::channel(64);
    if let Some(reporter) = reporter {
        beside.start("the reporter", report(reporter, told));
    }
    beside.start("the source", talk(source, said));
    let mut looper = Looper::new(board, metrics, tell, stopping.clone());
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
