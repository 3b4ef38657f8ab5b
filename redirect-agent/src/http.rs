//! The HTTP server: `/metrics`, `/healthz` and `/readyz`.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, watch},
    task,
    time::timeout,
};

use crate::{accept, metrics::Metrics, status::StatusStore};

/// Media type of `OpenMetrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Time limit for a connection: a slow client keeps others waiting.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers HTTP requests.
#[derive(Clone, Debug)]
pub struct HttpHandler {
    /// Source of `/metrics`.
    metrics: Arc<Metrics>,
    /// Source of `/healthz` and `/readyz`.
    status: Arc<StatusStore>,
    /// Admits one scrape at a time. Scrapes whose read locks overlap would keep the writer out.
    scrape_lock: Arc<Mutex<()>>,
}

/// Listens at an address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen at {address} (--metrics-listen)"))
}

/// Serves HTTP until the agent is stopped.
pub async fn serve(listener: TcpListener, handler: HttpHandler, stopping: watch::Receiver<bool>) {
    let serve_connection = |stream| serve_connection(stream, handler.clone());
    accept::serve_each(listener, serve_connection, stopping).await;
}

/// Serves one request.
async fn serve_connection(stream: TcpStream, handler: HttpHandler) -> Result<()> {
    let service = service_fn(|request| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handler.handle(&request).await) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    Ok(timeout(CLIENT_TIMEOUT, connection).await??)
}

impl HttpHandler {
    /// A handler with these metrics and this status.
    pub fn new(metrics: Arc<Metrics>, status: Arc<StatusStore>) -> Self {
        Self {
            metrics,
            status,
            scrape_lock: Arc::default(),
        }
    }

    async fn handle(&self, request: &Request<Incoming>) -> Response<String> {
        if request.method() != Method::GET {
            return text(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET is supported\n".to_owned(),
            );
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            "/healthz" => probe_response(self.status.snapshot().health()),
            "/readyz" => probe_response(self.status.snapshot().readiness()),
            _ => text(
                StatusCode::NOT_FOUND,
                "not found: there are /metrics, /healthz and /readyz\n".to_owned(),
            ),
        }
    }

    async fn metrics(&self) -> Response<String> {
        let scrape = Arc::clone(&self.scrape_lock).lock_owned().await;
        let metrics = Arc::clone(&self.metrics);
        let read = move || {
            // Blocks until the lock of the state directory is free.
            let text = metrics.text();
            drop(scrape);
            text
        };
        match task::spawn_blocking(read).await {
            Ok(Ok(body)) => {
                let mut response = text(StatusCode::OK, body);
                let kind = HeaderValue::from_static(OPEN_METRICS);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Ok(Err(_)) | Err(_) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the metrics could not be written\n".to_owned(),
            ),
        }
    }
}

fn probe_response(result: Result<(), String>) -> Response<String> {
    match result {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => text(StatusCode::SERVICE_UNAVAILABLE, reason + "\n"),
    }
}

fn text(status: StatusCode, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
