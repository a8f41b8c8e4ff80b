//! Taking the lead over: founds the cluster's first rows if there are none, and loads what only a leader keeps in memory.

use crate::link::Link;
use crate::moving::disk_drain;
use crate::parts::Parts;
use crate::sequencer::Leadership;
use cairn_core::error::FsError;
use cairn_core::ids::Term;
use cairn_core::limits::{FEATURE_LEVEL, FENCE_PATIENCE, TAKE_OVER_PAUSE, WORK_PAGE};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::work::{cluster, servers, sessions};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tracing::{error, info, warn};

/// Takes the lead over each time that this member gets it, until the master stops.
pub(crate) async fn follow_leadership(parts: Arc<Parts>) {
    let mut leadership = parts.leadership.clone();
    loop {
        let now = *leadership.borrow_and_update();
        match now {
            Leadership::Leads { term } => match take_over(&parts).await {
                Ok(()) => {
                    parts.taken_over.store(term.get(), Ordering::Release);
                    info!(%term, sessions = parts.sessions.len(), "master leads");
                    parts.publish_view();
                    parts.servers.links().into_iter().for_each(|link| fence(term, link));
                    parts.nudge();
                }
                Err(error) => {
                    warn!(%term, %error, "the lead could not be taken over yet");
                    tokio::time::sleep(TAKE_OVER_PAUSE).await;
                    if *parts.leadership.borrow() == now && !parts.stopping.is_cancelled() {
                        continue;
                    }
                }
            },
            Leadership::Follows { .. } => {
                parts.taken_over.store(Term(0).get(), Ordering::Release);
                parts.sessions.disconnect_all();
            }
            Leadership::Stopped => parts.taken_over.store(Term(0).get(), Ordering::Release),
        }
        tokio::select! {
            () = parts.stopping.cancelled() => return,
            changed = leadership.changed() => {
                if changed.is_err() {
                    // The sequencer is gone; the server sees that as well and stops.
                    parts.stopping.cancelled().await;
                    return;
                }
            }
        }
    }
}

/// Tells a chunk server who leads, so that it obeys nobody who led before, whatever is still on its way from there. Nobody waits
/// for it: whoever cannot be told has no other word of this leader either, and every command carries the term.
pub(crate) fn fence(term: Term, link: Arc<Link>) {
    drop(tokio::spawn(async move {
        if let Err(error) = link.fence(term, FENCE_PATIENCE).await {
            info!(server = %link.server, %term, %error, "chunk server was not told of the new leader");
        }
    }));
}

async fn take_over(parts: &Parts) -> Result<(), FsError> {
    if parts.reader.read(cluster).await?.is_none() {
        let replicas = parts.config.default_replicas;
        let format = Internal::Format {
            cluster: parts.cluster,
            default_replicas: replicas,
            feature_level: FEATURE_LEVEL,
        };
        parts.sequencer.internal(format).await?;
        info!(cluster = %parts.cluster, replicas, "a new cluster is founded");
    }
    if let Some(record) = parts.reader.read(cluster).await?
        && record.cluster != parts.cluster
    {
        error!(state = %record.cluster, superblock = %parts.cluster, "state and superblock name different clusters");
        return Err(FsError::Io("state and superblock name different clusters".to_owned()));
    }
    let (mut after, mut known) = (None, Vec::new());
    loop {
        let page = parts.reader.read(move |rows| servers(rows, after, WORK_PAGE)).await?;
        let Some(newest) = page.last().map(|record| record.server) else { break };
        after = Some(newest);
        known.extend(page);
    }
    parts.servers.load(known, parts.now());
    parts.servers.load_disk_drains(disk_drain::recorded(parts).await?);
    // What an earlier lead of this member had begun is as good as never begun.
    parts.recalls.begin_anew();
    parts.strays.begin_anew();
    parts.departures.begin_anew();
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let page = parts.reader.read(move |rows| sessions(rows, after, WORK_PAGE)).await?;
        let Some(newest) = page.last().map(|record| record.session) else { break };
        after = Some(newest);
        all.extend(page);
    }
    parts.caching.inherit(all.iter().map(|record| record.session), parts.now());
    parts.sessions.load(all, parts.now());
    Ok(())
}
