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
const CONNECTIONS: usize = 256;
/// Before the next connection is accepted after that failed, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// Before it is said again that it fails.
const SILENCE: Duration = Duration::from_mins(1);

/// What connections come from.
pub(crate) trait Listener {
    /// Who connects, in a log.
    const WHO: &'static str;
    /// A connection.
    type Stream;

    /// Waits for the next one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Listener for TcpListener {
    const WHO: &'static str = "whoever asks by HTTP";
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _) = Self::accept(self).await?;
        Ok(stream)
    }
}

/// Serves connections until it is told to stop. What fails in serving one is its own trouble.
pub(crate) async fn each<L, F, E>(
    listener: L,
    serve: impl Fn(L::Stream) -> F + Send,
    mut stopping: watch::Receiver<bool>,
) where
    L: Listener + Send + Sync,
    L::Stream: Send,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut said: Option<Instant> = None;
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
                        debug!(%error, "answer {}", L::WHO);
                    }
                    drop(slot);
                });
            }
            (_, Err(error)) => {
                // It may stay so for a while, and others go on meanwhile.
                if said.is_none_or(|said| said.elapsed() > SILENCE) {
                    warn!("accept a connection of {}: {error}", L::WHO);
                    said = Some(Instant::now());
                }
                sleep_until(Instant::now() + PAUSE).await;
            }
        }
    }
}
