//! What the store notices on its own, counted and handed to every master's stream.

use crate::heartbeat::Happened;
use crate::metrics::Metrics;
use crate::store::{ReplicaStat, StoreEvent};
use cairn_proto::v1::{ReplicaEvent, ReplicaState};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// Relays until the store is gone or the server stops.
pub(crate) async fn relay(
    mut source: mpsc::Receiver<StoreEvent>,
    happened: broadcast::Sender<Happened>,
    metrics: Arc<Metrics>,
    stopping: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            () = stopping.cancelled() => return,
            event = source.recv() => event,
        };
        let Some(event) = event else { return };
        // Nobody may be connected; lists and heartbeats tell the state later.
        let _ = happened.send(tell(event, &metrics));
    }
}

fn tell(event: StoreEvent, metrics: &Metrics) -> Happened {
    match event {
        StoreEvent::Corrupt { replica, offset, detail } => {
            warn!(chunk = %replica.chunk, disk = %replica.disk, offset, detail, "block does not verify");
            metrics.corrupt_block();
            Happened::Replica(corrupt(&replica, format!("byte {offset}: {detail}")))
        }
        StoreEvent::Mended { replica } => Happened::Replica(ReplicaEvent {
            state: ReplicaState::ReplicaGood.into(),
            ..corrupt(&replica, String::new())
        }),
        StoreEvent::DiskFailed { disk, path, detail } => {
            error!(%disk, path = %path.display(), detail, "disk has failed");
            Happened::DisksChanged
        }
        // Told and logged by the disk itself.
        StoreEvent::DiskPaceChanged { .. } => Happened::DisksChanged,
    }
}

/// What masters are told of a corrupt replica.
pub(crate) fn corrupt(replica: &ReplicaStat, detail: String) -> ReplicaEvent {
    ReplicaEvent {
        chunk: replica.chunk.get(),
        version: replica.version.get(),
        disk: replica.disk.0.as_bytes().to_vec().into(),
        state: ReplicaState::ReplicaCorrupt.into(),
        detail,
    }
}
