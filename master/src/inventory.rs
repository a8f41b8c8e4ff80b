//! Comparing what a chunk server holds with what the state counts on: by digests of ranges, and by lists only where
//! these differ.
//!
//! A replica that nobody counts on is deleted only when it was seen again after [`ORPHAN_REPLICA_GRACE`], and only by a
//! journaled command that looks once more; what is current is never deleted. What is missing is remembered for operators.

use crate::damage::Fault;
use crate::link::Link;
use crate::parts::Parts;
use cairn_core::cluster::digest::digest;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ChunkVersion, PartId, ServerId, Term};
use cairn_core::limits::{
    INVENTORY_PAGE, INVENTORY_RANGES_MAX, LIST_PATIENCE, ORPHAN_REPLICA_GRACE, STRAYS_WATCHED_MAX,
};
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::machine::Rows;
use cairn_core::namespace::work::{chunk, replicas_on};
use cairn_core::time::Tick;
use cairn_proto::v1::{HeldReplica, Inventory, RangeDigest, ReplicaState};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::{info, warn};

/// Replicas that were found and not counted on, and when first. Forgotten with the leader: the grace starts anew.
#[derive(Default)]
pub(crate) struct Strays {
    seen: Mutex<BTreeMap<(ServerId, ChunkId), (ChunkVersion, Tick)>>,
}

impl Strays {
    /// Another lead begins, and with it every grace.
    pub(crate) fn begin_anew(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Notes the strays of a range of a server, forgets those gone, and returns those beyond their grace.
    fn update(
        &self,
        server: ServerId,
        (first, last): (ChunkId, ChunkId),
        strays: &[(ChunkId, ChunkVersion)],
        now: Tick,
    ) -> Vec<(ChunkId, ChunkVersion)> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before: Vec<_> =
            seen.range((server, first)..=(server, last)).map(|(&key, &value)| (key, value)).collect();
        for (key, _) in &before {
            seen.remove(key);
        }
        let before: BTreeMap<_, _> = before.into_iter().collect();
        let mut ripe = Vec::new();
        for &(chunk, version) in strays {
            let since = match before.get(&(server, chunk)) {
                Some(&(seen_version, since)) if seen_version == version => since,
                _ => now,
            };
            if now.since(since) >= ORPHAN_REPLICA_GRACE {
                ripe.push((chunk, version));
            } else if seen.len() < STRAYS_WATCHED_MAX {
                seen.insert((server, chunk), (version, since));
            }
        }
        ripe
    }
}

/// A replica that the state counts on.
type Counted = (ChunkId, ChunkVersion);

/// What a comparison of one range has found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    strays: Vec<(ChunkId, ChunkVersion)>,
    faults: Vec<(ChunkId, Fault)>,
}

/// Compares a whole inventory.
pub(crate) async fn compare(parts: Arc<Parts>, link: Arc<Link>, inventory: Inventory) {
    if inventory.ranges.len() > INVENTORY_RANGES_MAX {
        warn!(server = %link.server, ranges = inventory.ranges.len(), "inventory is too long and is ignored");
        return;
    }
    for range in inventory.ranges {
        let Some(term) = parts.term() else { return };
        if let Err(error) = compare_range(&parts, &link, term, &range).await {
            info!(server = %link.server, first = range.first, %error, "range of an inventory is left for the next one");
        }
    }
    // Work rows may have come of it.
    parts.nudge();
}

async fn compare_range(parts: &Parts, link: &Link, term: Term, range: &RangeDigest) -> Result<(), FsError> {
    let (first, last) = (ChunkId(range.first), ChunkId(range.last));
    if first > last {
        return Err(FsError::InvalidArgument);
    }
    let before = counted_on(parts, link.server, (first, last)).await?;
    if digest(before.iter().map(|&(chunk, version)| (chunk, version, PartId(0)))) == (range.count, range.hash)
    {
        // Equal sets may still hold corrupt replicas: those are told by events.
        parts.damage.complete(link.server, (first, last));
        parts.strays.update(link.server, (first, last), &[], parts.now());
        return Ok(());
    }
    let held = link
        .list(term, (first, last), LIST_PATIENCE)
        .await
        .map_err(|error| FsError::Unavailable(format!("{}: {error}", link.server)))?;
    // The state is read again, after the list: what was allocated between must not look stray, nor what was dropped missing.
    let after = counted_on(parts, link.server, (first, last)).await?;
    let findings = judge(&before, &after, &held);
    let faults = settled(parts, findings.faults).await?;
    parts.damage.inventory(link.server, (first, last), faults);
    let ripe = parts.strays.update(link.server, (first, last), &findings.strays, parts.now());
    for (chunk, version) in ripe {
        info!(%chunk, %version, server = %link.server, "stray replica is deleted");
        match parts.sequencer.internal(Internal::DeleteStray { server: link.server, chunk, version }).await {
            Ok(_) | Err(FsError::Busy) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Judges a list. `before` and `after` are what the state counted on, read before and after the list was made.
fn judge(before: &[Counted], after: &[Counted], held: &[HeldReplica]) -> Findings {
    let before: BTreeMap<ChunkId, ChunkVersion> = before.iter().copied().collect();
    let after: BTreeMap<ChunkId, ChunkVersion> = after.iter().copied().collect();
    let mut findings = Findings::default();
    let mut newest: BTreeMap<ChunkId, ChunkVersion> = BTreeMap::new();
    for replica in held {
        let (chunk, version) = (ChunkId(replica.chunk), ChunkVersion(replica.version));
        let known = newest.entry(chunk).or_insert(version);
        *known = version.max(*known);
        if !before.contains_key(&chunk) && !after.contains_key(&chunk) {
            findings.strays.push((chunk, version));
        } else if replica.state() == ReplicaState::ReplicaCorrupt {
            findings.faults.push((chunk, Fault::Corrupt));
        }
    }
    for (chunk, version) in after {
        // What changed meanwhile can be called nothing.
        if before.get(&chunk) != Some(&version) {
            continue;
        }
        match newest.get(&chunk) {
            None => findings.faults.push((chunk, Fault::Missing)),
            Some(&stored) if stored < version => findings.faults.push((chunk, Fault::Stale)),
            Some(_) => {}
        }
    }
    findings
}

/// Drops faults of chunks that are still their session's: their first write has yet to make the replica.
async fn settled(parts: &Parts, faults: Vec<(ChunkId, Fault)>) -> Result<Vec<(ChunkId, Fault)>, FsError> {
    let mut settled = Vec::new();
    for (id, fault) in faults {
        let record = parts.reader.read(move |rows| chunk(rows, id)).await?;
        if record.is_some_and(|record| record.owner.is_none()) {
            settled.push((id, fault));
        }
    }
    Ok(settled)
}

async fn counted_on(
    parts: &Parts,
    server: ServerId,
    (first, last): (ChunkId, ChunkId),
) -> Result<Vec<Counted>, FsError> {
    let mut all = Vec::new();
    let mut from = first;
    loop {
        let read = move |rows: &dyn Rows| replicas_on(rows, server, from, last, INVENTORY_PAGE);
        let page = parts.reader.read(read).await?;
        let ended = page.len() < INVENTORY_PAGE;
        let newest = page.last().map(|&(chunk, _)| chunk);
        all.extend(page);
        match newest {
            Some(chunk) if !ended && chunk < last => from = ChunkId(chunk.get() + 1),
            _ => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn counted(chunk: u64, version: u64) -> Counted {
        (ChunkId(chunk), ChunkVersion(version))
    }

    fn held(chunk: u64, version: u64, state: ReplicaState) -> HeldReplica {
        HeldReplica { chunk, version, state: state.into(), ..HeldReplica::default() }
    }

    const GOOD: ReplicaState = ReplicaState::ReplicaGood;

    #[test]
    fn unknown_replicas_are_strays_and_absent_ones_missing() {
        let rows = [counted(1, 1), counted(2, 3), counted(4, 2)];
        let list = [held(1, 1, GOOD), held(3, 1, GOOD), held(4, 1, GOOD)];
        let findings = judge(&rows, &rows, &list);
        assert_eq!(findings.strays, vec![(ChunkId(3), ChunkVersion(1))]);
        assert_eq!(findings.faults, vec![(ChunkId(2), Fault::Missing), (ChunkId(4), Fault::Stale)]);
    }

    #[test]
    fn what_came_or_went_while_the_list_was_made_is_neither() {
        let (before, after) = ([counted(1, 1), counted(5, 1)], [counted(2, 1), counted(5, 2)]);
        let findings = judge(&before, &after, &[held(1, 1, GOOD), held(5, 1, GOOD)]);
        assert_eq!(findings, Findings::default());
    }

    #[test]
    fn corrupt_replicas_are_faults_and_never_strays() {
        let rows = [counted(1, 1)];
        let findings = judge(&rows, &rows, &[held(1, 1, ReplicaState::ReplicaCorrupt)]);
        assert_eq!(findings.faults, vec![(ChunkId(1), Fault::Corrupt)]);
        assert!(findings.strays.is_empty());
    }

    #[test]
    fn a_stray_is_ripe_only_when_it_was_there_all_the_grace() {
        let strays = Strays::default();
        let all = (ChunkId(0), ChunkId(u64::MAX));
        let one = [(ChunkId(3), ChunkVersion(1))];
        let start = Tick(Duration::from_secs(1));
        assert!(strays.update(ServerId(1), all, &one, start).is_empty());
        assert!(strays.update(ServerId(1), all, &one, start.after(ORPHAN_REPLICA_GRACE / 2)).is_empty());
        assert_eq!(strays.update(ServerId(1), all, &one, start.after(ORPHAN_REPLICA_GRACE)), one);
        strays.update(ServerId(1), all, &one, start);
        strays.update(ServerId(1), all, &[], start.after(ORPHAN_REPLICA_GRACE / 2));
        assert!(
            strays.update(ServerId(1), all, &one, start.after(ORPHAN_REPLICA_GRACE)).is_empty(),
            "it was gone"
        );
    }
}
