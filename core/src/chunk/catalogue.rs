//! What replicas a disk holds, as its records say, and the rule by which records are applied after a crash.
//!
//! Applying is a total function: any record on any state. Catalogue entries may already know some of the records that are
//! applied to them again; since every later record is applied too, the end is the same (`replay_of_a_suffix_...` below).

use super::blocks::BlockSet;
use super::generation_of;
use super::intent::{Intent, IntentRecord};
use super::replica_file::TableEntry;
use super::table_digest;
use crate::ids::{ChunkId, ChunkVersion, DiskId, LeaseNumber, PartId, Term};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Identity of a replica on a server: the version is its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaKey {
    /// The chunk.
    pub chunk: ChunkId,
    /// The part of it.
    pub part: PartId,
}

/// What is durably known of one replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicaRecord {
    /// Its version.
    pub version: ChunkVersion,
    /// Lowest lease accepted.
    pub lease: LeaseNumber,
    /// Blocks that exist. Every other block is absent, whatever the file holds.
    pub stored: BlockSet,
    /// Acknowledged writes may exist that are not durable.
    pub marked: bool,
    /// Some block did not verify.
    pub corrupt: bool,
    /// Digest of the file's checksum table, of the blocks that are in the file (`super::table_digest`). `None`: not known, since
    /// records have changed the file that do not tell what it held; whoever writes to it next finds out.
    pub digest: Option<u64>,
    /// It came from this disk, which may have it still (see [`super::moving`]).
    pub provisional: Option<DiskId>,
}

/// A block whose record is in the journal and which may not be in the file yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedBlock {
    /// What its table entry will be.
    pub entry: TableEntry,
    /// Its bytes, whole.
    pub data: Bytes,
    /// The entry that the file has of this block counts in the digest, until this one takes its place.
    pub replaces: bool,
}

/// A replica while the journal is applied: its record, and the journaled blocks over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredReplica {
    /// The record.
    pub record: ReplicaRecord,
    /// Journaled blocks; they hide what the file holds.
    pub staged: BTreeMap<u32, StagedBlock>,
}

/// All replicas of a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalogue {
    /// The replicas.
    pub replicas: BTreeMap<ReplicaKey, RecoveredReplica>,
    /// Highest term obeyed.
    pub term: Term,
}

impl Catalogue {
    /// Applies a record of the journal.
    pub fn apply(&mut self, record: &IntentRecord<&[u8]>) {
        match &record.intent {
            Intent::Term(term) => self.term = self.term.max(*term),
            Intent::Delete => {
                self.replicas.remove(&record.key);
            }
            Intent::Create => {
                let made = ReplicaRecord {
                    version: record.version,
                    lease: record.lease,
                    digest: Some(table_digest::EMPTY),
                    ..ReplicaRecord::default()
                };
                self.replicas.insert(record.key, RecoveredReplica { record: made, staged: BTreeMap::new() });
            }
            Intent::Arrive { source, digest, stored, marked } => {
                let come = ReplicaRecord {
                    version: record.version,
                    lease: record.lease,
                    stored: stored.clone(),
                    marked: *marked,
                    corrupt: false,
                    digest: Some(*digest),
                    provisional: Some(*source),
                };
                self.replicas.insert(record.key, RecoveredReplica { record: come, staged: BTreeMap::new() });
            }
            change => {
                // Absent only when the catalogue already knows of a later deletion, whose record will follow.
                if let Some(replica) = self.replicas.get_mut(&record.key) {
                    replica.apply(change, record.version, record.lease);
                }
            }
        }
    }
}

impl RecoveredReplica {
    fn apply(&mut self, change: &Intent<&[u8]>, version: ChunkVersion, lease: LeaseNumber) {
        self.record.lease = self.record.lease.max(lease);
        match change {
            Intent::Blocks(blocks) => {
                for block in blocks {
                    let entry = TableEntry { crc: block.crc, generation: generation_of(version) };
                    let data = Bytes::copy_from_slice(block.data);
                    self.staged.insert(block.index, StagedBlock { entry, data, replaces: false });
                    self.record.stored.insert(block.index, block.index + 1);
                }
                self.record.digest = None;
            }
            Intent::Mark => self.record.marked = true,
            Intent::Synced { blocks, clears_mark } => {
                self.record.stored.extend(blocks);
                if !blocks.is_empty() {
                    self.record.digest = None;
                }
                self.record.marked &= !clears_mark;
            }
            Intent::Raise { clears_mark } => {
                self.record.version = self.record.version.max(version);
                self.record.marked &= !clears_mark;
            }
            Intent::Corrupt => self.record.corrupt = true,
            Intent::Sound => self.record.corrupt = false,
            Intent::Settled => self.record.provisional = None,
            Intent::Create | Intent::Arrive { .. } | Intent::Delete | Intent::Term(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static DATA: [u8; 4096] = [7; 4096];

    fn record(intent: Intent<&'static [u8]>, version: u64) -> IntentRecord<&'static [u8]> {
        let key = ReplicaKey { chunk: ChunkId(1), part: PartId(0) };
        IntentRecord { key, version: ChunkVersion(version), lease: LeaseNumber(version), intent }
    }

    fn arrive() -> Intent<&'static [u8]> {
        let stored = BlockSet::from_runs([(2, 6)]).unwrap();
        Intent::Arrive { source: DiskId(uuid::Uuid::from_u128(7)), digest: 9, stored, marked: true }
    }

    #[test]
    fn what_has_arrived_is_provisional_until_it_has_settled() {
        let mut catalogue = Catalogue::default();
        history()[..15].iter().for_each(|record| catalogue.apply(record));
        let come = catalogue.replicas.values().next().unwrap().record.clone();
        assert_eq!(come.provisional, Some(DiskId(uuid::Uuid::from_u128(7))));
        assert_eq!((come.stored.count(), come.marked, come.digest), (4, true, Some(9)));
        catalogue.apply(&record(Intent::Settled, 5));
        let settled = catalogue.replicas.values().next().unwrap().record.clone();
        assert_eq!(settled, ReplicaRecord { provisional: None, ..come });
    }

    fn history() -> Vec<IntentRecord<&'static [u8]>> {
        let block = |index| super::super::intent::IntentBlock { index, crc: 5, data: &DATA[..] };
        let synced = |first, end, clears_mark| Intent::Synced {
            blocks: BlockSet::from_runs([(first, end)]).unwrap(),
            clears_mark,
        };
        vec![
            record(Intent::Create, 1),
            record(Intent::Mark, 1),
            record(Intent::Blocks(vec![block(0), block(1)]), 1),
            record(synced(2, 9, true), 1),
            record(Intent::Raise { clears_mark: false }, 3),
            record(Intent::Mark, 3),
            record(Intent::Corrupt, 3),
            record(Intent::Sound, 3),
            record(Intent::Delete, 3),
            record(Intent::Create, 4),
            record(Intent::Mark, 4),
            record(Intent::Blocks(vec![block(4)]), 4),
            record(Intent::Raise { clears_mark: true }, 5),
            record(Intent::Delete, 5),
            record(arrive(), 5),
            record(Intent::Settled, 5),
            record(Intent::Blocks(vec![block(3)]), 5),
        ]
    }

    #[test]
    fn replay_of_a_suffix_on_a_catalogue_that_is_ahead_ends_the_same() {
        let history = history();
        let mut all = Catalogue::default();
        history.iter().for_each(|record| all.apply(record));
        for ahead in 0..=history.len() {
            let mut base = Catalogue::default();
            history[..ahead].iter().for_each(|record| base.apply(record));
            for from in 0..=ahead {
                let mut again = base.clone();
                history[from..].iter().for_each(|record| again.apply(record));
                assert_eq!(again, all, "catalogue at {ahead}, replayed from {from}");
            }
        }
    }

    #[test]
    fn a_replica_made_anew_remembers_nothing() {
        let mut catalogue = Catalogue::default();
        history().iter().take(10).for_each(|record| catalogue.apply(record));
        let only = catalogue.replicas.values().next().unwrap();
        assert_eq!((only.record.stored.count(), only.record.marked, only.record.corrupt), (0, false, false));
        assert!(only.staged.is_empty());
        assert_eq!(only.record.version, ChunkVersion(4));
    }
}
