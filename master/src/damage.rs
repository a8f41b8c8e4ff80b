//! Replicas known to be bad: reported corrupt by their servers, or expected and not found. What operators see and repair
//! starts from; in memory only, because the servers report again.

use cairn_core::ids::{ChunkId, ServerId};
use cairn_core::limits::{CORRUPTION_REPORTS_MAX, REPLICA_FAULTS_MAX};
use cairn_core::time::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is wrong with a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Some block does not verify.
    Corrupt,
    /// It missed writes: its version is below the chunk's.
    Stale,
    /// Its server does not have it.
    Missing,
}

impl Fault {
    /// What operators read.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Corrupt => "corrupt",
            Self::Stale => "stale",
            Self::Missing => "missing",
        }
    }
}

/// A report for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) chunk: ChunkId,
    pub(crate) server: ServerId,
    pub(crate) detail: String,
    pub(crate) when: Timestamp,
}

/// How much is known to be bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Corrupt blocks found since the start.
    pub(crate) blocks_found: u64,
    /// Corrupt replicas at present.
    pub(crate) corrupt: u64,
    /// Missing and stale replicas at present.
    pub(crate) absent: u64,
}

/// Replicas of one server that were found bad in one way, or healed, since this was last asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) count: u64,
    /// The latest.
    pub(crate) chunk: ChunkId,
    /// What was said of it.
    pub(crate) detail: String,
}

/// All that is known.
#[derive(Default)]
pub(crate) struct Damage {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    faults: BTreeMap<(ServerId, ChunkId), Fault>,
    changes: BTreeMap<(ServerId, Option<&'static str>), Change>,
    corrupt_blocks: u64,
    recent: VecDeque<Report>,
}

impl Damage {
    /// Corrupt blocks that a heartbeat counted.
    pub(crate) fn count_blocks(&self, found: u64) {
        let mut known = self.locked();
        known.corrupt_blocks = known.corrupt_blocks.saturating_add(found);
    }

    /// A replica was found bad by its server.
    pub(crate) fn report(&self, fault: Fault, report: Report) {
        let mut known = self.locked();
        known.note(report.server, report.chunk, fault, &report.detail);
        if known.recent.len() == CORRUPTION_REPORTS_MAX {
            known.recent.pop_front();
        }
        known.recent.push_back(report);
    }

    /// What an inventory of `server` between two chunks (inclusive) has shown; replaces what was known there.
    pub(crate) fn inventory(
        &self,
        server: ServerId,
        (first, last): (ChunkId, ChunkId),
        faults: impl IntoIterator<Item = (ChunkId, Fault)>,
    ) {
        let mut known = self.locked();
        let faults: BTreeMap<ChunkId, Fault> = faults.into_iter().collect();
        let before = known.faults.range((server, first)..=(server, last));
        let healed: Vec<_> =
            before.map(|(&(_, chunk), _)| chunk).filter(|chunk| !faults.contains_key(chunk)).collect();
        healed.into_iter().for_each(|chunk| known.clear(server, chunk));
        for (chunk, fault) in faults {
            known.note(server, chunk, fault, "");
        }
    }

    /// The replica is whole, or no longer one.
    pub(crate) fn cleared(&self, server: ServerId, chunk: ChunkId) {
        self.locked().clear(server, chunk);
    }

    /// Every chunk with a bad replica.
    pub(crate) fn chunks(&self) -> Vec<ChunkId> {
        let mut chunks: Vec<ChunkId> = self.locked().faults.keys().map(|&(_, chunk)| chunk).collect();
        chunks.sort_unstable();
        chunks.dedup();
        chunks
    }

    /// Whose replica of `chunk` is bad, of these servers.
    pub(crate) fn bad_at(&self, chunk: ChunkId, servers: &[ServerId]) -> Vec<ServerId> {
        let known = self.locked();
        let is_bad = |server: &ServerId| known.faults.contains_key(&(*server, chunk));
        servers.iter().copied().filter(is_bad).collect()
    }

    /// Whose replica of `chunk` is there and damaged, of these servers.
    pub(crate) fn corrupt_at(&self, chunk: ChunkId, servers: &[ServerId]) -> Vec<ServerId> {
        let known = self.locked();
        let is_corrupt = |server: &ServerId| known.faults.get(&(*server, chunk)) == Some(&Fault::Corrupt);
        servers.iter().copied().filter(is_corrupt).collect()
    }

    /// What is wrong with a replica, as far as known.
    pub(crate) fn of(&self, server: ServerId, chunk: ChunkId) -> Option<Fault> {
        self.locked().faults.get(&(server, chunk)).copied()
    }

    /// A range of `server` holds exactly what is counted on: nothing is missing or stale there.
    pub(crate) fn complete(&self, server: ServerId, (first, last): (ChunkId, ChunkId)) {
        let mut known = self.locked();
        let range = known.faults.range((server, first)..=(server, last));
        let healed: Vec<_> =
            range.filter(|&(_, &fault)| fault != Fault::Corrupt).map(|(&(_, chunk), _)| chunk).collect();
        healed.into_iter().for_each(|chunk| known.clear(server, chunk));
    }

    /// What was found, by server and fault, and what was healed (`None`), since the last time.
    pub(crate) fn take_changes(&self) -> BTreeMap<(ServerId, Option<&'static str>), Change> {
        std::mem::take(&mut self.locked().changes)
    }

    /// How much is known to be bad.
    pub(crate) fn counts(&self) -> Counts {
        let known = self.locked();
        let corrupt = known.faults.values().filter(|&&fault| fault == Fault::Corrupt).count() as u64;
        let absent = known.faults.len() as u64 - corrupt;
        Counts { blocks_found: known.corrupt_blocks, corrupt, absent }
    }

    /// The latest reports, oldest first.
    pub(crate) fn recent(&self) -> Vec<Report> {
        self.locked().recent.iter().cloned().collect()
    }

    fn locked(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn note(&mut self, server: ServerId, chunk: ChunkId, fault: Fault, detail: &str) {
        let key = (server, chunk);
        if self.faults.len() < REPLICA_FAULTS_MAX || self.faults.contains_key(&key) {
            let before = self.faults.insert(key, fault);
            if before != Some(fault) {
                self.change(server, Some(fault.name()), chunk, detail);
            }
        }
    }

    fn clear(&mut self, server: ServerId, chunk: ChunkId) {
        if self.faults.remove(&(server, chunk)).is_some() {
            self.change(server, None, chunk, "");
        }
    }

    fn change(&mut self, server: ServerId, what: Option<&'static str>, chunk: ChunkId, detail: &str) {
        let change = self.changes.entry((server, what)).or_default();
        change.count += 1;
        change.chunk = chunk;
        detail.clone_into(&mut change.detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(chunk: u64) -> Report {
        let when = Timestamp::default();
        Report { chunk: ChunkId(chunk), server: ServerId(1), detail: String::new(), when }
    }

    #[test]
    fn an_inventory_replaces_what_was_known_of_its_range_only() {
        let damage = Damage::default();
        damage.report(Fault::Corrupt, report(5));
        damage.report(Fault::Corrupt, report(50));
        damage.inventory(ServerId(1), (ChunkId(0), ChunkId(9)), [(ChunkId(7), Fault::Missing)]);
        assert_eq!(damage.of(ServerId(1), ChunkId(5)), None);
        assert_eq!(damage.of(ServerId(1), ChunkId(7)), Some(Fault::Missing));
        assert_eq!(damage.of(ServerId(1), ChunkId(50)), Some(Fault::Corrupt));
        assert_eq!(damage.of(ServerId(2), ChunkId(50)), None);
    }

    #[test]
    fn changes_are_summed_and_told_once() {
        let damage = Damage::default();
        let (server, range) = (ServerId(1), (ChunkId(0), ChunkId(9)));
        damage.inventory(server, range, [(ChunkId(6), Fault::Missing), (ChunkId(7), Fault::Missing)]);
        damage.inventory(server, range, [(ChunkId(7), Fault::Missing)]);
        damage.report(Fault::Corrupt, Report { detail: "block 3".to_owned(), ..report(20) });
        let change =
            |count, chunk, detail: &str| Change { count, chunk: ChunkId(chunk), detail: detail.to_owned() };
        let mut all = damage.take_changes();
        assert_eq!(all.remove(&(server, Some("missing"))), Some(change(2, 7, "")));
        assert_eq!(all.remove(&(server, Some("corrupt"))), Some(change(1, 20, "block 3")));
        assert_eq!(all.remove(&(server, None)), Some(change(1, 6, "")));
        assert!(all.is_empty() && damage.take_changes().is_empty());
        damage.cleared(server, ChunkId(5));
        damage.complete(server, range);
        assert_eq!(damage.take_changes(), [((server, None), change(1, 7, ""))].into());
    }

    #[test]
    fn reports_are_bounded_and_counts_are_not_lost() {
        let damage = Damage::default();
        for chunk in 0..100 {
            damage.report(Fault::Corrupt, report(chunk));
        }
        damage.count_blocks(7);
        assert_eq!(damage.recent().len(), CORRUPTION_REPORTS_MAX);
        assert_eq!(damage.recent().last(), Some(&report(99)));
        assert_eq!(damage.counts(), Counts { blocks_found: 7, corrupt: 100, absent: 0 });
        damage.cleared(ServerId(1), ChunkId(0));
        damage.report(Fault::Missing, report(0));
        assert_eq!(damage.counts(), Counts { blocks_found: 7, corrupt: 99, absent: 1 });
        damage.complete(ServerId(1), (ChunkId(0), ChunkId(50)));
        assert_eq!(damage.counts(), Counts { blocks_found: 7, corrupt: 99, absent: 0 });
    }
}
