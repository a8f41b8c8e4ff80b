//! The walk over all chunks: brings what they want in line with their policies, and finds those that stand where they should not or
//! have too many copies. How far it has come after a change of policies is a row, so that the next leader goes on there. When nothing
//! has changed it goes on slowly: servers come and go, and get other labels.

use crate::parts::Parts;
use crate::policies;
use crate::work::repair::is_settled;
use cairn_core::cluster::placement::{Misfit, least_misfit, misfit};
use cairn_core::cluster::repair::{Busy, Verdict, plan};
use cairn_core::cluster::{ClusterView, Policies};
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, PolicyId, Term};
use cairn_core::limits::{ALIGNED_AT_ONCE, POLICY_WALK_LAP_MIN, POLICY_WALK_PERIOD, WORK_PAGE, WORK_PAUSE};
use cairn_core::namespace::alignment::{Walked, page, walk};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::work::{ChunkRecord, chunks_named};
use cairn_core::time::Tick;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::{info, warn};

/// Where the slow walk of this leader stands.
#[derive(Default)]
pub(crate) struct Walker {
    slow: Mutex<Slow>,
}

#[derive(Clone, Copy, Default)]
struct Slow {
    next: ChunkId,
    stepped: Tick,
    lap_begun: Tick,
    /// It has come to the end and waits.
    rests: bool,
}

/// A step of the slow walk, or all of the one that somebody has asked for.
pub(crate) async fn pass(parts: Arc<Parts>, _term: Term, walker: Arc<Walker>) {
    loop {
        match step(&parts, &walker).await {
            Ok(true) => tokio::time::sleep(WORK_PAUSE).await,
            Ok(false) => return,
            Err(error) => return warn!(%error, "chunks could not be compared with their policies"),
        }
    }
}

/// One page. Whether the next one is to follow at once.
async fn step(parts: &Parts, walker: &Walker) -> Result<bool, FsError> {
    if parts.misplaced.is_full(WORK_PAGE) {
        return Ok(false);
    }
    let asked_for = parts.reader.read(walk).await?;
    let slow = *walker.slow.lock().unwrap_or_else(PoisonError::into_inner);
    let now = parts.now();
    let from = match asked_for {
        Some(row) => row.next,
        // Whatever else there is to do in between.
        None if now.since(slow.stepped) < POLICY_WALK_PERIOD => return Ok(false),
        None if slow.rests && now.since(slow.lap_begun) < POLICY_WALK_LAP_MIN => return Ok(false),
        None if slow.rests => ChunkId(0),
        None => slow.next,
    };
    let next = look(parts, from, asked_for.is_some()).await?;
    if asked_for.is_none() {
        let lap_begun = if from == ChunkId(0) { now } else { slow.lap_begun };
        let slow = Slow { next: next.unwrap_or_default(), stepped: now, lap_begun, rests: next.is_none() };
        *walker.slow.lock().unwrap_or_else(PoisonError::into_inner) = slow;
    }
    Ok(asked_for.is_some() && !parts.stopping.is_cancelled())
}

/// Looks at the page from `from` on, and brings in line what is not. Where the next one begins; `None` at the end.
async fn look(parts: &Parts, from: ChunkId, asked_for: bool) -> Result<Option<ChunkId>, FsError> {
    let read = parts.reader.read(move |rows| page(rows, from, WORK_PAGE, asked_for)).await?;
    let last = read.chunks.last().filter(|_| read.chunks.len() == WORK_PAGE);
    let next = last.map(|record| ChunkId(record.chunk.get() + 1));
    for chunks in read.out_of_line.chunks(ALIGNED_AT_ONCE) {
        let chunks = chunks.to_vec();
        parts.sequencer.internal(Internal::AlignChunks { chunks, walked: None }).await?;
    }
    if asked_for {
        // Behind those of this page: a leader that ends here leaves it to be looked at once more.
        let walked = Some(next.map_or(Walked::Through, Walked::To));
        parts.sequencer.internal(Internal::AlignChunks { chunks: Vec::new(), walked }).await?;
    }
    let mut found = misplaced(parts, &read.chunks, &policies::current(parts).await?);
    if !read.out_of_line.is_empty() {
        let count = read.out_of_line.len();
        info!(%from, count, "chunks are in line with their policies");
        let changed = read.out_of_line;
        // What they want has changed since they were read.
        found.retain(|chunk| changed.binary_search(chunk).is_err());
        let records = parts.reader.read(move |rows| chunks_named(rows, &changed)).await?;
        found.extend(misplaced(parts, &records, &policies::current(parts).await?));
    }
    if !found.is_empty() {
        parts.misplaced.note(found);
        parts.nudge();
    }
    Ok(next)
}

/// Those of which a replica is to move or to be given up. What lacks copies, and what stands on servers that are being emptied, is
/// found elsewhere.
fn misplaced(parts: &Parts, records: &[ChunkRecord], policies: &Policies) -> Vec<ChunkId> {
    let view = &parts.servers.view(parts.now());
    let mut least: BTreeMap<(PolicyId, u8), Misfit> = BTreeMap::new();
    let mut found = Vec::new();
    for record in records.iter().filter(|record| is_settled(record)) {
        let (wanted, required) = (usize::from(record.wanted), policies.required(record.policy));
        let known = least.entry((record.policy, record.wanted));
        let least = *known.or_insert_with(|| least_misfit(view, wanted, required));
        // Where servers or domains are too few, nothing fits, and a look for something better at each chunk would be a long one.
        let may_fit_better = misfit(view, &record.servers, required) > least;
        let may_be_found = may_fit_better || record.servers.len() > wanted;
        if may_be_found && is_misplaced(parts, view, record, policies) {
            found.push(record.chunk);
        }
    }
    found
}

fn is_misplaced(parts: &Parts, view: &ClusterView, record: &ChunkRecord, policies: &Policies) -> bool {
    let bad = parts.damage.bad_at(record.chunk, &record.servers);
    let replicas = policies::replicas(record, (&bad, &[]), policies);
    replicas.left(view).len() >= usize::from(record.wanted)
        && matches!(plan(view, &Busy::default(), replicas, &[], record.chunk.get()), Verdict::Repair(_))
}
