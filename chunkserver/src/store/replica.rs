//! One replica in memory.
//!
//! Its *lane* serialises what changes it (writes, syncs, write-back, raises, deletion), in the order of asking; whoever
//! blocks in the disk takes the lane along, so that a cancelled caller leaves nothing half done behind. Its *state* is
//! locked for moments only and never across I/O; readers take it without the lane.

use super::error::StoreError;
use super::types::ReplicaStat;
use super::volume::Volume;
use cairn_core::chunk::catalogue::{RecoveredReplica, StagedBlock};
use cairn_core::chunk::{BlockSet, ReplicaKey, ReplicaRecord};
use cairn_core::ids::{ChunkVersion, DiskId, LeaseNumber};
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::units::BLOCK_BYTES;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::OwnedMutexGuard;

/// The right to change a replica.
pub(super) type Lane = OwnedMutexGuard<()>;

/// A replica on a disk.
pub(super) struct Replica {
    pub(super) key: ReplicaKey,
    pub(super) volume: Arc<Volume>,
    lane: Arc<tokio::sync::Mutex<()>>,
    state: Mutex<ReplicaState>,
}

/// What is known of it. A block is in `stored`, or in `unsynced`, or absent; `staged` blocks are stored.
#[derive(Debug, Default)]
pub(super) struct ReplicaState {
    pub(super) version: ChunkVersion,
    pub(super) lease: LeaseNumber,
    /// Blocks declared to exist by a record (durable once `last` is); they are overwritten through the journal only.
    pub(super) stored: BlockSet,
    /// Blocks written in place and not declared yet: a crash forgets them.
    pub(super) unsynced: BlockSet,
    /// Journaled blocks that are not in the file yet: they hide what it holds.
    pub(super) staged: BTreeMap<u32, StagedBlock>,
    /// Ticket of the mark that announces writes which are not durable.
    pub(super) mark: Option<u64>,
    /// Ticket of the last record.
    pub(super) last: u64,
    /// Acknowledged writes were lost; see [`StoreError::WritesLost`].
    pub(super) writes_lost: bool,
    pub(super) corrupt: bool,
    pub(super) reported: bool,
    pub(super) deleted: bool,
    /// Journaled blocks were written into the file, which has not been synced since.
    pub(super) written_back: bool,
    /// Header and name of the file are durable for certain.
    pub(super) name_durable: bool,
    /// Files that it had before, in this run.
    pub(super) files: u32,
    /// Of the entries that the file has of `stored` blocks: those not staged, and those that a staged one will replace. `None`: not
    /// known.
    pub(super) digest: Option<u64>,
    /// It came from this disk and has not settled yet (`cairn_core::chunk::moving`).
    pub(super) provisional: Option<DiskId>,
    /// Blocks written since a copy of it was begun; `None`: there is no copy, or it is of no use any more.
    pub(super) changed: Option<BlockSet>,
    /// It is deleted here because it stands on another disk of this server.
    pub(super) moved: bool,
}

impl Replica {
    pub(super) fn new(key: ReplicaKey, volume: Arc<Volume>, state: ReplicaState) -> Arc<Self> {
        Arc::new(Self { key, volume, lane: Arc::default(), state: Mutex::new(state) })
    }

    /// Waits for the lane.
    pub(super) async fn lane(&self) -> Lane {
        Arc::clone(&self.lane).lock_owned().await
    }

    pub(super) fn state(&self) -> MutexGuard<'_, ReplicaState> {
        self.state.lock().expect("no holder of a replica's state panics")
    }

    /// Whether such an error only says that it stands on another disk by now: the store's map has it there.
    pub(super) fn has_moved(&self, error: &StoreError) -> bool {
        matches!(error, StoreError::NoSuchChunk) && self.state().moved
    }

    pub(super) fn stat(&self) -> ReplicaStat {
        let state = self.state();
        ReplicaStat {
            chunk: self.key.chunk,
            part: self.key.part,
            version: state.version,
            lease_floor: state.lease,
            disk: self.volume.disk_id,
            length: u64::from(state.end()) * BLOCK_BYTES,
            blocks: state.stored.count() + state.unsynced.count(),
            durable_blocks: state.stored.count(),
            corrupt: state.corrupt,
            writes_lost: state.writes_lost,
        }
    }
}

impl ReplicaState {
    /// As recovery found it.
    pub(super) fn recovered(found: RecoveredReplica) -> Self {
        let record = found.record;
        Self {
            version: record.version,
            lease: record.lease,
            stored: record.stored,
            staged: found.staged,
            writes_lost: record.marked,
            corrupt: record.corrupt,
            digest: record.digest,
            provisional: record.provisional,
            ..Self::default()
        }
    }

    /// What the catalogue should remember; true once `last` is durable.
    pub(super) fn record(&self) -> ReplicaRecord {
        ReplicaRecord {
            version: self.version,
            lease: self.lease,
            stored: self.stored.clone(),
            marked: self.mark.is_some() || self.writes_lost,
            corrupt: self.corrupt,
            digest: self.digest,
            provisional: self.provisional,
        }
    }

    /// Blocks `first .. end` have another content than a copy of the replica may have.
    pub(super) fn note_change(&mut self, first: u32, end: u32) {
        if let Some(changed) = &mut self.changed {
            changed.insert(first, end);
        }
    }

    /// One past the last block.
    pub(super) fn end(&self) -> u32 {
        self.stored.end().max(self.unsynced.end())
    }

    /// Whether a request of `version` may touch the replica.
    pub(super) fn check_version(&self, version: ChunkVersion) -> Result<(), StoreError> {
        if self.deleted || version > self.version {
            return Err(StoreError::NoSuchChunk);
        }
        if version < self.version && !is_planted(Bug::IgnoreVersion) {
            return Err(StoreError::StaleVersion { stored: self.version });
        }
        Ok(())
    }
}
