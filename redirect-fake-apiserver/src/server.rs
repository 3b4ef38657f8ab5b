// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server: a thread that listens on loopback until the server is dropped.

use std::{
    io::{self, Error},
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread::{self, JoinHandle},
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinSet, LocalSet},
};

use crate::{cluster::Cluster, routes, shared::Shared};

/// An API server. Dropping it closes every connection and the port.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// The state of the server. Every transition closes all connections first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Up,
    Down,
    Stopped,
}

/// The next phase, and the sender that reports when it is reached.
type Order = (Phase, std::sync::mpsc::Sender<()>);

impl ApiServer {
    /// Starts a server with an empty cluster, on loopback.
    pub fn start() -> io::Result<Self> {
        Self::on(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)
    }

    /// Starts a server with an empty cluster on this socket, whose network namespace may be another one.
    pub fn on(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (orders, received) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let tasks = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let served = LocalSet::new();
            if let Err(error) = served.block_on(&runtime, serve(listener, tasks, received)) {
                log(&error);
            }
        });
        Ok(Self {
            address,
            shared,
            orders,
            thread: Some(thread),
        })
    }

    /// The address that the server listens at.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The text of a kubeconfig for the server.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        })
        .to_string()
    }

    /// Changes or reads the cluster under its lock, and notifies watches.
    pub fn with<T>(&self, act: impl FnOnce(&mut Cluster) -> T) -> T {
        let acted = act(&mut self.shared.cluster());
        self.shared.changed();
        acted
    }

    /// Closes every connection, and each later one as soon as it is accepted.
    pub fn down(&self) {
        self.order(Phase::Down);
    }

    /// Serves connections again, after closing the present ones.
    pub fn up(&self) {
        self.order(Phase::Up);
    }

    /// Closes every connection, and serves later ones.
    pub fn disconnect(&self) {
        self.order(Phase::Up);
    }

    /// Orders a phase and waits until the server has reached it.
    fn order(&self, phase: Phase) {
        let (done, is_done) = std::sync::mpsc::channel();
        if self.orders.send((phase, done)).is_ok() {
            // An error means that the thread has ended: nothing is left to do.
            is_done.recv().unwrap_or_default();
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.order(Phase::Stopped);
        if let Some(thread) = self.thread.take() {
            // The result does not matter: a panic was printed.
            drop(thread.join());
        }
    }
}

/// Prints an error of the server's thread, which otherwise shows only as requests that fail.
#[expect(clippy::print_stderr, reason = "standard error is where a test talks")]
fn log(error: &Error) {
    eprintln!("the API server for tests: {error}");
}

async fn serve(
    listener: std::net::TcpListener,
    shared: Arc<Shared>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut phase = Phase::Up;
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            order = orders.recv() => {
                let Some((now, done)) = order else {
                    return Ok(());
                };
                connections.shutdown().await;
                phase = now;
                done.send(()).unwrap_or_default();
                if phase == Phase::Stopped {
                    return Ok(());
                }
                continue;
            }
            accepted = listener.accept() => accepted?,
        };
        if phase == Phase::Down {
            continue;
        }
        let shared = Arc::clone(&shared);
        connections.spawn_local(async move {
            let service = service_fn(|request| routes::answer(Arc::clone(&shared), request));
            let connection = http1::Builder::new();
            // An error means that the client was disconnected, and has seen that itself.
            drop(
                connection
                    .serve_connection(TokioIo::new(accepted.0), service)
                    .await,
            );
        });
    }
}
