// SPDX-License-Identifier: MIT OR Apache-2.0
//! The server: a thread that listens on loopback, until it is dropped.
#![expect(
    clippy::indexing_slicing,
    reason = "a key that JSON does not have is made when it is written"
)]

use std::{
    convert::Infallible,
    io::{self, Error},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::{JoinSet, LocalSet},
};

use super::{cluster::Cluster, listing, watching};

pub(super) type Body = UnsyncBoxBody<Bytes, Error>;

/// An API server. Dropped, it is down for ever.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    orders: mpsc::UnboundedSender<Order>,
    thread: Option<JoinHandle<()>>,
}

/// What the server's tasks and the test share.
#[derive(Debug)]
pub(super) struct Shared {
    cluster: Mutex<Cluster>,
    /// Counts the changes of the cluster.
    changes: watch::Sender<u64>,
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
        let shared = Arc::new(Shared {
            cluster: Mutex::default(),
            changes: watch::Sender::new(0),
        });
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

impl Shared {
    pub(super) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        let cluster = self.cluster.lock();
        cluster.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changed(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Sees changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
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
            let service = service_fn(|request| answer(Arc::clone(&shared), request));
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

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let target = parts.uri.to_string();
    shared
        .cluster()
        .requests
        .push(format!("{} {target}", parts.method));
    shared.changed();
    let path = parts.uri.path();
    let query = Query(parts.uri.query().unwrap_or_default());
    let body = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or(Value::Null);
    Ok(match (&parts.method, path) {
        (&Method::GET, "/api/v1/pods") => {
            let Some(node) = query.get("fieldSelector").and_then(node) else {
                return Ok(status(400, "this server only knows spec.nodeName=NODE"));
            };
            if query.get("watch") == Some("true") {
                watching::answer(&shared, &query, node).await
            } else {
                listing::answer(&shared, &query, node).await
            }
        }
        (&Method::GET, path) if pod_name(path).is_some() => {
            one(&shared, &pod_name(path).unwrap_or_default())
        }
        (&Method::POST, path) if path.ends_with("/events") => post(&shared, path, body),
        (&Method::PATCH, path) if path.contains("/events/") => patch(&shared, path, &body),
        _ => status(404, "this server knows pods and Events"),
    })
}

/// `namespace/name`, of the path of one pod.
fn pod_name(path: &str) -> Option<String> {
    let path = path.strip_prefix("/api/v1/namespaces/")?;
    let (namespace, name) = path.split_once("/pods/")?;
    Some(format!("{namespace}/{name}"))
}

fn one(shared: &Shared, name: &str) -> Response<Body> {
    let mut cluster = shared.cluster();
    if let Some(code) = cluster.gets.pop_front() {
        return status(code, "as the script says");
    }
    match cluster.pods().get(name) {
        Some(pod) => whole(StatusCode::OK, pod),
        None => status(404, "no such pod"),
    }
}

/// The node of a field selector, as it is encoded in a query.
fn node(selector: &str) -> Option<&str> {
    selector.strip_prefix("spec.nodeName%3D")
}

/// A query, of which no value needs decoding but the field selector.
pub(super) struct Query<'a>(&'a str);

impl Query<'_> {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    }
}

fn post(shared: &Shared, path: &str, mut event: Value) -> Response<Body> {
    let mut cluster = shared.cluster();
    let code = cluster.posts.pop_front().unwrap_or(201);
    if code != 201 {
        return status(code, "as the script says");
    }
    event["path"] = json!(path);
    cluster.events.push(event.clone());
    drop(cluster);
    shared.changed();
    whole(StatusCode::CREATED, &event)
}

fn patch(shared: &Shared, path: &str, change: &Value) -> Response<Body> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut cluster = shared.cluster();
    let mut events = cluster.events.iter_mut();
    let patched = events
        .find(|event| event["metadata"]["name"] == name)
        .map(|event| {
            for (key, value) in change.as_object().into_iter().flatten() {
                event[key] = value.clone();
            }
            event.clone()
        });
    drop(cluster);
    patched.map_or_else(
        || status(404, "no such Event"),
        |event| whole(StatusCode::OK, &event),
    )
}

/// A whole answer.
pub(super) fn whole(status: StatusCode, body: &Value) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_string()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// A failure, as the API says it.
pub(super) fn status(code: u16, message: &str) -> Response<Body> {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    whole(status, &failure(code, message))
}

pub(super) fn failure(code: u16, message: &str) -> Value {
    let reason = if code == 404 { "NotFound" } else { "Scripted" };
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {},
        "status": "Failure", "reason": reason, "code": code, "message": message,
    })
}

/// An answer in pieces.
pub(super) fn stream(
    pieces: impl futures_util::Stream<Item = Result<Frame<Bytes>, Error>> + Send + 'static,
) -> Response<Body> {
    Response::new(StreamBody::new(pieces).boxed_unsync())
}

/// What ends a connection in the middle.
pub(super) fn cut() -> Error {
    Error::from(io::ErrorKind::ConnectionAborted)
}
