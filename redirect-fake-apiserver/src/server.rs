// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server: a thread that listens on loopback, until it is dropped.
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

/// An API server. Dropped, it is down for ever.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// What the server is to be, after it has closed every connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Up,
    Down,
    Stopped,
}

/// A phase, and where it is said that it has come.
type Order = (Phase, std::sync::mpsc::Sender<()>);

impl ApiServer {
    /// Starts one that knows nothing, on loopback.
    pub fn start() -> io::Result<Self> {
        Self::on(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?)
    }

    /// Starts one that knows nothing and listens here, in whichever network namespace that is.
    pub fn on(listener: std::net::TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (orders, to_do) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let tasks = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            let served = LocalSet::new();
            if let Err(error) = served.block_on(&runtime, serve(listener, tasks, to_do)) {
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

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The text of a kubeconfig for it.
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

    /// Changes the cluster, all at once; watches are told of it.
    pub fn with<T>(&self, act: impl FnOnce(&mut Cluster) -> T) -> T {
        let acted = act(&mut self.shared.cluster());
        self.shared.changed();
        acted
    }

    /// Closes every connection, and accepts none.
    pub fn down(&self) {
        self.order(Phase::Down);
    }

    /// Accepts connections again, after closing those that there are.
    pub fn up(&self) {
        self.order(Phase::Up);
    }

    /// Closes every connection, and goes on.
    pub fn cut(&self) {
        self.order(Phase::Up);
    }

    /// Waits until it is done.
    fn order(&self, phase: Phase) {
        let (done, is_done) = std::sync::mpsc::channel();
        if self.orders.send((phase, done)).is_ok() {
            // If its thread has ended there is nothing left to do.
            is_done.recv().unwrap_or_default();
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.order(Phase::Stopped);
        if let Some(thread) = self.thread.take() {
            // It ends, panicked or not.
            drop(thread.join());
        }
    }
}

/// Nothing else tells why nobody answers.
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
            // Whoever was cut off knows it.
            drop(
                connection
                    .serve_connection(TokioIo::new(accepted.0), service)
                    .await,
            );
        });
    }
}
