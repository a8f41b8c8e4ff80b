//! Health, readiness and metrics over plain HTTP.

use crate::joined::Joined;
use crate::metrics::Metrics;
use crate::store::{ChunkStore, DiskState};
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
use tokio_util::sync::CancellationToken;
use tracing::error;

/// What the pages are made of.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) store: ChunkStore,
    pub(crate) joined: Arc<Joined>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stopping: CancellationToken,
}

/// Serves until the server stops.
pub(crate) async fn serve(pages: Pages, listener: Listener) {
    let stopping = pages.stopping.clone();
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(show_metrics))
        .with_state(pages);
    let accepting = Accepting(BoundedListener::new(listener, HTTP_CONNECTIONS_MAX, HTTP_CONNECTION_MAX));
    let served = axum::serve(accepting, router)
        .with_graceful_shutdown(async move { stopping.cancelled().await })
        .await;
    if let Err(error) = served {
        error!(%error, "health pages have ended");
    }
}

/// 503 while waiting may help, 409 when only a change from outside can.
async fn ready(State(pages): State<Pages>) -> (StatusCode, String) {
    let unready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    let never = |why: String| (StatusCode::CONFLICT, format!("{why}\n"));
    if pages.stopping.is_cancelled() {
        return unready("stopping");
    }
    if pages.store.disks().iter().all(|disk| disk.state == DiskState::Failed) {
        return never("every disk has failed: see the log, then restart the chunkserver".to_owned());
    }
    match (pages.joined.masters_connected(), pages.joined.server(), pages.joined.refused()) {
        (1.., Some(server), _) => (StatusCode::OK, format!("serves as {server}\n")),
        (_, _, Some((master, why))) => never(format!("master {master} refuses this chunkserver: {why}")),
        _ => unready("no master has registered this chunkserver: check `masters` in its configuration"),
    }
}

async fn show_metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], pages.metrics.page(&pages.store, &pages.joined))
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
                // Health pages are no reason to stop a chunk server; nobody is accepted any more.
                error!(%error, "http socket is broken");
                std::future::pending().await
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
