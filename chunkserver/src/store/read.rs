//! Reads: whole blocks, verified before they leave.
//!
//! A reader takes no lane. When a block does not match its entry, a writer may just have been between the two; the reader
//! then tries again with the lane, and what does not match under the lane is corrupt.

use super::error::StoreError;
use super::files::OpenFile;
use super::in_file::InFile;
use super::replica::{Replica, ReplicaState};
use super::types::{BlockSum, ReadBlocks, ReadTerms};
use super::volume::Queue;
use bytes::BytesMut;
use cairn_core::checksum::block_crc;
use cairn_core::chunk::catalogue::StagedBlock;
use cairn_core::chunk::replica_file::TableEntry;
use cairn_core::ids::{ChunkId, ChunkVersion};
use cairn_core::limits::FRAME_PAYLOAD_BYTES_MAX;
use cairn_core::seeded::{Bug, is_planted};
use cairn_core::units::{BLOCK_BYTES, CHUNK_BYTES};
use cairn_env::disk::OpenMode;
use std::io;
use std::sync::Arc;

/// Where a block comes from.
#[derive(Clone)]
enum Source {
    Absent,
    Staged(StagedBlock),
    InFile,
}

/// Whether a read may wait for the device.
#[derive(Clone, Copy)]
enum Wait {
    Never,
    ForDisk,
}

/// Why one attempt gave no blocks.
enum Failure {
    Refused(StoreError),
    /// The system could not read it.
    Unread {
        offset: u64,
        detail: String,
    },
    /// It does not verify.
    Bad {
        offset: u64,
        detail: String,
    },
}

/// See [`ChunkStore::read`](super::ChunkStore::read).
pub(super) async fn read(
    replica: &Arc<Replica>,
    version: ChunkVersion,
    (offset, length): (u64, u32),
    terms: ReadTerms,
) -> Result<ReadBlocks, StoreError> {
    let end = offset.saturating_add(u64::from(length));
    if length == 0 || end > CHUNK_BYTES || u64::from(length) > FRAME_PAYLOAD_BYTES_MAX as u64 + BLOCK_BYTES {
        return Err(StoreError::BadRequest(
            "a read of no bytes, of more than a frame, or beyond the end of the chunk",
        ));
    }
    let (first, end) = ((offset / BLOCK_BYTES) as u32, end.div_ceil(BLOCK_BYTES) as u32);
    if replica.state().corrupt {
        // Its blocks may verify and be old ones all the same.
        check_table(replica, offset).await?;
    }
    match attempt(replica, version, (first, end), terms).await {
        Ok(blocks) => return Ok(blocks),
        Err(Failure::Refused(error)) => return Err(error),
        Err(Failure::Unread { .. }) if replica.volume.has_failed() => return Err(StoreError::DiskFailed),
        Err(Failure::Bad { .. } | Failure::Unread { .. }) => {}
    }
    let _lane = replica.lane().await;
    read_held(replica, version, (first, end)).await
}

/// Reads blocks `first .. end`; the caller holds the lane.
pub(super) async fn read_held(
    replica: &Arc<Replica>,
    version: ChunkVersion,
    (first, end): (u32, u32),
) -> Result<ReadBlocks, StoreError> {
    match attempt(replica, version, (first, end), ReadTerms::default()).await {
        Ok(blocks) => Ok(blocks),
        Err(Failure::Refused(error)) => Err(error),
        Err(Failure::Unread { offset, detail }) => {
            replica.volume.read_failed(replica.key, &detail);
            if replica.volume.has_failed() {
                return Err(StoreError::DiskFailed);
            }
            replica.volume.report_corrupt(replica, offset, &detail);
            Err(StoreError::Corrupt { offset })
        }
        Err(Failure::Bad { offset, detail }) => {
            replica.volume.report_corrupt(replica, offset, &detail);
            Err(StoreError::Corrupt { offset })
        }
    }
}

/// Whether the file of a replica known to be damaged is at least the one that was written last.
async fn check_table(replica: &Arc<Replica>, offset: u64) -> Result<(), StoreError> {
    let _lane = replica.lane().await;
    let in_file = InFile::of(&replica.state());
    let job = Arc::clone(replica);
    let checked = replica.volume.call(Queue::Read, move || match in_file.end() {
        0 => true,
        end => open_to_read(&job)
            .and_then(|file| file.entries(0, end))
            .is_ok_and(|entries| in_file.check_table(&entries).is_ok()),
    });
    if checked.await? { Ok(()) } else { Err(StoreError::Corrupt { offset }) }
}

async fn attempt(
    replica: &Arc<Replica>,
    version: ChunkVersion,
    (first, end): (u32, u32),
    terms: ReadTerms,
) -> Result<ReadBlocks, Failure> {
    let sources = {
        let state = replica.state();
        state.check_version(version).map_err(Failure::Refused)?;
        if state.may_not_be_durable(first, end) {
            // After a failed sync memory is not to be believed (I3); what was durable before is still tried.
            replica.volume.check_alive().map_err(Failure::Refused)?;
        }
        state.sources(first, end)
    };
    let disk = replica.volume.index;
    if !sources.iter().any(|source| matches!(source, Source::InFile)) {
        return assemble(replica.key.chunk, (first, disk), &sources, None);
    }
    if let Some(blocks) = attempt_at_once(replica, first, &sources) {
        return Ok(blocks);
    }
    let job = Arc::clone(replica);
    let blocks = replica.volume.read_call(terms, move || {
        let file = open_to_read(&job).map_err(|error| unread(first, format!("open: {error}")))?;
        let blocks = assemble(job.key.chunk, (first, disk), &sources, Some((&file, Wait::ForDisk)));
        if !matches!(blocks, Err(Failure::Unread { .. })) {
            job.volume.pace.read_worked();
        }
        blocks
    });
    blocks.await.map_err(Failure::Refused)?
}

/// Without leaving the thread, when all is in memory: a hand-over to another core costs more than such a read.
fn attempt_at_once(replica: &Replica, first: u32, sources: &[Source]) -> Option<ReadBlocks> {
    let file = replica.volume.files.get(replica.volume.index, replica.key)?;
    assemble(replica.key.chunk, (first, replica.volume.index), sources, Some((&file, Wait::Never))).ok()
}

impl ReplicaState {
    fn may_not_be_durable(&self, first: u32, end: u32) -> bool {
        self.unsynced.count_within(first, end) > 0 || self.staged.range(first..end).next().is_some()
    }

    fn sources(&self, first: u32, end: u32) -> Vec<Source> {
        (first..end)
            .map(|block| match self.staged.get(&block) {
                Some(staged) => Source::Staged(staged.clone()),
                None if self.stored.contains(block) || self.unsynced.contains(block) => Source::InFile,
                None => Source::Absent,
            })
            .collect()
    }
}

fn bad(block: u32, detail: String) -> Failure {
    Failure::Bad { offset: u64::from(block) * BLOCK_BYTES, detail }
}

fn unread(block: u32, detail: String) -> Failure {
    Failure::Unread { offset: u64::from(block) * BLOCK_BYTES, detail }
}

pub(super) fn open_to_read(replica: &Replica) -> io::Result<Arc<OpenFile>> {
    let volume = &replica.volume;
    let open = || volume.disk().open(&volume.replica_path(replica.key), OpenMode::Write);
    volume.files.get_or_open(volume.index, replica.key, false, open)
}

/// Puts blocks together and verifies each, journaled ones included.
fn assemble(
    chunk: ChunkId,
    (first, disk): (u32, usize),
    sources: &[Source],
    file: Option<(&Arc<OpenFile>, Wait)>,
) -> Result<ReadBlocks, Failure> {
    let block_bytes = BLOCK_BYTES as usize;
    let mut payload = BytesMut::zeroed(sources.len() * block_bytes);
    let mut entries = vec![TableEntry::default(); sources.len()];
    if let Some((file, wait)) = file {
        fill_from_file(first, sources, (file, wait), &mut payload, &mut entries)?;
    }
    let mut sums = Vec::with_capacity(sources.len());
    for (at, source) in sources.iter().enumerate() {
        let block = first + at as u32;
        let bytes = &mut payload[at * block_bytes..(at + 1) * block_bytes];
        if let Source::Staged(staged) = source {
            bytes.copy_from_slice(&staged.data);
            entries[at] = staged.entry;
        }
        let crc = block_crc(chunk, u64::from(block), bytes);
        if !matches!(source, Source::Absent) && crc != entries[at].crc && !is_planted(Bug::SkipVerification) {
            return Err(bad(block, "checksum mismatch".into()));
        }
        sums.push(crc);
    }
    Ok(ReadBlocks { offset: u64::from(first) * BLOCK_BYTES, payload: payload.freeze(), sums, disk })
}

fn fill_from_file(
    first: u32,
    sources: &[Source],
    (file, wait): (&OpenFile, Wait),
    payload: &mut [u8],
    entries: &mut [TableEntry],
) -> Result<(), Failure> {
    let block_bytes = BLOCK_BYTES as usize;
    let mut at = 0;
    for run in sources.chunk_by(|a, b| matches!(a, Source::InFile) == matches!(b, Source::InFile)) {
        let range = at..at + run.len();
        at = range.end;
        if !matches!(run[0], Source::InFile) {
            continue;
        }
        let block = first + range.start as u32;
        let end = first + range.end as u32;
        let bytes = &mut payload[range.start * block_bytes..range.end * block_bytes];
        let offset = u64::from(block) * BLOCK_BYTES;
        let found = match wait {
            // Short only at the end of the file: what is missing stays zero and does not verify.
            Wait::ForDisk => {
                file.entries(block, end).and_then(|found| file.file.read_at(bytes, offset).map(|_| found))
            }
            Wait::Never => {
                let found = file.known_entries(block, end).filter(|_| file.file.try_read_at(bytes, offset));
                found.ok_or_else(|| io::ErrorKind::WouldBlock.into())
            }
        };
        let found = found.map_err(|error| unread(block, format!("read failed: {error}")))?;
        entries[range].copy_from_slice(&found);
    }
    Ok(())
}

/// See [`ChunkStore::block_sums`](super::ChunkStore::block_sums); `of_source`: and `source_sums`.
pub(super) async fn block_sums(
    replica: &Arc<Replica>,
    version: ChunkVersion,
    of_source: bool,
) -> Result<Vec<BlockSum>, StoreError> {
    let _lane = replica.lane().await;
    let entries = entries_held(replica, version, of_source).await?.into_iter();
    Ok(entries.map(|entry| BlockSum { crc: entry.crc, generation: entry.generation }).collect())
}

/// What the checksum table says, one entry per block up to the end of the last stored one; the caller holds the lane.
pub(super) async fn entries_held(
    replica: &Arc<Replica>,
    version: ChunkVersion,
    of_source: bool,
) -> Result<Vec<TableEntry>, StoreError> {
    let (sources, in_file) = {
        let state = replica.state();
        state.check_version(version)?;
        (state.sources(0, state.end()), InFile::of(&state))
    };
    let job = Arc::clone(replica);
    let entries = replica.volume.call(Queue::Read, move || -> io::Result<Vec<TableEntry>> {
        let any_in_file = sources.iter().any(|source| matches!(source, Source::InFile));
        let mut entries = if any_in_file {
            let entries = open_to_read(&job)?.entries(0, sources.len() as u32)?;
            if of_source {
                in_file.check_table(&entries).map_err(io::Error::other)?;
            }
            entries
        } else {
            vec![TableEntry::default(); sources.len()]
        };
        for (entry, source) in entries.iter_mut().zip(&sources) {
            match source {
                Source::Absent => *entry = TableEntry::default(),
                Source::Staged(staged) => *entry = staged.entry,
                Source::InFile => {}
            }
        }
        Ok(entries)
    });
    match entries.await? {
        Ok(entries) => Ok(entries),
        Err(error) => {
            let detail = format!("read of the checksum table failed: {error}");
            replica.volume.read_failed(replica.key, &detail);
            replica.volume.report_corrupt(replica, 0, &detail);
            Err(StoreError::Corrupt { offset: 0 })
        }
    }
}
