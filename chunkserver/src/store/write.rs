//! A write: each touched block goes in place (large writes to blocks never synced) or through the intent journal.
//!
//! Under the lane: plan by the state, read what partial blocks need, write in place, then change state and queue records
//! in one step. An acknowledged write that is not durable is announced by a *mark*, durable before the acknowledgement;
//! so a server that lost it knows.

use super::error::StoreError;
use super::files::OpenFile;
use super::journal::{Reservation, journal_bytes};
use super::replica::{Lane, Replica, ReplicaState};
use super::types::WriteRequest;
use super::volume::{Queue, is_full};
use bytes::{Bytes, BytesMut};
use cairn_core::checksum::{block_crc, pieces};
use cairn_core::chunk::catalogue::StagedBlock;
use cairn_core::chunk::generation_of;
use cairn_core::chunk::intent::{INTENT_HEADER_BYTES, Intent, IntentBlock, IntentRecord};
use cairn_core::chunk::replica_file::TableEntry;
use cairn_core::limits::{FRAME_PAYLOAD_BYTES_MAX, INTENT_BLOCKS_MAX, SMALL_WRITE_BYTES_MAX};
use cairn_core::units::{BLOCK_BYTES, CHUNK_BYTES};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Journal bytes of a record without blocks or runs.
pub(super) const COMMAND_BYTES: u64 = journal_bytes(INTENT_HEADER_BYTES);

/// Journal bytes that records with so many blocks take at most.
pub(super) fn blocks_bytes(blocks: usize) -> u64 {
    let of = |blocks: usize| journal_bytes(INTENT_HEADER_BYTES + blocks * (8 + BLOCK_BYTES as usize));
    (blocks / INTENT_BLOCKS_MAX) as u64 * of(INTENT_BLOCKS_MAX)
        + if blocks.is_multiple_of(INTENT_BLOCKS_MAX) { 0 } else { of(blocks % INTENT_BLOCKS_MAX) }
}

/// What a block holds before a write to a part of it.
enum Before {
    /// The write covers it.
    Nothing,
    /// It is absent: zeros.
    Zeros,
    /// Its record is in the journal.
    Staged(Bytes),
    /// It is in the file.
    InFile,
}

struct PlannedBlock {
    index: u32,
    /// Where in the payload its piece is.
    piece: Range<usize>,
    /// Checksum of the piece.
    crc: u32,
    /// Where in the block the piece begins.
    at: usize,
    journaled: bool,
    before: Before,
}

struct Plan {
    blocks: Vec<PlannedBlock>,
    /// Blocks that were absent.
    new_blocks: u64,
    /// Some block in place was acknowledged before: if writing it fails half-way, that is lost.
    overwrites_unsynced: bool,
}

/// A block ready to be stored.
pub(super) struct ReadyBlock {
    pub(super) index: u32,
    pub(super) journaled: bool,
    pub(super) entry: TableEntry,
    pub(super) data: Bytes,
}

/// Checks a request by itself.
pub(super) fn check(request: &WriteRequest) -> Result<(), StoreError> {
    let length = request.payload.len() as u64;
    if length == 0 || length > FRAME_PAYLOAD_BYTES_MAX as u64 + BLOCK_BYTES {
        return Err(StoreError::BadRequest("a write of no bytes, or of more than a frame"));
    }
    if request.offset.checked_add(length).is_none_or(|end| end > CHUNK_BYTES) {
        return Err(StoreError::BadRequest("a write beyond the end of the chunk"));
    }
    let mut sums = request.sums.iter();
    for (index, piece) in pieces(request.offset, &request.payload) {
        if sums.next() != Some(&block_crc(request.chunk, index, piece)) {
            return Err(StoreError::PayloadCorrupt);
        }
    }
    if sums.next().is_some() { Err(StoreError::BadRequest("more checksums than blocks")) } else { Ok(()) }
}

/// Stores the payload in `replica`, which exists. Returns the ticket that must be durable before the acknowledgement.
pub(super) async fn write(replica: &Arc<Replica>, request: &Arc<WriteRequest>) -> Result<u64, StoreError> {
    let volume = &replica.volume;
    let mut expected = replica.state().journaled_blocks(request);
    loop {
        volume.check_alive()?;
        let bytes = blocks_bytes(expected) + 2 * COMMAND_BYTES;
        let mut reservation = volume.journal.reserve(bytes, true).await?;
        let lane = replica.lane().await;
        let (plan, needs_file) = {
            let mut state = replica.state();
            state.check_write(request)?;
            let needed = state.journaled_blocks(request);
            if needed > expected {
                // Blocks were declared while we waited for space or lane.
                expected = needed;
                continue;
            }
            let plan = state.plan(request);
            let in_place = plan.blocks.iter().any(|block| !block.journaled);
            if in_place && state.unsynced.is_empty() && !volume.files.may_pin() {
                // Upkeep will sync some.
                return Err(StoreError::Overloaded);
            }
            if !request.sync && state.mark.is_none() {
                let ticket = append(replica, &mut state, Intent::<Bytes>::Mark, &mut reservation);
                state.mark = Some(ticket);
            }
            let needs_file =
                in_place || plan.blocks.iter().any(|block| matches!(block.before, Before::InFile));
            (plan, needs_file)
        };
        let room = plan.new_blocks * BLOCK_BYTES;
        volume.admit(room).await?;
        volume.space.taken_since.fetch_add(room, Ordering::Relaxed);
        if !needs_file {
            return store(replica, request, plan, reservation, None);
        }
        let mark = replica.state().mark;
        if let Some(mark) = mark {
            // The mark becomes durable while the data is written.
            volume.hasten(mark)?;
        }
        let (replica, request) = (Arc::clone(replica), Arc::clone(request));
        return volume
            .call(Queue::Write, move || {
                let _lane: Lane = lane;
                let file = replica.volume.open_to_write(replica.key)?;
                store(&replica, &request, plan, reservation, Some(&file))
            })
            .await?;
    }
}

impl ReplicaState {
    fn check_write(&self, request: &WriteRequest) -> Result<(), StoreError> {
        self.check_version(request.version)?;
        if self.writes_lost {
            return Err(StoreError::WritesLost);
        }
        if !request.repair && request.lease < self.lease {
            return Err(StoreError::StaleLease { floor: self.lease });
        }
        Ok(())
    }

    /// How many of the touched blocks must go through the journal.
    fn journaled_blocks(&self, request: &WriteRequest) -> usize {
        let first = (request.offset / BLOCK_BYTES) as u32;
        let end = (request.offset + request.payload.len() as u64).div_ceil(BLOCK_BYTES) as u32;
        if request.payload.len() <= SMALL_WRITE_BYTES_MAX {
            (end - first) as usize
        } else {
            self.stored.count_within(first, end) as usize
        }
    }

    fn plan(&self, request: &WriteRequest) -> Plan {
        let small = request.payload.len() <= SMALL_WRITE_BYTES_MAX;
        let mut plan = Plan { blocks: Vec::new(), new_blocks: 0, overwrites_unsynced: false };
        let mut start = 0;
        for ((index, piece), &crc) in pieces(request.offset, &request.payload).zip(&request.sums) {
            let index = index as u32;
            let (stored, unsynced) = (self.stored.contains(index), self.unsynced.contains(index));
            let journaled = small || stored;
            let before = if piece.len() as u64 == BLOCK_BYTES {
                Before::Nothing
            } else if let Some(block) = self.staged.get(&index) {
                Before::Staged(block.data.clone())
            } else if stored || unsynced {
                Before::InFile
            } else {
                Before::Zeros
            };
            plan.new_blocks += u64::from(!stored && !unsynced);
            plan.overwrites_unsynced |= unsynced && !journaled;
            let at = ((request.offset + start as u64) % BLOCK_BYTES) as usize;
            plan.blocks.push(PlannedBlock {
                index,
                piece: start..start + piece.len(),
                crc,
                at,
                journaled,
                before,
            });
            start += piece.len();
        }
        plan
    }
}

/// Does a plan: the caller holds the lane.
fn store(
    replica: &Arc<Replica>,
    request: &WriteRequest,
    plan: Plan,
    mut reservation: Reservation,
    file: Option<&Arc<OpenFile>>,
) -> Result<u64, StoreError> {
    let overwrites_unsynced = plan.overwrites_unsynced;
    let mut ready = Vec::with_capacity(plan.blocks.len());
    for block in plan.blocks {
        ready.push(make_ready(replica, request, block, file)?);
    }
    if let Some(file) = file {
        write_in_place(replica, &ready, file, overwrites_unsynced)?;
    }
    let mut state = replica.state();
    if !request.repair {
        state.lease = state.lease.max(request.lease);
    }
    let before = state.stored.count() + state.unsynced.count();
    for block in ready.iter().filter(|block| !block.journaled) {
        state.unsynced.insert(block.index, block.index + 1);
        state.note_change(block.index, block.index + 1);
    }
    let journaled: Vec<&ReadyBlock> = ready.iter().filter(|block| block.journaled).collect();
    for group in journaled.chunks(INTENT_BLOCKS_MAX) {
        stage(replica, &mut state, group, &mut reservation);
    }
    let space = &replica.volume.space;
    let after = state.stored.count() + state.unsynced.count();
    space.stored_blocks.fetch_add(i64::from(after - before), Ordering::Relaxed);
    Ok(if request.sync { state.last } else { state.mark.unwrap_or_default() })
}

/// Journals some blocks; the caller holds the lane and has reserved.
pub(super) fn stage(
    replica: &Arc<Replica>,
    state: &mut ReplicaState,
    group: &[&ReadyBlock],
    reservation: &mut Reservation,
) {
    let blocks = group
        .iter()
        .map(|block| IntentBlock { index: block.index, crc: block.entry.crc, data: block.data.clone() })
        .collect();
    append(replica, state, Intent::Blocks(blocks), reservation);
    for block in group {
        let replaces = match state.staged.get(&block.index) {
            Some(before) => before.replaces,
            None => state.stored.contains(block.index),
        };
        let staged = StagedBlock { entry: block.entry, data: block.data.clone(), replaces };
        if state.staged.insert(block.index, staged).is_none() {
            replica.volume.space.staged_blocks.fetch_add(1, Ordering::Relaxed);
        }
        state.stored.insert(block.index, block.index + 1);
        state.unsynced.remove(block.index, block.index + 1);
        state.note_change(block.index, block.index + 1);
    }
}

/// Queues a record of the replica as it is now; the caller holds its state lock and has reserved.
pub(super) fn append<B: AsRef<[u8]>>(
    replica: &Arc<Replica>,
    state: &mut ReplicaState,
    intent: Intent<B>,
    reservation: &mut Reservation,
) -> u64 {
    let record = IntentRecord { key: replica.key, version: state.version, lease: state.lease, intent };
    state.last = replica.volume.journal.append(reservation, &record, Some(replica));
    state.last
}

fn make_ready(
    replica: &Arc<Replica>,
    request: &WriteRequest,
    block: PlannedBlock,
    file: Option<&Arc<OpenFile>>,
) -> Result<ReadyBlock, StoreError> {
    let piece = request.payload.slice(block.piece.clone());
    let mut whole = match block.before {
        Before::Nothing => {
            // A journaled block outlives its frame: a copy, lest it hold the frame's buffer.
            let data = if block.journaled { Bytes::copy_from_slice(&piece) } else { piece };
            let entry = TableEntry { crc: block.crc, generation: generation_of(request.version) };
            return Ok(ReadyBlock { index: block.index, journaled: block.journaled, entry, data });
        }
        Before::Zeros => BytesMut::zeroed(BLOCK_BYTES as usize),
        Before::Staged(data) => BytesMut::from(&data[..]),
        Before::InFile => {
            let file = file.ok_or_else(|| StoreError::Io("replica file was not opened".into()))?;
            read_whole(replica, block.index, file)?
        }
    };
    whole[block.at..block.at + piece.len()].copy_from_slice(&piece);
    let crc = block_crc(request.chunk, u64::from(block.index), &whole);
    let entry = TableEntry { crc, generation: generation_of(request.version) };
    Ok(ReadyBlock { index: block.index, journaled: block.journaled, entry, data: whole.freeze() })
}

/// The old contents of a block that is written in part, verified: garbage must not get a new checksum.
fn read_whole(replica: &Arc<Replica>, index: u32, file: &OpenFile) -> Result<BytesMut, StoreError> {
    let mut whole = BytesMut::zeroed(BLOCK_BYTES as usize);
    let offset = u64::from(index) * BLOCK_BYTES;
    let checked = file.entries(index, index + 1).and_then(|entries| {
        let read = file.file.read_at(&mut whole, offset)?;
        Ok(read == whole.len() && entries[0].crc == block_crc(replica.key.chunk, u64::from(index), &whole))
    });
    match checked {
        Ok(true) => Ok(whole),
        Ok(false) => {
            replica.volume.report_corrupt(replica, offset, "checksum mismatch before a partial write");
            Err(StoreError::Corrupt { offset })
        }
        Err(error) => {
            replica.volume.report_corrupt(replica, offset, &format!("read failed: {error}"));
            Err(StoreError::Corrupt { offset })
        }
    }
}

/// Writes runs of adjoining blocks, each run by one call, and their table entries in memory.
fn write_in_place(
    replica: &Arc<Replica>,
    ready: &[ReadyBlock],
    file: &Arc<OpenFile>,
    overwrites_unsynced: bool,
) -> Result<(), StoreError> {
    let blocks: Vec<&ReadyBlock> = ready.iter().filter(|block| !block.journaled).collect();
    if blocks.is_empty() {
        return Ok(());
    }
    file.pin(true);
    let written = blocks.chunk_by(|a, b| a.index + 1 == b.index).try_for_each(|run| {
        let parts: Vec<&[u8]> = run.iter().map(|block| &block.data[..]).collect();
        file.file.write_parts_at(&parts, u64::from(run[0].index) * BLOCK_BYTES)?;
        file.written_in_place(run.len() as u64 * BLOCK_BYTES);
        Ok(())
    });
    let set = written
        .and_then(|()| blocks.iter().try_for_each(|block| file.set(block.index, block.entry).map(drop)));
    set.map_err(|error| {
        let mut state = replica.state();
        for block in &blocks {
            state.unsynced.remove(block.index, block.index + 1);
        }
        // Acknowledged bytes may be half overwritten: no sync may claim them.
        state.writes_lost |= overwrites_unsynced;
        file.pin(!state.unsynced.is_empty());
        drop(state);
        if is_full(&error) {
            tracing::warn!(chunk = %replica.key.chunk, disk = %replica.volume.disk_id, "disk is full");
        }
        replica.volume.write_failed("write replica file", &error)
    })
}
