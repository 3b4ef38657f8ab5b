//! What can be asked by HTTP: `/metrics`, `/healthz`, `/readyz`.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::watch, task};
use tracing::debug;

use crate::{metrics::Metrics, status::Board};

/// The media type of `OpenMetrics`.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is answered from.
#[derive(Clone, Debug)]
pub struct Answers {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For the others.
    pub board: Arc<Board>,
}

/// Listens at an address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listen at {address} (--metrics-listen)"))
}

/// Answers whoever asks, until it is told to stop.
pub async fn serve(listener: TcpListener, answers: Answers, mut stopping: watch::Receiver<bool>) {
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Such as no free descriptors; others go on meanwhile.
                debug!(%error, "accept a connection");
                task::yield_now().await;
                continue;
            }
        };
        let answers = answers.clone();
        task::spawn(async move {
            let service = service_fn(|request| {
                let answers = answers.clone();
                async move { Ok::<_, Infallible>(answers.answer(&request).await) }
            });
            let connection = http1::Builder::new()
                // Limits how long a client may take to ask.
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                debug!(%error, "serve a connection");
            }
        });
    }
}

impl Answers {
    async fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            "/healthz" => verdict(self.board.read().health()),
            "/readyz" => verdict(self.board.read().readiness()),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /metrics, /healthz and /readyz\n".to_owned(),
            ),
        }
    }

    async fn metrics(&self) -> Response<String> {
        let metrics = Arc::clone(&self.metrics);
        // It waits for a lock.
        match task::spawn_blocking(move || metrics.text()).await {
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

fn verdict(result: Result<(), String>) -> Response<String> {
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
