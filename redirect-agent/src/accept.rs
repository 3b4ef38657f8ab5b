//! Accepting connections: one task for each, and a limit on their number. Both servers of the agent use it.

use std::{fmt::Display, io, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task,
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

/// Connections that are served at the same time; others wait. Many more than a runtime starts pods at once on
/// a full node, or than scrape metrics.
const MAX_CONNECTIONS: usize = 256;
/// Pause after a failure to accept a connection, such as a lack of descriptors.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// Pause between two warnings about such failures.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// A listening socket.
pub(crate) trait Listener {
    /// Name of the peer, in log messages.
    const PEER: &'static str;
    /// A connection.
    type Stream;

    /// Waits for the next connection.
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

/// Serves connections until the agent is stopped. A failure to serve one affects no other.
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
                // The semaphore is never closed.
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (slot, Ok(stream)) => {
                let served = serve(stream);
                task::spawn(async move {
                    if let Err(error) = served.await {
                        debug!("serving a connection from {} failed: {error}", L::PEER);
                    }
                    drop(slot);
                });
            }
            (_, Err(error)) => {
                // The failure may last, and connections that are open go on meanwhile.
                if last_warning.is_none_or(|last| last.elapsed() > WARNING_INTERVAL) {
                    warn!("accepting a connection from {} failed: {error}", L::PEER);
                    last_warning = Some(Instant::now());
                }
                sleep_until(Instant::now() + RETRY_DELAY).await;
            }
        }
    }
}
