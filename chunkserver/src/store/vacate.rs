//! A disk that is to be taken out is emptied: what stands on it moves to the other disks of the server, as far as they have room. What
//! they have none for is told to the masters, who have it moved to other servers.
//!
//! Whether a disk is to be emptied the masters know, and tell after each start anew.

use super::error::StoreError;
use super::relocate::{Outcome, bytes_of, relocate};
use super::replica::Replica;
use super::types::{ReplicaStat, VacatingReport};
use super::volume::{REPLICA_OVERHEAD_BYTES, Volume};
use super::{ChunkStore, Shared};
use cairn_core::chunk::ReplicaKey;
use cairn_core::ids::{ChunkId, DiskId, PartId};
use cairn_core::limits::{VACATE_CONCURRENCY, VACATE_LISTED_MAX, VACATE_REST};
use cairn_core::units::CHUNK_BYTES;
use futures::stream::StreamExt;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Replicas that are looked at together.
const BATCH: usize = 64;

/// Whether a disk is to be emptied, and how far that is.
#[derive(Default)]
pub(super) struct Vacating {
    wanted: AtomicBool,
    wake: Notify,
    last: Mutex<Pass>,
}

/// What a pass over the disk has found.
#[derive(Clone, Debug, Default)]
struct Pass {
    moved: u64,
    waiting: u64,
    damaged: u64,
    nowhere: u64,
    /// The first of those that no other disk has room for.
    listed: BTreeSet<ChunkId>,
}

impl Vacating {
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    fn want(&self, wanted: bool) {
        if self.wanted.swap(wanted, Ordering::AcqRel) != wanted {
            *self.last() = Pass::default();
            self.wake.notify_one();
        }
    }

    /// `None`: it is not to be emptied.
    pub(super) fn report(&self) -> Option<VacatingReport> {
        let last = self.last();
        self.is_wanted().then_some(VacatingReport {
            waiting: last.waiting,
            damaged: last.damaged,
            nowhere: last.nowhere,
        })
    }

    /// Whether no other disk of the server has room for the replica of `chunk`.
    pub(super) fn lists(&self, chunk: ChunkId) -> bool {
        self.last().listed.contains(&chunk)
    }

    fn last(&self) -> MutexGuard<'_, Pass> {
        self.last.lock().expect("no holder of a pass panics")
    }
}

impl ChunkStore {
    /// Empties these disks from now on, and no others.
    pub fn vacate(&self, disks: &BTreeSet<DiskId>) {
        for volume in self.shared.volumes() {
            volume.vacating.want(disks.contains(&volume.disk_id));
        }
    }

    /// Whether the replica stands on a disk that is being emptied, and no other disk here has room for it.
    pub fn has_nowhere_to_go(&self, stat: &ReplicaStat) -> bool {
        let mut volumes = self.shared.volumes();
        volumes.any(|volume| volume.disk_id == stat.disk && volume.vacating.lists(stat.chunk))
    }

    /// Starts to empty disks when that is wanted, until `stopping` is cancelled. Once. `tasks` counts whoever does it.
    pub fn start_vacating(&self, stopping: &CancellationToken, tasks: &TaskTracker) {
        for volume in self.shared.volumes() {
            tasks.spawn(run(Arc::downgrade(&self.shared), Arc::downgrade(volume), stopping.clone()));
        }
    }
}

async fn run(shared: Weak<Shared>, volume: Weak<Volume>, stopping: CancellationToken) {
    loop {
        let (Some(held), Some(disk)) = (shared.upgrade(), volume.upgrade()) else { return };
        if stopping.is_cancelled() || disk.check_alive().is_err() {
            return;
        }
        let vacating = Arc::clone(&disk.vacating);
        let is_wanted = vacating.is_wanted();
        let moved = if is_wanted { pass(&held, &disk, &stopping).await } else { 0 };
        drop((held, disk));
        if moved > 0 {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = vacating.wake.notified() => {}
            () = tokio::time::sleep(VACATE_REST), if is_wanted => {}
        }
    }
}

/// Looks at every replica of the disk once; answers how many have moved.
async fn pass(shared: &Arc<Shared>, volume: &Arc<Volume>, stopping: &CancellationToken) -> u64 {
    let (mut found, mut from) = (Pass::default(), Some(ReplicaKey::default()));
    while let Some(first) = from {
        let batch = shared.some_held_by(volume, first, BATCH);
        from = batch.last().and_then(|last| successor(last.key));
        if batch.is_empty() || stopping.is_cancelled() || !volume.vacating.is_wanted() {
            break;
        }
        let moves = futures::stream::iter(batch).map(|replica| one(shared, volume, replica, stopping));
        let outcomes: Vec<_> = moves.buffer_unordered(VACATE_CONCURRENCY).collect().await;
        outcomes.into_iter().for_each(|(chunk, outcome)| found.count(chunk, outcome));
    }
    let moved = found.moved;
    let mut last = volume.vacating.last();
    if volume.vacating.is_wanted() && !stopping.is_cancelled() {
        *last = found;
    }
    moved
}

fn successor(key: ReplicaKey) -> Option<ReplicaKey> {
    let ReplicaKey { chunk, part } = key;
    match part.get().checked_add(1) {
        Some(part) => Some(ReplicaKey { chunk, part: PartId(part) }),
        None => Some(ReplicaKey { chunk: ChunkId(chunk.get().checked_add(1)?), part: PartId(0) }),
    }
}

/// What became of one replica; `None`: no other disk has room for it.
type Became = Option<Result<Outcome, StoreError>>;

impl Pass {
    fn count(&mut self, chunk: ChunkId, outcome: Became) {
        match outcome {
            Some(Ok(Outcome::Moved)) => self.moved += 1,
            Some(Ok(Outcome::Gone)) => {}
            Some(Ok(Outcome::Damaged)) => self.damaged += 1,
            Some(Ok(Outcome::Busy)) => self.waiting += 1,
            Some(Err(StoreError::DiskFull)) | None => {
                self.nowhere += 1;
                if self.listed.len() < VACATE_LISTED_MAX {
                    self.listed.insert(chunk);
                }
            }
            Some(Err(error)) => {
                tracing::info!(%chunk, %error, "replica could not be moved to another disk yet");
                self.waiting += 1;
            }
        }
    }
}

async fn one(
    shared: &Arc<Shared>,
    volume: &Arc<Volume>,
    replica: Arc<Replica>,
    stopping: &CancellationToken,
) -> (ChunkId, Became) {
    let chunk = replica.key.chunk;
    if stopping.is_cancelled() || !volume.vacating.is_wanted() || volume.has_failed() {
        return (chunk, Some(Ok(Outcome::Busy)));
    }
    if replica.state().corrupt {
        return (chunk, Some(Ok(Outcome::Damaged)));
    }
    let bytes = bytes_of(&replica);
    let Some(target) = shared.disk_with_room(volume, bytes) else { return (chunk, None) };
    let outcome = relocate(shared, &replica, &target).await;
    if outcome == Ok(Outcome::Moved) {
        tracing::debug!(%chunk, from = %volume.disk_id, to = %target.disk_id, "replica stands on another disk");
    }
    (chunk, Some(outcome))
}

impl Shared {
    /// Another disk that has so many bytes to spare and is not to be emptied itself: the emptiest, a slow one last. Room for a whole
    /// replica stays free there: its own may grow.
    fn disk_with_room(&self, volume: &Arc<Volume>, bytes: u64) -> Option<Arc<Volume>> {
        let fits = |other: &&Arc<Volume>| {
            let has_room = other.free_bytes() >= bytes + CHUNK_BYTES + REPLICA_OVERHEAD_BYTES;
            !Arc::ptr_eq(other, volume) && !other.has_failed() && !other.vacating.is_wanted() && has_room
        };
        let emptiest = |other: &&Arc<Volume>| (!other.pace.is_slow(), other.free_bytes());
        self.volumes().filter(fits).max_by_key(emptiest).cloned()
    }

    fn some_held_by(&self, volume: &Arc<Volume>, from: ReplicaKey, most: usize) -> Vec<Arc<Replica>> {
        let map = self.map();
        let held = map.range(from..).map(|(_, replica)| replica);
        held.filter(|replica| Arc::ptr_eq(&replica.volume, volume)).take(most).cloned().collect()
    }
}
