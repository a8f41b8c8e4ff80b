//! What clients have met at chunk servers, told with their renewals: a hint where to look, never a verdict.

use crate::parts::Parts;
use cairn_core::ids::{ChunkId, SessionId};
use cairn_core::limits::{OBSERVATIONS_PER_RENEWAL_MAX, REPLICA_CHECK_PATIENCE};
use cairn_proto::v1::{Observation, ObservationKind};
use std::sync::Arc;
use tracing::{info, warn};

/// Takes what `session` tells. Beyond the bound nothing is looked at.
pub(crate) fn take(parts: &Arc<Parts>, session: SessionId, seen: Vec<Observation>) {
    for observation in seen.into_iter().take(OBSERVATIONS_PER_RENEWAL_MAX) {
        match observation.kind() {
            ObservationKind::ObservedUnreachable | ObservationKind::ObservedSlow => {
                parts.servers.doubt(&observation.address, session, parts.now());
            }
            ObservationKind::ObservedCorrupt => {
                check(parts, session, &observation.address, ChunkId(observation.chunk));
            }
            ObservationKind::ObservationUnspecified => {}
        }
    }
}

/// Has the server look for itself. What it finds it reports; if it finds nothing, the fault is the client's or the network's.
fn check(parts: &Arc<Parts>, session: SessionId, address: &str, chunk: ChunkId) {
    let Some(term) = parts.term() else { return };
    let Some(link) = parts.servers.to_check(address, chunk, parts.now()) else { return };
    info!(%session, server = %link.server, %chunk, "a client got damaged bytes; the server looks at its replica");
    drop(tokio::spawn(async move {
        match link.check(term, chunk, REPLICA_CHECK_PATIENCE).await {
            Ok(()) => warn!(
                %session, server = %link.server, %chunk,
                "a client got damaged bytes of a replica that is whole: look at the memory and the network of both"
            ),
            Err(error) => info!(server = %link.server, %chunk, %error, "replica was looked at"),
        }
    }));
}
