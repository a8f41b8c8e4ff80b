//! How many good copies chunks have, without a look at all of them: whoever has fewer than it is to have stands in a row of the
//! repairs, has a replica on a server that is away, or one that is known to be bad.

use crate::parts::Parts;
use cairn_core::error::FsError;
use cairn_core::ids::ChunkId;
use cairn_core::limits::{ADMIN_COUNT_MAX, COPIES_COUNTED_MAX, WORK_PAGE};
use cairn_core::namespace::work::{ChunkRecord, chunks_named, reconciliations, repairs, replicas_on};
use cairn_proto::v1::{CopiesCount, StateCount};
use std::collections::{BTreeMap, BTreeSet};

/// Chunks by the number of their good copies.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    by_copies: BTreeMap<u32, u64>,
    /// Chunks with fewer than they are to have.
    pub(crate) short: u64,
    /// False when there were too many to look at all of them.
    pub(crate) exact: bool,
}

impl Copies {
    /// For the status.
    pub(crate) fn rows(&self) -> Vec<CopiesCount> {
        self.by_copies.iter().map(|(&copies, &chunks)| CopiesCount { copies, chunks }).collect()
    }

    /// Chunks with so many good copies, fewer than they are to have.
    pub(crate) fn with(&self, copies: u32) -> u64 {
        self.by_copies.get(&copies).copied().unwrap_or(0)
    }

    /// The largest number of good copies that is too few for some chunk; 0 when there is none.
    pub(crate) fn most(&self) -> u32 {
        self.by_copies.last_key_value().map_or(0, |(&copies, _)| copies)
    }

    /// Chunks that cannot be read at present.
    pub(crate) fn lost(&self) -> u64 {
        self.with(0)
    }
}

/// Counts the copies of every chunk that may have too few.
///
/// # Errors
/// This master does not lead, or its state cannot be read.
pub(crate) async fn copies(parts: &Parts) -> Result<Copies, FsError> {
    let (suspects, exact) = suspects(parts).await?;
    let mut copies = Copies { exact, ..Copies::default() };
    let suspects: Vec<ChunkId> = suspects.into_iter().collect();
    for page in suspects.chunks(WORK_PAGE) {
        let asked = page.to_vec();
        let records = parts.reader.read(move |rows| chunks_named(rows, &asked)).await?;
        let view = parts.servers.view(parts.now());
        // Those of a writer that goes on are its business: it replaces what it cannot reach.
        for record in records.iter().filter(|record| record.owner.is_none()) {
            let bad = parts.damage.bad_at(record.chunk, &record.servers);
            let is_good = |server: &&_| view.health(**server).is_reachable() && !bad.contains(server);
            let good = record.servers.iter().filter(is_good).count();
            if good < usize::from(record.wanted) {
                *copies.by_copies.entry(good as u32).or_default() += 1;
                copies.short += 1;
            }
        }
    }
    Ok(copies)
}

/// How many chunks have a set that is smaller than is wanted. Those that nothing refers to yet do not count: a client
/// was given them ahead, and what it writes there is repaired when a file refers to it.
///
/// # Errors
/// As [`copies`].
pub(crate) async fn short_sets(parts: &Parts) -> Result<u64, FsError> {
    let (mut sum, mut after) = (0, None);
    while sum < ADMIN_COUNT_MAX {
        let page = parts.reader.read(move |rows| repairs(rows, after, WORK_PAGE)).await?;
        let Some(&last) = page.last() else { break };
        after = Some(last);
        let chunks = page.into_iter().map(|(_, chunk)| chunk).collect();
        let is_short = |record: &ChunkRecord| record.servers.len() < usize::from(record.wanted);
        sum += referred_to(parts, chunks, is_short).await?;
    }
    Ok(sum)
}

/// How many chunks wait for their replicas to be made equal; a replacement under way counts only while it lasts. Those that
/// nothing refers to yet do not count: whoever was given them goes on elsewhere, and they are looked at when that ends.
///
/// # Errors
/// As [`copies`].
pub(crate) async fn pending_reconciliations(parts: &Parts) -> Result<u64, FsError> {
    let (mut sum, mut after) = (0, None);
    while sum < ADMIN_COUNT_MAX {
        let page = parts.reader.read(move |rows| reconciliations(rows, after, WORK_PAGE)).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        let chunks = page.into_iter().map(|(chunk, _)| chunk).collect();
        sum += referred_to(parts, chunks, |_| true).await?;
    }
    Ok(sum)
}

/// How many of these belong to no client alone, and count.
async fn referred_to(
    parts: &Parts,
    chunks: Vec<ChunkId>,
    counts: impl Fn(&ChunkRecord) -> bool,
) -> Result<u64, FsError> {
    let records = parts.reader.read(move |rows| chunks_named(rows, &chunks)).await?;
    Ok(records.iter().filter(|record| record.owner.is_none() && counts(record)).count() as u64)
}

/// Chunks that may have too few good copies, and whether these are all.
async fn suspects(parts: &Parts) -> Result<(BTreeSet<ChunkId>, bool), FsError> {
    let mut found: BTreeSet<ChunkId> = parts.damage.chunks().into_iter().take(COPIES_COUNTED_MAX).collect();
    let mut after = None;
    while found.len() < COPIES_COUNTED_MAX {
        let page = parts.reader.read(move |rows| repairs(rows, after, WORK_PAGE)).await?;
        found.extend(page.iter().map(|(_, chunk)| *chunk));
        after = page.last().copied();
        if page.len() < WORK_PAGE {
            break;
        }
    }
    let away = parts.servers.reports(parts.now()).into_iter().filter(|server| !server.health.is_reachable());
    for server in away.map(|report| report.server) {
        let mut from = Some(ChunkId(0));
        while let Some(first) = from.filter(|_| found.len() < COPIES_COUNTED_MAX) {
            let last = ChunkId(u64::MAX);
            let page =
                parts.reader.read(move |rows| replicas_on(rows, server, first, last, WORK_PAGE)).await?;
            from = page.last().filter(|_| page.len() == WORK_PAGE).map(|(chunk, _)| ChunkId(chunk.get() + 1));
            found.extend(page.into_iter().map(|(chunk, _)| chunk));
        }
    }
    let exact = found.len() < COPIES_COUNTED_MAX;
    Ok((found, exact))
}

/// How often each state occurs.
pub(crate) fn states<'a>(states: impl Iterator<Item = &'a str>) -> Vec<StateCount> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    states.for_each(|state| *counts.entry(state).or_default() += 1);
    counts.into_iter().map(|(state, count)| StateCount { state: state.to_owned(), count }).collect()
}
