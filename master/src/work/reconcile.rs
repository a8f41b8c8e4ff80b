//! Makes the replicas of a chunk equal again whose writer ended badly: raise the version on every replica that can be
//! reached (the others leave the set), let the first compare and copy, then record the set. Until then the chunk is not
//! readable, since its replicas may differ in bytes that were never acknowledged.

use crate::link::{Care, CommandError};
use crate::parts::Parts;
use crate::replace::{self, Answers, Patience};
use cairn_core::cluster::view::ServerHealth;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ServerId, Term};
use cairn_core::limits::{
    RAISE_ABANDONED, RAISE_PATIENCE, RECONCILE_PATIENCE, RECONCILE_PAUSE_MAX, RECONCILE_PERIOD,
    RECONCILE_RAISE_MAX, RECONCILE_WAIT, RECONCILES_IN_FLIGHT_MAX, WORK_PAGE,
};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::Outcome;
use cairn_core::namespace::work::{ChunkRecord, ReconcileReason, chunk, reconciliations};
use cairn_core::time::Tick;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::{info, warn};

/// Chunks that could not be reconciled so far: since when, and how often it was tried.
#[derive(Default)]
pub(crate) struct Attempts {
    open: Mutex<BTreeMap<ChunkId, Attempt>>,
}

struct Attempt {
    first: Tick,
    tried: u32,
    not_before: Tick,
}

impl Attempts {
    /// When the chunk was first seen waiting.
    fn first(&self, chunk: ChunkId, now: Tick) -> Tick {
        let fresh = Attempt { first: now, tried: 0, not_before: now };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).entry(chunk).or_insert(fresh).first
    }

    /// Begins an attempt, unless the last one was just now: each raises the version, so the pauses double. Tells how many
    /// came before.
    fn begin(&self, chunk: ChunkId, now: Tick) -> Option<u32> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = open.get_mut(&chunk).filter(|attempt| attempt.not_before <= now)?;
        let before = attempt.tried;
        attempt.tried = before.saturating_add(1);
        attempt.not_before = now.after((RECONCILE_PERIOD * (1 << before.min(10))).min(RECONCILE_PAUSE_MAX));
        Some(before)
    }

    fn retain(&self, still: &[ChunkId], (first, last): (ChunkId, ChunkId)) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|chunk, _| *chunk < first || *chunk > last || still.binary_search(chunk).is_ok());
    }

    fn done(&self, chunk: ChunkId) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&chunk);
    }
}

/// Tries every waiting chunk once.
pub(crate) async fn pass(parts: Arc<Parts>, term: Term, attempts: Arc<Attempts>) {
    let mut after = None;
    loop {
        let page = match parts.reader.read(move |rows| reconciliations(rows, after, WORK_PAGE)).await {
            Ok(page) => page,
            Err(error) => {
                warn!(%error, "chunks to be reconciled could not be read");
                return;
            }
        };
        let is_last = page.len() < WORK_PAGE;
        let until = page.last().filter(|_| !is_last).map_or(ChunkId(u64::MAX), |(chunk, _)| *chunk);
        let waiting: Vec<ChunkId> = page.iter().map(|(chunk, _)| *chunk).collect();
        attempts.retain(&waiting, (after.unwrap_or_default(), until));
        futures::stream::iter(page)
            .map(|(chunk, row)| attempt(&parts, term, &attempts, (chunk, row.reason)))
            .buffer_unordered(RECONCILES_IN_FLIGHT_MAX)
            .collect::<()>()
            .await;
        after = Some(until);
        if is_last || parts.stopping.is_cancelled() {
            return;
        }
    }
}

async fn attempt(parts: &Parts, term: Term, attempts: &Attempts, (id, reason): (ChunkId, ReconcileReason)) {
    let now = parts.now();
    let waited = now.since(attempts.first(id, now));
    // A begun raise is most likely in the hands of the client that asked for it.
    if reason == ReconcileReason::Raise && waited < RAISE_ABANDONED {
        return;
    }
    let Some(tried) = attempts.begin(id, now) else { return };
    let may_drop = waited >= RECONCILE_WAIT;
    match reconcile(parts, term, id, tried, may_drop).await {
        Ok(true) => {
            parts.metrics.reconciled.inc();
            attempts.done(id);
        }
        Ok(false) => {}
        Err(error) if tried % 10 == 9 => {
            warn!(chunk = %id, %error, tried, "chunk could not be reconciled yet")
        }
        Err(error) => info!(chunk = %id, %error, tried, "chunk could not be reconciled yet"),
    }
}

/// True when the chunk is done, false when it has to wait.
async fn reconcile(
    parts: &Parts,
    term: Term,
    id: ChunkId,
    tried: u32,
    may_drop: bool,
) -> Result<bool, FsError> {
    let Some(record) = parts.reader.read(move |rows| chunk(rows, id)).await? else { return Ok(true) };
    if record.owner.is_some() {
        // Its session goes on in another chunk, attaches this one, or ends: the chunk is deleted or looked at again then.
        return Ok(false);
    }
    if !enough_connected(parts, &record, may_drop) {
        return Ok(false);
    }
    let begun = parts.sequencer.internal(Internal::BeginRaise { chunk: id, from: record.version }).await;
    let (from, to, servers) = match begun {
        Ok(Outcome::Raising { from, to, servers, .. }) => (from, to, servers),
        Ok(other) => return Err(FsError::Io(format!("a raise came to {other:?}"))),
        Err(FsError::NotFound) => return Ok(true),
        Err(error) => return Err(error),
    };
    // What a writer that ended badly had not synced nobody counts on, whoever has the lease now: it cannot write this chunk
    // before it is reconciled.
    let whole = !record.reconciling && replace::is_written(parts, record.inode).await?;
    let is_lost = |server: ServerId, outcome: &Result<(), CommandError>| {
        matches!(outcome, Err(CommandError::NoSuchReplica)) || (outcome.is_err() && is_dead(parts, server))
    };
    let verdict = |raised: usize, lost: usize| judge((raised, lost, servers.len()), record.minimum, may_drop);
    let suffices = |answers: &Answers| {
        let lost = answers.iter().filter(|(server, outcome)| is_lost(**server, outcome)).count();
        verdict(answers.values().filter(|outcome| outcome.is_ok()).count(), lost) == Verdict::GoOn
    };
    let patience = Patience { each: RAISE_PATIENCE, longest: patience(tried), suffices: &suffices };
    let raises = replace::raise(parts, term, id, (from, to), (&servers, patience), whole).await;
    let lost = raises.iter().filter(|(server, outcome)| is_lost(*server, outcome)).count();
    let raised = replace::raised(&raises);
    match verdict(raised.len(), lost) {
        Verdict::GoOn => {}
        Verdict::Wait => return Ok(false),
        Verdict::TooFew => {
            let answer = format!("{} of {} replicas answer", raised.len(), servers.len());
            return Err(FsError::Unavailable(answer));
        }
    }
    let (leader, peers) = plan(parts, &raised, tried)?;
    if !peers.is_empty() {
        let link =
            parts.servers.link(leader).ok_or_else(|| FsError::Unavailable(format!("{leader} is gone")))?;
        link.reconcile(term, (id, to), (peers, Care::default()), RECONCILE_PATIENCE)
            .await
            .map_err(|error| FsError::Unavailable(format!("{leader}: {error}")))?;
    }
    let servers = raised;
    parts.sequencer.internal(Internal::FinishReconcile { chunk: id, version: to, servers }).await?;
    info!(chunk = %id, version = %to, "chunk is reconciled");
    Ok(true)
}

/// Whether to begin at all: each try raises the version, so it waits for the servers that may soon be back.
fn enough_connected(parts: &Parts, record: &ChunkRecord, may_drop: bool) -> bool {
    let connected = record.servers.iter().filter(|&&server| parts.servers.link(server).is_some()).count();
    let dead = record.servers.iter().filter(|&&server| is_dead(parts, server)).count();
    let wanted =
        if may_drop { enough(record.minimum, record.servers.len(), dead) } else { record.servers.len() };
    connected >= wanted
}

/// How many replicas must be left to go on with: each of the set holds all that was acknowledged, so one would do; but those that
/// may come back are not given up for fewer than the minimum. `lost`: that will not come back.
fn enough(minimum: u8, set: usize, lost: usize) -> usize {
    usize::from(minimum).min(set.saturating_sub(lost)).max(1)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// With those that have raised their version.
    GoOn,
    /// The others may soon be back.
    Wait,
    TooFew,
}

/// Whether to go on with `raised` replicas of a set, of which `lost` will not come back. The rest is waited for unless it `may` be
/// dropped.
fn judge((raised, lost, set): (usize, usize, usize), minimum: u8, may_drop: bool) -> Verdict {
    match raised >= enough(minimum, set, lost) {
        false => Verdict::TooFew,
        true if raised + lost < set && !may_drop => Verdict::Wait,
        true => Verdict::GoOn,
    }
}

fn is_dead(parts: &Parts, server: ServerId) -> bool {
    parts.servers.link(server).is_none()
        && parts.servers.view(parts.now()).health(server) == ServerHealth::Dead
}

/// How long the servers have to raise the version: a disk that is slow for all it does is not too slow at each try.
fn patience(tried: u32) -> Duration {
    (RAISE_PATIENCE * (1 << tried.min(10))).min(RECONCILE_RAISE_MAX)
}

/// Who compares, and with whom. Another one leads at each try, lest one bad replica block the chunk for ever.
fn plan(parts: &Parts, raised: &[ServerId], tried: u32) -> Result<(ServerId, Vec<String>), FsError> {
    let leader = raised[tried as usize % raised.len()];
    let view = parts.servers.view(parts.now());
    let address_of = |&server: &ServerId| match view.address(server) {
        // It has raised its version but cannot be compared: recording it as equal would be a lie.
        "" => Err(FsError::Unavailable(format!("{server} is gone"))),
        address => Ok(address.to_owned()),
    };
    let peers =
        raised.iter().filter(|&&server| server != leader).map(address_of).collect::<Result<_, _>>()?;
    Ok((leader, peers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_replicas_that_may_come_back_are_waited_for() {
        assert_eq!(enough(2, 3, 0), 2);
        assert_eq!(enough(2, 3, 1), 2);
        assert_eq!(enough(2, 3, 2), 1);
        assert_eq!(enough(2, 3, 3), 1, "none is never enough");
        assert_eq!(enough(0, 1, 0), 1);
    }

    #[test]
    fn what_is_lost_for_good_is_not_waited_for() {
        assert_eq!(judge((2, 1, 3), 2, false), Verdict::GoOn);
        assert_eq!(judge((2, 0, 3), 2, false), Verdict::Wait);
        assert_eq!(judge((2, 0, 3), 2, true), Verdict::GoOn);
        assert_eq!(judge((1, 0, 3), 2, true), Verdict::TooFew);
        assert_eq!(judge((1, 2, 3), 2, false), Verdict::GoOn);
    }

    #[test]
    fn a_slow_disk_gets_more_time_at_each_try() {
        assert_eq!(patience(0), RAISE_PATIENCE);
        assert_eq!(patience(2), 4 * RAISE_PATIENCE);
        assert_eq!(patience(u32::MAX), RECONCILE_RAISE_MAX);
    }

    #[test]
    fn pauses_between_attempts_double_up_to_their_bound() {
        let attempts = Attempts::default();
        let mut now = Tick(Duration::from_secs(1));
        assert_eq!(attempts.first(ChunkId(1), now), now);
        let mut pauses = Vec::new();
        for expected in 0..12 {
            let before = now;
            let tried = loop {
                match attempts.begin(ChunkId(1), now) {
                    Some(tried) => break tried,
                    None => now = now.after(RECONCILE_PERIOD),
                }
            };
            assert_eq!(tried, expected);
            pauses.push(now.since(before));
        }
        assert!(
            pauses[1] <= RECONCILE_PERIOD && pauses.windows(2).all(|pair| pair[0] <= pair[1]),
            "{pauses:?}"
        );
        assert_eq!(pauses.last(), Some(&RECONCILE_PAUSE_MAX));
        attempts.retain(&[], (ChunkId(0), ChunkId(9)));
        assert_eq!(attempts.begin(ChunkId(1), now), None, "it is no longer waiting");
    }
}
