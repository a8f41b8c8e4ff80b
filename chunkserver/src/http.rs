//! What the health pages of a chunk server say.

use crate::joined::Joined;
use crate::metrics::Metrics;
use crate::store::{ChunkStore, DiskState};
use cairn_env::net::Listener;
use cairn_env::net::pages::{self, Readiness};
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
    let stopped = pages.stopping.clone().cancelled_owned();
    let shown = pages.clone();
    let metrics = move || shown.metrics.page(&shown.store, &shown.joined);
    if let Err(error) = pages::serve(listener, move || readiness(&pages), metrics, stopped).await {
        error!(%error, "health pages have ended");
    }
}

fn readiness(pages: &Pages) -> Readiness {
    if pages.stopping.is_cancelled() {
        return Readiness::NotYet("stopping".to_owned());
    }
    if pages.store.disks().iter().all(|disk| disk.state == DiskState::Failed) {
        return Readiness::Never(
            "every disk has failed: see the log, then restart the chunkserver".to_owned(),
        );
    }
    match (pages.joined.masters_connected(), pages.joined.server(), pages.joined.refused()) {
        (1.., Some(server), _) => Readiness::Ready(format!("serves as {server}")),
        (_, _, Some((master, why))) => {
            Readiness::Never(format!("master {master} refuses this chunkserver: {why}"))
        }
        _ => Readiness::NotYet(
            "no master has registered this chunkserver: check `masters` in its configuration".to_owned(),
        ),
    }
}
