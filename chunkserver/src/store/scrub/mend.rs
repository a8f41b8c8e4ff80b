//! A damaged replica gets blocks back from others: only such as it had, by the checksums of its own table, if that is the one written
//! last or can be proven to have been (`core/chunk/table_mend`). What was overwritten meanwhile stays as it is.

use super::super::ChunkStore;
use super::super::error::StoreError;
use super::super::files::PAGE_ENTRIES;
use super::super::in_file::InFile;
use super::super::read::open_to_read;
use super::super::replica::Replica;
use super::super::sync::{sync_or_fail, write_header};
use super::super::types::{BadBlock, StoreEvent};
use super::super::volume::Queue;
use super::super::write::{COMMAND_BYTES, ReadyBlock, append, blocks_bytes, stage};
use super::verify::read_table;
use bytes::Bytes;
use cairn_core::checksum::block_crc;
use cairn_core::chunk::generation_of;
use cairn_core::chunk::intent::Intent;
use cairn_core::chunk::replica_file::{ENTRY_BYTES, TABLE_AT, TableEntry};
use cairn_core::ids::{ChunkId, ChunkVersion, PartId};
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk::MediumFile;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Table entries in the smallest part of a disk that fails alone.
const SECTOR_ENTRIES: u32 = 512 / ENTRY_BYTES as u32;

impl ChunkStore {
    /// Blocks of a replica that do not verify on the medium, and what they should hold.
    ///
    /// # Errors
    /// `Corrupt` when that cannot be told: its checksum table is not the one written last, or not there.
    pub async fn bad_blocks(
        &self,
        chunk: ChunkId,
        part: PartId,
        version: ChunkVersion,
    ) -> Result<Vec<BadBlock>, StoreError> {
        self.on_replica((chunk, part), |replica| async move { bad_blocks(&replica, version).await }).await
    }

    /// Writes a block anew that does not verify, unless it was overwritten meanwhile; durable before it returns. Nothing is
    /// written that has not the checksum that the block should have.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn mend_block(
        &self,
        chunk: ChunkId,
        part: PartId,
        version: ChunkVersion,
        (block, bytes): (u32, Bytes),
    ) -> Result<(), StoreError> {
        let mend = |replica: Arc<Replica>| {
            let bytes = bytes.clone();
            async move { mend_block(&replica, version, (block, bytes)).await }
        };
        self.on_replica((chunk, part), mend).await
    }

    /// Looks at every block once more, and if all verify the replica is corrupt no more; durable before it returns.
    ///
    /// # Errors
    /// `Corrupt` when some block does not verify.
    pub async fn declare_sound(
        &self,
        chunk: ChunkId,
        part: PartId,
        version: ChunkVersion,
    ) -> Result<(), StoreError> {
        self.on_replica((chunk, part), |replica| async move { declare_sound(&replica, version).await }).await
    }
}

/// See [`ChunkStore::bad_blocks`](ChunkStore::bad_blocks).
async fn bad_blocks(replica: &Arc<Replica>, version: ChunkVersion) -> Result<Vec<BadBlock>, StoreError> {
    let _lane = replica.lane().await;
    find(replica, version).await
}

/// The caller holds the lane.
async fn find(replica: &Arc<Replica>, version: ChunkVersion) -> Result<Vec<BadBlock>, StoreError> {
    let in_file = {
        let state = replica.state();
        state.check_version(version)?;
        InFile::of(&state)
    };
    let job = Arc::clone(replica);
    replica.volume.call(Queue::Read, move || look(&job, &in_file)).await?
}

/// Blocks. The caller holds the lane.
fn look(replica: &Replica, in_file: &InFile) -> Result<Vec<BadBlock>, StoreError> {
    let end = in_file.end();
    if end == 0 {
        return Ok(Vec::new());
    }
    let lost = || StoreError::Corrupt { offset: TABLE_AT };
    let file =
        replica.volume.disk().open_medium(&replica.volume.replica_path(replica.key)).map_err(|_| lost())?;
    let mut entries = entries_as_far_as_readable(&*file, end);
    let mut crcs = BTreeMap::new();
    let mut bytes = vec![0; BLOCK_BYTES as usize];
    let mut crc = |block: u32| {
        *crcs.entry(block).or_insert_with(|| {
            file.read_at(&mut bytes, u64::from(block) * BLOCK_BYTES).ok()?;
            Some(block_crc(replica.key.chunk, u64::from(block), &bytes))
        })
    };
    if in_file.check_table(&entries).is_err() {
        let right = in_file.mend_table(&entries, &mut crc).ok_or_else(lost)?;
        right.iter().for_each(|&(block, entry)| entries[block as usize] = entry);
        write_table(replica, &entries, &right)?;
    }
    let held = (0..end).zip(&entries).filter(|(block, _)| in_file.holds(*block));
    let bad = held.filter(|&(block, entry)| crc(block) != Some(entry.crc));
    Ok(bad.map(|(block, entry)| BadBlock { block, crc: entry.crc }).collect())
}

/// The table from block 0 to `end`, without the sectors that cannot be read.
fn entries_as_far_as_readable(file: &dyn MediumFile, end: u32) -> Vec<TableEntry> {
    if let Ok(entries) = read_table(file, 0, end) {
        return entries;
    }
    let sectors = (0..end).step_by(SECTOR_ENTRIES as usize);
    let sector = |first: u32| {
        let to = (first + SECTOR_ENTRIES).min(end);
        read_table(file, first, to).unwrap_or_else(|_| vec![TableEntry::default(); (to - first) as usize])
    };
    sectors.flat_map(sector).collect()
}

/// Puts the entries `right` into the table, whose entries are those given otherwise. Blocks. Durable before it returns.
fn write_table(
    replica: &Replica,
    entries: &[TableEntry],
    right: &[(u32, TableEntry)],
) -> Result<(), StoreError> {
    let volume = &replica.volume;
    let file = volume.open_to_write(replica.key)?;
    let failed = |error: io::Error| volume.write_failed("write checksum table", &error);
    let pages: BTreeSet<u32> = right.iter().map(|(block, _)| block / PAGE_ENTRIES).collect();
    for page in pages {
        let first = page * PAGE_ENTRIES;
        // Whole pages: a part of one that cannot be read could not be written.
        let mut whole: Vec<TableEntry> =
            entries.iter().skip(first as usize).take(PAGE_ENTRIES as usize).copied().collect();
        whole.resize(PAGE_ENTRIES as usize, TableEntry::default());
        file.put_entries(first, &whole).map_err(failed)?;
    }
    for &(block, entry) in right {
        file.set(block, entry).map_err(failed)?;
    }
    sync_or_fail(replica, &file, false)
}

/// See [`ChunkStore::mend_block`](ChunkStore::mend_block).
async fn mend_block(
    replica: &Arc<Replica>,
    version: ChunkVersion,
    (block, bytes): (u32, Bytes),
) -> Result<(), StoreError> {
    let volume = &replica.volume;
    volume.check_alive()?;
    let mut reservation = volume.journal.reserve(blocks_bytes(1), true).await?;
    let _lane = replica.lane().await;
    let in_file = {
        let state = replica.state();
        state.check_version(version)?;
        InFile::of(&state)
    };
    if bytes.len() as u64 != BLOCK_BYTES {
        return Err(StoreError::BadRequest("a block that is none"));
    }
    if !in_file.holds(block) {
        return Ok(());
    }
    let job = Arc::clone(replica);
    let entry = volume.call(Queue::Read, move || open_to_read(&job)?.entries(block, block + 1)).await?;
    let expected = entry.map_err(|error| StoreError::Io(error.to_string()))?[0].crc;
    if block_crc(replica.key.chunk, u64::from(block), &bytes) != expected {
        // It has another content by now: the last look will tell.
        return Ok(());
    }
    let ticket = {
        let mut state = replica.state();
        let entry = TableEntry { crc: expected, generation: generation_of(state.version) };
        let ready = ReadyBlock { index: block, journaled: true, entry, data: bytes };
        stage(replica, &mut state, &[&ready], &mut reservation);
        state.last
    };
    volume.durable(ticket).await
}

/// See [`ChunkStore::declare_sound`](ChunkStore::declare_sound).
async fn declare_sound(replica: &Arc<Replica>, version: ChunkVersion) -> Result<(), StoreError> {
    let volume = &replica.volume;
    volume.check_alive()?;
    let mut reservation = volume.journal.reserve(COMMAND_BYTES, false).await?;
    let _lane = replica.lane().await;
    if let Some(bad) = find(replica, version).await?.first() {
        return Err(StoreError::Corrupt { offset: u64::from(bad.block) * BLOCK_BYTES });
    }
    if InFile::of(&replica.state()).end() > 0 {
        // Its header may have been what was damaged.
        let job = Arc::clone(replica);
        volume.call(Queue::Write, move || make_header(&job)).await??;
    }
    let ticket = {
        let mut state = replica.state();
        (state.corrupt, state.reported) = (false, false);
        append(replica, &mut state, Intent::<Bytes>::Sound, &mut reservation)
    };
    volume.durable(ticket).await?;
    // Full: whoever asked for it is told by its answer.
    let _ = volume.events.try_send(StoreEvent::Mended { replica: replica.stat() });
    Ok(())
}

/// Blocks.
fn make_header(replica: &Arc<Replica>) -> Result<(), StoreError> {
    let volume = &replica.volume;
    let file = volume.open_to_write(replica.key)?;
    write_header(replica, &file).map_err(|error| volume.write_failed("write replica header", &error))?;
    sync_or_fail(replica, &file, false)
}
