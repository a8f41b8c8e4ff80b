//! Raising the version of a chunk on the servers that still answer: the fence between what a writer sent under the old
//! replica set and what it sends under the new one.

use crate::link::CommandError;
use crate::parts::Parts;
use crate::sequencer::RaiseOrder;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ChunkVersion, InodeId, ServerId, Term};
use cairn_core::limits::RAISE_PATIENCE;
use cairn_core::namespace::work::lease_of;
use cairn_core::session::Raised;
use futures::future::join_all;
use std::time::Duration;
use tracing::{info, warn};

/// Commands the raise on every survivor at once and reports who has it on stable storage. Who is not connected, fails or
/// is later than [`RAISE_PATIENCE`] is left out: the version that it missed fences it. A writer waits for this.
pub(crate) async fn raise_survivors(parts: &Parts, term: Term, order: &RaiseOrder) -> Raised {
    // Whoever lost writes fails the writer's next sync: nothing is made equal to it here.
    let raise_all = (&order.survivors[..], RAISE_PATIENCE);
    let raises = raise(parts, term, order.chunk, (order.from, order.to), raise_all, false).await;
    let servers = raised(&raises);
    info!(chunk = %order.chunk, from = %order.from, to = %order.to, survivors = ?servers, "replica set is replaced");
    Raised { to: order.to, servers }
}

/// What became of a raise on each server.
pub(crate) type Raises = Vec<(ServerId, Result<(), CommandError>)>;

/// Those that have raised it.
pub(crate) fn raised(raises: &Raises) -> Vec<ServerId> {
    raises.iter().filter(|(_, outcome)| outcome.is_ok()).map(|&(server, _)| server).collect()
}

/// Raises `chunk` on those of the servers that answer within `patience`, and if `whole` have lost no acknowledged writes; their order
/// is kept.
pub(crate) async fn raise(
    parts: &Parts,
    term: Term,
    chunk: ChunkId,
    versions: (ChunkVersion, ChunkVersion),
    (servers, patience): (&[ServerId], Duration),
    whole: bool,
) -> Raises {
    let attempts = servers.iter().map(|&server| async move {
        let outcome = match parts.servers.link(server) {
            Some(link) => link.raise(term, chunk, versions, whole, patience).await,
            None => Err(CommandError::Gone),
        };
        if let Err(error) = &outcome {
            warn!(%chunk, %server, %error, "replica is left behind: its version could not be raised");
        }
        (server, outcome)
    });
    join_all(attempts).await
}

/// Whether somebody may write the chunks of `inode`, and counts on what its replicas have acknowledged and not synced. A replica that
/// lost such writes must not be what the others are made equal to. Asked after the raise was journaled.
pub(crate) async fn is_written(parts: &Parts, inode: InodeId) -> Result<bool, FsError> {
    let lease = parts.reader.read(move |rows| lease_of(rows, inode)).await?;
    Ok(lease.is_some())
}
