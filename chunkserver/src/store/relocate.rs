//! One replica moves to another disk of the server, while it is read and written. docs/FORMATS.md states the order and what a crash
//! leaves; `cairn_core::chunk::moving` judges that.
//!
//! ```text
//! copy       portion by portion, synced and read back from the medium; what is written meanwhile is noted
//! lock       by the replica's lane, once little is noted: that is copied, then table and header
//! arrive     journaled on the new disk; the new replica is locked as well
//! delete     journaled on the old one: the move
//! settled    journaled on the new one; then whoever waited for the old replica finds the new one
//! ```
//! Nobody writes to the new replica before the old one is durably gone, so no crash can bring back what was overwritten.

use super::Shared;
use super::commands::{forget_blocks, unlink};
use super::error::StoreError;
use super::journal::{Reservation, journal_bytes};
use super::read::{entries_held, read, read_held};
use super::replica::{Lane, Replica, ReplicaState};
use super::sync::sync;
use super::types::{ReadBlocks, ReadTerms};
use super::volume::{Queue, REPLICA_OVERHEAD_BYTES, Volume};
use super::write::{COMMAND_BYTES, append};
use bytes::Bytes;
use cairn_core::checksum::block_crc;
use cairn_core::chunk::intent::{ARRIVE_HEAD_BYTES, INTENT_HEADER_BYTES, Intent};
use cairn_core::chunk::replica_file::{ENTRY_BYTES, FileHeader, HEADER_AT, TableEntry, entry_at, file_name};
use cairn_core::chunk::{BlockSet, ReplicaKey, table_digest};
use cairn_core::limits::{FRAME_PAYLOAD_BYTES_MAX, MOVE_LAST_BLOCKS_MAX, MOVE_ROUNDS_MAX, PACE_SYNC_BYTES};
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk::{DiskFile, OpenMode};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Blocks that are read at once.
const READ_BLOCKS: u32 = (FRAME_PAYLOAD_BYTES_MAX as u64 / BLOCK_BYTES) as u32;
/// Blocks that are written and synced at once.
const STEP_BLOCKS: u32 = (PACE_SYNC_BYTES / BLOCK_BYTES) as u32;
/// Runs that may come to a replica while its move waits for its turn.
const MORE_RUNS: usize = 64;

/// What an *arrive* record takes in the journal.
const fn arrive_bytes(runs: usize) -> u64 {
    journal_bytes(INTENT_HEADER_BYTES + ARRIVE_HEAD_BYTES + runs * 8)
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It stands on the other disk.
    Moved,
    /// Programs write to it faster than it is copied: later.
    Busy,
    /// Some block does not verify: it is left to repair.
    Damaged,
    /// It is deleted.
    Gone,
}

type Command = Intent<Bytes>;

/// Moves a replica to `target`, which has room for it. What an attempt that comes to nothing has copied is removed.
///
/// # Errors
/// A disk's; the replica is as it was.
pub(super) async fn relocate(
    shared: &Arc<Shared>,
    old: &Arc<Replica>,
    target: &Arc<Volume>,
) -> Result<Outcome, StoreError> {
    let mut copy = Copy::begin(shared, old, target).await?;
    let outcome = copy.run().await;
    old.state().changed = None;
    if !matches!(outcome, Ok(Outcome::Moved)) {
        copy.discard().await;
    }
    match outcome {
        Err(StoreError::Corrupt { .. }) => Ok(Outcome::Damaged),
        Err(StoreError::NoSuchChunk | StoreError::StaleVersion { .. }) => Ok(Outcome::Busy),
        outcome => outcome,
    }
}

/// A copy in the making. No record knows of it, so a start removes it.
struct Copy<'a> {
    shared: &'a Arc<Shared>,
    old: &'a Arc<Replica>,
    target: &'a Arc<Volume>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Checksums of the blocks copied, as they verified.
    sums: BTreeMap<u32, u32>,
}

/// Blocks on their way.
type Step = Vec<ReadBlocks>;

impl<'a> Copy<'a> {
    async fn begin(
        shared: &'a Arc<Shared>,
        old: &'a Arc<Replica>,
        target: &'a Arc<Volume>,
    ) -> Result<Self, StoreError> {
        let (volume, key) = (Arc::clone(target), old.key);
        let path = target.replica_path(key);
        let made = path.clone();
        let file = target.call(Queue::Write, move || -> io::Result<Arc<dyn DiskFile>> {
            volume.make_folder(&file_name(key.chunk, key.part).0)?;
            // Whatever an attempt before left.
            remove(&volume, &made)?;
            volume.disk().open(&made, OpenMode::Create)
        });
        let file = file.await?.map_err(|error| target.write_failed("make a replica file", &error))?;
        Ok(Self { shared, old, target, path, file, sums: BTreeMap::new() })
    }

    async fn run(&mut self) -> Result<Outcome, StoreError> {
        let mut blocks = {
            let mut state = self.old.state();
            state.changed = Some(BlockSet::default());
            let mut blocks = state.stored.clone();
            blocks.extend(&state.unsynced);
            blocks
        };
        for _ in 0..MOVE_ROUNDS_MAX {
            for step in steps(&blocks, STEP_BLOCKS) {
                let (shared, disks) = (self.shared, [&self.old.volume, self.target]);
                let blocks: u32 = step.iter().map(|(first, end)| end - first).sum();
                let bytes = u64::from(blocks) * BLOCK_BYTES;
                shared.portion_of_move(disks, bytes, self.step(&step, false)).await?;
            }
            match self.finish().await? {
                Attempt::Over(outcome) => return Ok(outcome),
                Attempt::Changed(more) => blocks = more,
            }
        }
        Ok(Outcome::Busy)
    }

    /// Copies some runs of blocks. `held`: the caller has the lane.
    async fn step(&mut self, runs: &[(u32, u32)], held: bool) -> Result<(), StoreError> {
        let mut step = Step::new();
        for &(first, end) in runs {
            let version = self.old.state().version;
            let range = (u64::from(first) * BLOCK_BYTES, (end - first) * BLOCK_BYTES as u32);
            step.push(match held {
                true => read_held(self.old, version, (first, end)).await?,
                false => read(self.old, version, range, ReadTerms::default()).await?,
            });
        }
        for blocks in &step {
            let first = (blocks.offset / BLOCK_BYTES) as u32;
            self.sums.extend((first..).zip(blocks.sums.iter().copied()));
        }
        let (volume, file, path, key) =
            (Arc::clone(self.target), Arc::clone(&self.file), self.path.clone(), self.old.key);
        let job = move || store_step(&volume, (key, &path), &*file, &step);
        self.target.call(Queue::Write, job).await?
    }

    /// The last part, under the replica's lane, if that is short enough.
    async fn finish(&mut self) -> Result<Attempt, StoreError> {
        let (version, unsynced, runs) = {
            let state = self.old.state();
            (state.version, !state.unsynced.is_empty(), state.stored.runs().len())
        };
        if unsynced {
            sync(self.old, version).await?;
        }
        // Before the lane: a write-back that makes room may wait for it.
        let records = arrive_bytes(runs + MORE_RUNS) + COMMAND_BYTES;
        let at_target = self.target.journal.reserve(records, false).await?;
        let at_source = self.old.volume.journal.reserve(COMMAND_BYTES, false).await?;
        let lane = self.old.lane().await;
        let (rest, version) = {
            let mut state = self.old.state();
            if state.deleted || state.corrupt {
                let outcome = if state.deleted { Outcome::Gone } else { Outcome::Damaged };
                return Ok(Attempt::Over(outcome));
            }
            let fits = state.unsynced.is_empty() && state.stored.runs().len() <= runs + MORE_RUNS;
            // Without it the replica was made anew.
            let Some(changed) = &mut state.changed else { return Ok(Attempt::Over(Outcome::Busy)) };
            let rest = std::mem::take(changed);
            if !fits || rest.count() > MOVE_LAST_BLOCKS_MAX {
                return Ok(Attempt::Changed(rest));
            }
            (rest, state.version)
        };
        for step in steps(&rest, STEP_BLOCKS) {
            self.step(&step, true).await?;
        }
        let table = entries_held(self.old, version, true).await?;
        let new = self.seal(&table).await?;
        let written = Switch { shared: self.shared, old: self.old, new }.run(at_target, at_source, lane);
        written.await?;
        Ok(Attempt::Over(Outcome::Moved))
    }

    /// Writes table and header, makes all durable and reads it back. The caller has the lane. Answers the replica as it will be.
    async fn seal(&self, table: &[TableEntry]) -> Result<Arc<Replica>, StoreError> {
        let (version, lease, stored, writes_lost) = {
            let state = self.old.state();
            (state.version, state.lease, state.stored.clone(), state.writes_lost)
        };
        let entry = |block: u32| table.get(block as usize).copied().unwrap_or_default();
        let is_copied = |block: u32| self.sums.get(&block) == Some(&entry(block).crc);
        if let Some(other) = blocks_of(&stored).find(|&block| !is_copied(block)) {
            let chunk = self.old.key.chunk;
            return Err(StoreError::Io(format!("block {other} of {chunk} is another one than was copied")));
        }
        let digest = table_digest::digest(blocks_of(&stored).map(|block| (block, entry(block))));
        let (key, disk) = (self.old.key, self.target.disk_id);
        let header = FileHeader { chunk: key.chunk, version, part: key.part, disk }.encode();
        let runs: Vec<(u32, Vec<TableEntry>)> =
            stored.runs().iter().map(|&(first, end)| (first, (first..end).map(entry).collect())).collect();
        let (volume, file, path) = (Arc::clone(self.target), Arc::clone(&self.file), self.path.clone());
        let job = move || {
            let frame = Frame { header: &header, runs: &runs };
            frame.store(&volume, (key, &path), &*file)
        };
        self.target.call(Queue::Write, job).await??;
        let state = ReplicaState {
            version,
            lease,
            stored,
            writes_lost,
            digest: Some(digest),
            name_durable: true,
            provisional: Some(self.old.volume.disk_id),
            ..ReplicaState::default()
        };
        Ok(Replica::new(key, Arc::clone(self.target), state))
    }

    async fn discard(self) {
        let (volume, path) = (Arc::clone(self.target), self.path);
        drop(self.file);
        let job = move || remove(&volume, &path);
        // Of no replica: the next start removes it, if not the next attempt.
        drop(self.target.call(Queue::Write, job).await);
    }
}

enum Attempt {
    Over(Outcome),
    /// These blocks were written meanwhile, and are to be copied once more.
    Changed(BlockSet),
}

/// A copy that is whole, and takes the replica's place.
struct Switch<'a> {
    shared: &'a Arc<Shared>,
    old: &'a Arc<Replica>,
    new: Arc<Replica>,
}

impl Switch<'_> {
    async fn run(
        self,
        mut at_target: Reservation,
        mut at_source: Reservation,
        lane: Lane,
    ) -> Result<(), StoreError> {
        let (shared, old, new) = (self.shared, self.old, &self.new);
        let new_lane = new.lane().await;
        // From its first record on it is one that a write-back of its disk must know.
        shared.aside().push(Arc::clone(new));
        let outcome = self.records(&mut at_target, &mut at_source).await;
        if outcome.is_ok() {
            let settled = {
                let mut state = new.state();
                state.provisional = None;
                append(new, &mut state, Command::Settled, &mut at_target)
            };
            // If its disk fails now it is lost with it, as the old one would have been with its own.
            drop(new.volume.durable(settled).await);
        }
        shared.aside().retain(|one| !Arc::ptr_eq(one, new));
        outcome?;
        let gone = Arc::clone(old);
        let remove = move || {
            unlink(&gone);
            drop(lane);
        };
        // Otherwise the next start removes it, as a file of no replica.
        drop(old.volume.call(Queue::Write, remove).await);
        // Only now it may move back to where its file would have been removed.
        drop(new_lane);
        Ok(())
    }

    /// *arrive* and *delete*; then the store finds the new one.
    async fn records(
        &self,
        at_target: &mut Reservation,
        at_source: &mut Reservation,
    ) -> Result<(), StoreError> {
        let (old, new) = (self.old, &self.new);
        let arrived = {
            let mut state = new.state();
            let (stored, marked) = (state.stored.clone(), state.writes_lost);
            let (source, digest) = (old.volume.disk_id, state.digest.unwrap_or(table_digest::EMPTY));
            append(new, &mut state, Command::Arrive { source, digest, stored, marked }, at_target)
        };
        new.volume.durable(arrived).await?;
        let deleted = {
            let mut state = old.state();
            append(old, &mut state, Command::Delete, at_source)
        };
        if let Err(error) = old.volume.durable(deleted).await {
            // Perhaps it is deleted, perhaps not: what stood on the failed disk counts as absent, and so does this.
            let undone = {
                let mut state = new.state();
                state.deleted = true;
                append(new, &mut state, Command::Delete, at_target)
            };
            drop(new.volume.durable(undone).await);
            return Err(error);
        }
        let space = &new.volume.space;
        space.stored_blocks.fetch_add(i64::from(new.state().stored.count()), Ordering::Relaxed);
        space.replicas.fetch_add(1, Ordering::Relaxed);
        old.volume.space.replicas.fetch_sub(1, Ordering::Relaxed);
        new.volume.files.forget(new.volume.index, new.key);
        let mut map = self.shared.map_mut();
        let mut state = old.state();
        (state.deleted, state.moved) = (true, true);
        forget_blocks(old, &mut state);
        map.insert(new.key, Arc::clone(new));
        Ok(())
    }
}

/// Bytes that a move of the replica takes on its new disk.
pub(super) fn bytes_of(replica: &Replica) -> u64 {
    u64::from(replica.stat().blocks) * BLOCK_BYTES + REPLICA_OVERHEAD_BYTES
}

fn blocks_of(set: &BlockSet) -> impl Iterator<Item = u32> + '_ {
    set.runs().iter().flat_map(|&(first, end)| first..end)
}

/// The blocks in steps of at most `most`, each in runs that are read at once.
fn steps(blocks: &BlockSet, most: u32) -> Vec<Vec<(u32, u32)>> {
    let (mut steps, mut open, mut count) = (Vec::new(), Vec::new(), 0);
    for &(from, end) in blocks.runs() {
        for first in (from..end).step_by(READ_BLOCKS as usize) {
            let run = (first, end.min(first + READ_BLOCKS));
            if count + (run.1 - run.0) > most && !open.is_empty() {
                steps.push(std::mem::take(&mut open));
                count = 0;
            }
            count += run.1 - run.0;
            open.push(run);
        }
    }
    steps.extend((!open.is_empty()).then_some(open));
    steps
}

fn remove(volume: &Volume, path: &Path) -> io::Result<()> {
    match volume.disk().remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes blocks, syncs them, and reads them back from the medium. Blocks.
fn store_step(
    volume: &Volume,
    (key, path): (ReplicaKey, &Path),
    file: &dyn DiskFile,
    step: &Step,
) -> Result<(), StoreError> {
    for blocks in step {
        let written = file.write_all_at(&blocks.payload, blocks.offset);
        written.map_err(|error| volume.write_failed("write a moving replica", &error))?;
        volume.space.taken_since.fetch_add(blocks.payload.len() as u64, Ordering::Relaxed);
    }
    sync_or_fail(volume, file.sync_data())?;
    for blocks in step {
        let bytes = read_back(volume, path, blocks.offset, blocks.payload.len())?;
        let first = blocks.offset / BLOCK_BYTES;
        let found = bytes.chunks_exact(BLOCK_BYTES as usize).zip(first..);
        let found = found.map(|(block, index)| block_crc(key.chunk, index, block));
        if !found.eq(blocks.sums.iter().copied()) {
            return Err(differs(volume, key));
        }
    }
    Ok(())
}

/// Header and checksum table of a file.
struct Frame<'a> {
    header: &'a [u8],
    runs: &'a [(u32, Vec<TableEntry>)],
}

impl Frame<'_> {
    /// Blocks.
    fn store(
        &self,
        volume: &Volume,
        (key, path): (ReplicaKey, &Path),
        file: &dyn DiskFile,
    ) -> Result<(), StoreError> {
        let failed = |error: io::Error| volume.write_failed("write a moving replica", &error);
        file.write_all_at(self.header, HEADER_AT).map_err(failed)?;
        for (first, entries) in self.runs {
            file.write_all_at(&encoded(entries), entry_at(*first)).map_err(failed)?;
        }
        let folder = volume.folder(&file_name(key.chunk, key.part).0);
        sync_or_fail(volume, file.sync_data().and_then(|()| volume.disk().sync_dir(&folder)))?;
        if read_back(volume, path, HEADER_AT, self.header.len())? != self.header {
            return Err(differs(volume, key));
        }
        for (first, entries) in self.runs {
            if read_back(volume, path, entry_at(*first), entries.len() * ENTRY_BYTES)? != encoded(entries) {
                return Err(differs(volume, key));
            }
        }
        Ok(())
    }
}

fn encoded(entries: &[TableEntry]) -> Vec<u8> {
    entries.iter().copied().flat_map(TableEntry::encode).collect()
}

/// A sync that fails fails the disk: what reached it is unknown (I3).
fn sync_or_fail(volume: &Volume, synced: io::Result<()>) -> Result<(), StoreError> {
    synced.map_err(|error| {
        volume.fail(&format!("sync of a moving replica: {error}"));
        StoreError::DiskFailed
    })
}

fn read_back(volume: &Volume, path: &Path, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; length];
    let read = volume.disk().open_medium(path).and_then(|file| file.read_at(&mut bytes, offset));
    match read {
        Ok(read) if read == length => Ok(bytes),
        Ok(_) => Err(StoreError::Io(format!("{} is cut off", path.display()))),
        Err(error) => Err(StoreError::Io(format!("{} cannot be read back: {error}", path.display()))),
    }
}

fn differs(volume: &Volume, key: ReplicaKey) -> StoreError {
    tracing::error!(disk = %volume.disk_id, chunk = %key.chunk, "a disk gives back other bytes than it was given");
    StoreError::Io(format!("{} gives back other bytes than it was given", volume.config.path.display()))
}
