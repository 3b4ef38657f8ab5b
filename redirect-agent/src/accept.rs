//! Accepting connections: each is served by a task of its own, and only so many at once. Used by all that
//! the agent listens to.

use std::{fmt::Display, io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

/// How many are served at once; others wait for one to be done. Many more than a runtime starts pods at
/// once on a full node, or than read metrics.
const MAX_CONNECTIONS: usize = 256;
/// Before the next connection is accepted after that failed, such as for want of descriptors.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Before it is said again that it fails.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// What connections come from.
pub(crate) trait Listener {
    /// Who connects, in a log.
    const PEER: &'static str;
    /// A connection.
    type Stream;

    /// Waits for the next one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    const PEER: &'static str = "an HTTP client";
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = Self::accept(self).await?;
        Ok(stream)
    }
}

/// Serves connections until it is told to stop. What fails in serving one is its own trouble.
pub(crate) async fn serve_each<L, F, E>(
    listener: L,
    serve: impl Fn(L::Stream) -> F + Send,
    mut stopping: watch::Receiver<bool>,
) where
    L: Listener + Send + Sync,
    L::Stream: Send,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display,
{
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut last_warning: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            accepted = async {
                // Never closed.
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (slot, Ok(stream)) => {
                let served = serve(stream);
                task::spawn(async move {
                    if let Err(error) = served.await {
                        debug!("serve a connection from {}: {error}", L::PEER);
                    }
                    drop(slot);
                });
            }
            (_, Err(error)) => {
                // It may stay so for a while, and others go on meanwhile.
                if last_warning.is_none_or(|last_warning| last_warning.elapsed() > WARNING_INTERVAL)
                {
                    warn!("accept a connection from {}: {error}", L::PEER);
                    last_warning = Some(Instant::now());
                }
                sleep_until(Instant::now() + RETRY_DELAY).await;
            }
        }
    }
}
