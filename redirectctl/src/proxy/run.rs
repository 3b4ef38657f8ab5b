//! The proxy as a program: bind, become the proxy's user, serve until a signal.

use std::io;

use thiserror::Error;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use super::{
    record::Record,
    server::{Proxy, listen},
    shared::{Mode, Totals},
};

/// How to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The port to listen on.
    pub port: u16,
    /// Which destinations are forwarded to.
    pub mode: Mode,
}

/// Why the proxy does not run.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// The port is taken, or needs root.
    #[error("listen on port {port}")]
    Listen {
        /// The port.
        port: u16,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The process could not become the proxy's user.
    #[error("become the proxy's user: {0}")]
    Become(#[source] io::Error),
    /// Something else went wrong.
    #[error("serve: {0}")]
    Serve(#[source] io::Error),
}

/// Binds, calls `ready` (which drops root's rights, and may announce the port), and serves until
/// SIGTERM or SIGINT.
///
/// Only then is a runtime started, on this thread: `ready` runs before there is a second one.
pub fn run(
    options: Options,
    ready: impl FnOnce() -> io::Result<()>,
    log: impl FnMut(&Record) + Send + 'static,
) -> Result<Totals, ProxyError> {
    let Options { port, mode } = options;
    let listener = listen(port).map_err(|source| ProxyError::Listen { port, source })?;
    ready().map_err(ProxyError::Become)?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ProxyError::Serve)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(ProxyError::Serve)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ProxyError::Serve)?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        Proxy::new(mode, log)
            .serve(listener, stop)
            .await
            .map_err(ProxyError::Serve)
    })
}
