//! Accepts data-plane connections, as many as there are places for.

use crate::data_service::DataService;
use crate::metrics::Metrics;
use cairn_core::limits::DATA_CONNECTIONS_MAX;
use cairn_env::net::Listener;
use cairn_env::net::stream::Stream;
use cairn_proto::data_conn::{ConnError, ServeOptions, serve};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};

/// Serves until `stopping`; connections are then closed, and `tasks` ends with the last of their requests.
pub(crate) async fn listen(
    mut listener: Listener,
    service: Arc<DataService>,
    options: ServeOptions,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(DATA_CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                error!(%error, "the data listener broke; stopping the server");
                stopping.cancel();
                return;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            warn!(%peer, limit = DATA_CONNECTIONS_MAX, "connection refused: too many");
            continue;
        };
        metrics.connection_opened();
        let connection = Connection {
            stream,
            peer,
            service: service.clone(),
            options: options.clone(),
            metrics: metrics.clone(),
            stopping: stopping.clone(),
            _place: place,
        };
        tasks.spawn(connection.run());
    }
}

struct Connection {
    stream: Stream,
    peer: SocketAddr,
    service: Arc<DataService>,
    options: ServeOptions,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn run(self) {
        let (read, write) = self.stream.into_split();
        let name = format!("peer {}", self.peer);
        let peer = self.peer;
        let served = tokio::select! {
            served = serve(read, write, &name, &self.options, self.service) => served,
            () = self.stopping.cancelled() => return,
        };
        self.metrics.connection_closed();
        match served {
            Ok(()) | Err(ConnError::Closed { .. } | ConnError::ClosedHere { .. }) => {
                debug!(%peer, "connection ended")
            }
            Err(error @ (ConnError::Protocol { .. } | ConnError::Refused { .. })) => {
                warn!(%peer, %error, "connection refused");
            }
            Err(error) => info!(%peer, %error, "connection ended"),
        }
    }
}
