//! The proxy as a program: binds the port, becomes the proxy's user, and serves until a signal.

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

/// The options of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The port to listen on.
    pub port: u16,
    /// The destinations that are forwarded to.
    pub mode: Mode,
}

/// The reason why the proxy does not run.
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
    /// The process cannot become the proxy's user.
    #[error("become the proxy's user: {0}")]
    Become(#[source] io::Error),
    /// The runtime or a signal handler failed, or `accept`.
    #[error("serve: {0}")]
    Serve(#[source] io::Error),
}

/// Binds the port, calls `ready` (which drops root's rights, and may announce the port), and serves until SIGTERM or
/// SIGINT.
///
/// The runtime is started on this thread after `ready`, which needs a process without other threads.
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
