//! One replica, verified as it lies on the medium: its file, header and checksum table, then block by block.
//!
//! As a reader, a step takes no lane at first. What does not match may have been changed meanwhile; what does not match under the
//! lane, in a file that is synced, is damage.

use super::super::in_file::InFile;
use super::super::replica::Replica;
use super::super::volume::Queue;
use cairn_core::checksum::block_crc;
use cairn_core::chunk::replica_file::{
    ENTRY_BYTES, FileHeader, HEADER_AT, HEADER_BYTES, TABLE_AT, TABLE_BYTES, TableEntry,
};
use cairn_core::ids::ChunkVersion;
use cairn_core::limits::SCRUB_STEP_BYTES;
use cairn_core::units::BLOCK_BYTES;
use cairn_env::disk::{MediumFile, is_damage};
use std::io;
use std::sync::Arc;

/// Blocks of one step.
const STEP_BLOCKS: u32 = (SCRUB_STEP_BYTES / BLOCK_BYTES) as u32;

/// What a step has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Found {
    /// So many blocks are sound; `next` is to be looked at then, if there is anything left.
    Sound { blocks: u32, next: Option<u32> },
    /// It is corrupt, and that is on record; `new`: nobody knew.
    Damaged { new: bool },
    /// It was deleted.
    Gone,
    /// It could not be told at present, and why.
    Unclear(String),
}

/// Why an attempt came to nothing.
pub(super) enum Trouble {
    /// `unread`: the system failed to read there.
    Bad {
        offset: u64,
        detail: String,
        unread: bool,
    },
    Unclear(String),
}

/// What an attempt goes by.
struct Expected {
    in_file: InFile,
    version: ChunkVersion,
    /// The header is there for certain.
    header: bool,
}

/// Verifies the replica's file (with block 0) and the blocks from `from` on, as many as a step has.
pub(super) async fn step(replica: &Arc<Replica>, from: u32) -> Found {
    let Some(expected) = Expected::of(replica) else { return Found::Gone };
    if replica.state().corrupt {
        return Found::Damaged { new: false };
    }
    match attempt(replica, expected, from).await {
        Ok(found) => return found,
        Err(Trouble::Unclear(why)) => return Found::Unclear(why),
        Err(Trouble::Bad { .. }) => {}
    }
    let _lane = replica.lane().await;
    // Nobody changes it while the lane is held.
    let Some(expected) = Expected::of(replica) else { return Found::Gone };
    match attempt(replica, expected, from).await {
        Ok(found) => found,
        Err(Trouble::Unclear(why)) => Found::Unclear(why),
        Err(Trouble::Bad { detail, .. }) if replica.state().written_back => {
            Found::Unclear(format!("{detail}, in a file that is not synced yet"))
        }
        Err(Trouble::Bad { .. }) if replica.volume.check_alive().is_err() => Found::Gone,
        Err(Trouble::Bad { offset, detail, unread }) => {
            if unread {
                replica.volume.read_failed(replica.key, &detail);
                if replica.volume.has_failed() {
                    return Found::Gone;
                }
            }
            let new = replica.volume.report_corrupt(replica, offset, &detail);
            let record = replica.state().last;
            // A disk that fails at it is noticed by the next step.
            let _ = replica.volume.durable(record).await;
            Found::Damaged { new }
        }
    }
}

impl Expected {
    /// As the replica is now; `None` when it is deleted.
    fn of(replica: &Replica) -> Option<Self> {
        let state = replica.state();
        // A new file gets it after its first blocks, and is not synced before.
        let header = state.name_durable || !state.written_back;
        (!state.deleted).then(|| Self { in_file: InFile::of(&state), version: state.version, header })
    }
}

async fn attempt(replica: &Arc<Replica>, expected: Expected, from: u32) -> Result<Found, Trouble> {
    let end = expected.in_file.end();
    if end == 0 {
        return Ok(Found::Sound { blocks: 0, next: None });
    }
    let job = Arc::clone(replica);
    let examined = replica.volume.call(Queue::Read, move || examine(&job, &expected, from, end)).await;
    examined.map_err(|error| Trouble::Unclear(error.to_string()))?
}

/// Blocks.
fn examine(replica: &Replica, expected: &Expected, from: u32, end: u32) -> Result<Found, Trouble> {
    let path = replica.volume.replica_path(replica.key);
    let file =
        replica.volume.disk().open_medium(&path).map_err(|error| trouble(HEADER_AT, "file", &error))?;
    let to = from.saturating_add(STEP_BLOCKS).min(end);
    let first_entry = if from == 0 {
        check_frame(replica, expected, &*file, end)?;
        0
    } else {
        from
    };
    let entries = read_table(&*file, first_entry, if from == 0 { end } else { to })?;
    if from == 0 {
        let table = expected.in_file.check_table(&entries);
        table.map_err(|wrong| bad(TABLE_AT, format!("checksum table: {wrong}")))?;
    }
    let entries = entries.get((from - first_entry) as usize..).unwrap_or_default();
    let mut blocks = 0;
    let holds: Vec<u32> = (from..to).filter(|&block| expected.in_file.holds(block)).collect();
    for run in holds.chunk_by(|a, b| a + 1 == *b) {
        let at = (run[0] - from) as usize;
        let entries = entries.get(at..at + run.len()).unwrap_or_default();
        check_blocks(replica, &*file, (run[0], run.len()), entries)?;
        blocks += run.len() as u32;
    }
    Ok(Found::Sound { blocks, next: (to < end).then_some(to) })
}

fn bad(offset: u64, detail: String) -> Trouble {
    Trouble::Bad { offset, detail, unread: false }
}

fn trouble(offset: u64, what: &str, error: &io::Error) -> Trouble {
    let detail = format!("{what}: {error}");
    // A file that is not there is no fault of the disk.
    let unread = error.kind() != io::ErrorKind::NotFound;
    if is_damage(error) { Trouble::Bad { offset, detail, unread } } else { Trouble::Unclear(detail) }
}

/// Length and header.
fn check_frame(
    replica: &Replica,
    expected: &Expected,
    file: &dyn MediumFile,
    end: u32,
) -> Result<(), Trouble> {
    let length = file.len().map_err(|error| trouble(HEADER_AT, "length", &error))?;
    let least = TABLE_AT + u64::from(end) * ENTRY_BYTES as u64;
    if length < least {
        return Err(bad(length, format!("the file is cut off at {length} bytes")));
    }
    if length > TABLE_AT + TABLE_BYTES {
        return Err(bad(
            TABLE_AT + TABLE_BYTES,
            format!("the file has {length} bytes, more than any replica"),
        ));
    }
    if !expected.header {
        return Ok(());
    }
    let mut bytes = vec![0; HEADER_BYTES];
    file.read_at(&mut bytes, HEADER_AT).map_err(|error| trouble(HEADER_AT, "header", &error))?;
    let Some(header) = FileHeader::decode(&bytes) else {
        return Err(bad(HEADER_AT, "the header is damaged".to_owned()));
    };
    let (key, disk) = (replica.key, replica.volume.disk_id);
    if header.chunk != key.chunk || header.part != key.part {
        return Err(bad(HEADER_AT, format!("the file is of {} part {}", header.chunk, header.part)));
    }
    if header.disk != disk || header.version > expected.version {
        return Err(bad(HEADER_AT, format!("the file is of version {} on {}", header.version, header.disk)));
    }
    Ok(())
}

pub(super) fn read_table(file: &dyn MediumFile, first: u32, end: u32) -> Result<Vec<TableEntry>, Trouble> {
    let mut bytes = vec![0; (end - first) as usize * ENTRY_BYTES];
    let at = TABLE_AT + u64::from(first) * ENTRY_BYTES as u64;
    // Short at the end of the file: no entries there.
    file.read_at(&mut bytes, at).map_err(|error| trouble(at, "checksum table", &error))?;
    Ok(bytes.chunks_exact(ENTRY_BYTES).map(TableEntry::decode).collect())
}

fn check_blocks(
    replica: &Replica,
    file: &dyn MediumFile,
    (first, count): (u32, usize),
    entries: &[TableEntry],
) -> Result<(), Trouble> {
    let offset = u64::from(first) * BLOCK_BYTES;
    let mut bytes = vec![0; count * BLOCK_BYTES as usize];
    // Short at the end of the file: what is missing stays zero and does not verify.
    file.read_at(&mut bytes, offset).map_err(|error| trouble(offset, "read", &error))?;
    for (at, block) in bytes.chunks_exact(BLOCK_BYTES as usize).enumerate() {
        let index = u64::from(first) + at as u64;
        let sound = entries.get(at).is_some_and(|entry| {
            entry.generation != 0 && entry.crc == block_crc(replica.key.chunk, index, block)
        });
        if !sound {
            return Err(bad(index * BLOCK_BYTES, "checksum mismatch".to_owned()));
        }
    }
    Ok(())
}
