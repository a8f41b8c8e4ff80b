//! Deletes replicas that the state no longer counts on: each is a row until its server has said that it is gone.

use crate::link::{CommandError, Link};
use crate::parts::Parts;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ChunkVersion, ServerId, Term};
use cairn_core::limits::{
    DELETE_PATIENCE, DELETION_GROUPS_A_PASS, DELETIONS_AT_ONCE, DELETIONS_IN_FLIGHT_MAX, DELETIONS_PAUSE,
    WORK_PAGE,
};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::Rows;
use cairn_core::namespace::work::{Deletion, deletions};
use futures::StreamExt;
use futures::future::join_all;
use std::sync::Arc;
use tracing::{info, warn};

/// Works at the deletions of every connected server, of each for some seconds at most: the next pass does not wait for one that
/// has a million of them.
pub(crate) async fn pass(parts: Arc<Parts>, term: Term) {
    let links = parts.servers.links();
    join_all(links.iter().map(|link| drain(&parts, term, link))).await;
}

async fn drain(parts: &Parts, term: Term, link: &Arc<Link>) {
    let server = link.server;
    let (mut after, mut groups) = (ChunkId(0), 0);
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
        for group in page.chunks(DELETIONS_AT_ONCE) {
            let Some(gone) = delete_all(parts, term, link, group).await else { return };
            if parts.stopping.is_cancelled() {
                return;
            }
            // What cannot be deleted at present must not keep back what comes after it.
            if gone > 0 && has_room(parts, server) {
                groups += 1;
                if groups == DELETION_GROUPS_A_PASS {
                    return parts.nudge();
                }
                tokio::time::sleep(DELETIONS_PAUSE).await;
            }
        }
        if is_last {
            return;
        }
    }
}

/// Whether nobody waits for the space.
fn has_room(parts: &Parts, server: ServerId) -> bool {
    let view = parts.servers.view(parts.env.clock.now());
    view.servers.get(&server).is_some_and(|server| server.free_bytes > server.total_bytes / 4)
}

/// How many are gone; `None` when there is no sense in going on at present.
async fn delete_all(parts: &Parts, term: Term, link: &Link, group: &[Deletion]) -> Option<usize> {
    let mut outcomes = futures::stream::iter(group.to_vec())
        .map(|deletion| delete(parts, term, link, deletion))
        .buffer_unordered(DELETIONS_IN_FLIGHT_MAX);
    let (mut gone, mut goes_on) = (Vec::new(), true);
    while goes_on && let Some(outcome) = outcomes.next().await {
        match outcome {
            Deleted::Gone(chunk, version) => gone.push((chunk, version)),
            Deleted::NotYet => {}
            // Those under way are asked for again, and found to be gone then.
            Deleted::Unreachable => goes_on = false,
        }
    }
    let count = gone.len();
    let is_noted = gone.is_empty() || forget(parts, link.server, gone).await;
    (is_noted && goes_on).then_some(count)
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

/// What has become of a deletion.
enum Deleted {
    Gone(ChunkId, ChunkVersion),
    /// The server could not: another time.
    NotYet,
    /// There is no sense in asking this server further at present.
    Unreachable,
}

async fn delete(parts: &Parts, term: Term, link: &Link, deletion: Deletion) -> Deleted {
    let Deletion { server, chunk, version } = deletion;
    match link.delete(term, chunk, version, DELETE_PATIENCE).await {
        Ok(()) => {
            parts.damage.cleared(server, chunk);
            parts.metrics.replicas_deleted.inc();
            Deleted::Gone(chunk, version)
        }
        Err(CommandError::Failed(detail)) => {
            warn!(%server, %chunk, %detail, "replica could not be deleted");
            Deleted::NotYet
        }
        Err(error) => {
            info!(%server, %chunk, %error, "deletions of a server are left for later");
            Deleted::Unreachable
        }
    }
}

/// Notes that these are gone. False when there is no sense in going on: they are asked for again, and found to be gone already.
async fn forget(parts: &Parts, server: ServerId, chunks: Vec<(ChunkId, ChunkVersion)>) -> bool {
    match parts.sequencer.internal(Internal::ForgetDeletions { server, chunks }).await {
        Ok(_) => true,
        Err(error) => {
            info!(%server, %error, "deletions are done and will be noted later");
            !matches!(error, FsError::NotLeader)
        }
    }
}
