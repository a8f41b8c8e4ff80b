//! Deletes replicas that the state no longer counts on: each is a row until its server has said that it is gone.

use crate::link::{CommandError, Link};
use crate::parts::Parts;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ServerId, Term};
use cairn_core::limits::{DELETE_PATIENCE, DELETIONS_IN_FLIGHT_MAX, WORK_PAGE};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::Rows;
use cairn_core::namespace::work::{Deletion, deletions};
use futures::StreamExt;
use futures::future::join_all;
use std::sync::Arc;
use tracing::{info, warn};

/// Drains the deletions of every connected server; servers do not wait for each other.
pub(crate) async fn pass(parts: Arc<Parts>, term: Term) {
    let links = parts.servers.links();
    join_all(links.iter().map(|link| drain(&parts, term, link))).await;
}

async fn drain(parts: &Parts, term: Term, link: &Arc<Link>) {
    let server = link.server;
    let mut after = ChunkId(0);
    loop {
        let page = match deletions_on(parts, server, after).await {
            Ok(page) => page,
            Err(error) => {
                warn!(%server, %error, "deletions could not be read");
                return;
            }
        };
        let Some(newest) = page.last() else { return };
        after = newest.chunk;
        let is_last = page.len() < WORK_PAGE;
        let mut outcomes = futures::stream::iter(page)
            .map(|deletion| delete(parts, term, link, deletion))
            .buffer_unordered(DELETIONS_IN_FLIGHT_MAX);
        let mut goes_on = true;
        while let Some(may_go_on) = outcomes.next().await {
            goes_on &= may_go_on;
        }
        if is_last || !goes_on || parts.stopping.is_cancelled() {
            return;
        }
    }
}

/// A page of the deletions on one server.
pub(crate) async fn deletions_on(
    parts: &Parts,
    server: ServerId,
    after: ChunkId,
) -> Result<Vec<Deletion>, FsError> {
    let read = move |rows: &dyn Rows| deletions(rows, Some((server, after)), WORK_PAGE);
    let page = parts.reader.read(read).await?;
    Ok(page.into_iter().take_while(|deletion| deletion.server == server).collect())
}

/// False when there is no sense in asking this server further at present.
async fn delete(parts: &Parts, term: Term, link: &Link, deletion: Deletion) -> bool {
    let Deletion { server, chunk, version } = deletion;
    match link.delete(term, chunk, version, DELETE_PATIENCE).await {
        Ok(()) => {
            parts.damage.cleared(server, chunk);
            parts.metrics.replicas_deleted.inc();
            match parts.sequencer.internal(Internal::ForgetDeletion { server, chunk }).await {
                Ok(_) | Err(FsError::NotFound) => true,
                Err(error) => {
                    info!(%server, %chunk, %error, "deletion is done and will be noted later");
                    !matches!(error, FsError::NotLeader)
                }
            }
        }
        Err(CommandError::Failed(detail)) => {
            warn!(%server, %chunk, %detail, "replica could not be deleted");
            true
        }
        Err(error) => {
            info!(%server, %chunk, %error, "deletions of a server are left for later");
            false
        }
    }
}
