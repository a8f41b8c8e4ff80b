//! Health, readiness and metrics over plain HTTP.

use crate::metrics;
use crate::parts::Parts;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use cairn_core::limits::{HTTP_CONNECTION_MAX, HTTP_CONNECTIONS_MAX};
use cairn_env::net::Listener;
use cairn_env::net::bounded::{BoundedListener, BoundedStream};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tracing::error;

/// Serves until the master stops.
///
/// # Errors
/// The listening socket broke.
pub(crate) async fn serve(parts: Arc<Parts>, listener: Listener) -> io::Result<()> {
    let stopping = parts.stopping.clone();
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(parts);
    let accepting = Accepting(BoundedListener::new(listener, HTTP_CONNECTIONS_MAX, HTTP_CONNECTION_MAX));
    axum::serve(accepting, router).with_graceful_shutdown(async move { stopping.cancelled().await }).await
}

async fn ready(State(parts): State<Arc<Parts>>) -> (StatusCode, String) {
    if parts.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    match parts.term() {
        Some(term) => (StatusCode::OK, format!("leads in {term}\n")),
        None => (StatusCode::SERVICE_UNAVAILABLE, "does not lead\n".to_owned()),
    }
}

async fn show_metrics(State(parts): State<Arc<Parts>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics::page(&parts))
}

/// The network door as axum takes it: so many connections, each for so long.
struct Accepting(BoundedListener);

impl axum::serve::Listener for Accepting {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        match self.0.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                // Health pages are no reason to stop a master; nobody is accepted any more.
                error!(%error, "http socket is broken");
                std::future::pending().await
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
