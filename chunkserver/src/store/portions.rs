//! Write-back of a replica with many journaled blocks: portion by portion, so that its writers, and whoever else waits for the
//! disk, come in between. What one write-back has at random places would keep the disk busy for tens of milliseconds.

use super::error::StoreError;
use super::files::OpenFile;
use super::replica::{Lane, Replica};
use super::volume::{Queue, Volume, is_full};
use cairn_core::chunk::catalogue::StagedBlock;
use cairn_core::chunk::table_digest::{self, entry_hash};
use cairn_core::limits::WRITE_BACK_PAUSE;
use cairn_core::units::BLOCK_BYTES;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Writes journaled blocks into the file until at most a portion is left, and what was journaled meanwhile. Answers the file if it
/// was written: whoever syncs it holds it until then, lest the system forget with a closed file that writing it out has failed.
///
/// # Errors
/// As [`super::write_back::write_back`].
pub(super) async fn thin(replica: &Arc<Replica>) -> Result<Option<Arc<OpenFile>>, StoreError> {
    let volume = &replica.volume;
    let (blocks, last) = {
        let state = replica.state();
        let more = state.staged.len().saturating_sub(volume.portion_blocks);
        let blocks = state.staged.iter().take(more).map(|(&index, block)| (index, block.clone()));
        (blocks.collect::<Vec<_>>(), state.last)
    };
    if blocks.is_empty() {
        return Ok(None);
    }
    // Nothing is written in place whose record is not durable.
    volume.durable(last).await?;
    let mut file = None;
    for portion in blocks.chunks(volume.portion_blocks) {
        let (job, portion) = (Arc::clone(replica), portion.to_vec());
        let lane = replica.lane().await;
        match volume.call(Queue::Write, move || write_portion(&job, portion, lane)).await {
            Ok(written) => file = written?.or(file),
            // What is left is written in one go.
            Err(StoreError::Overloaded) => break,
            Err(error) => return Err(error),
        }
        if volume.journal.has_room() {
            tokio::time::sleep(WRITE_BACK_PAUSE).await;
        }
    }
    Ok(file)
}

/// Those of the blocks that nobody has journaled anew since. Blocks.
fn write_portion(
    replica: &Arc<Replica>,
    mut portion: Vec<(u32, StagedBlock)>,
    lane: Lane,
) -> Result<Option<Arc<OpenFile>>, StoreError> {
    let volume = &replica.volume;
    {
        let state = replica.state();
        let is_same = |now: &StagedBlock, then: &StagedBlock| now.data.as_ptr() == then.data.as_ptr();
        portion.retain(|(index, then)| state.staged.get(index).is_some_and(|now| is_same(now, then)));
        if state.deleted || portion.is_empty() {
            return Ok(None);
        }
    }
    let file = volume.open_to_write(replica.key)?;
    let blocks: Vec<(&u32, &StagedBlock)> = portion.iter().map(|(index, block)| (index, block)).collect();
    let change = write_blocks(replica, &file, &blocks)?;
    {
        let mut state = replica.state();
        state.digest = state.digest.map(|digest| digest ^ change);
        // Under the lane nothing was staged meanwhile.
        portion.iter().for_each(|(index, _)| drop(state.staged.remove(index)));
        state.written_back = true;
        in_file(volume, portion.len());
    }
    drop(lane);
    let (first, end) = (portion[0].0, portion[portion.len() - 1].0 + 1);
    // A hint, of which the sync that follows tells the errors.
    let _ = file.file.start_writeback(u64::from(first) * BLOCK_BYTES, u64::from(end - first) * BLOCK_BYTES);
    Ok(Some(file))
}

/// Blocks, in the order of their numbers, and their table entries. Answers by how much the table's digest changes; after an
/// error that is not known any more. Blocks.
pub(super) fn write_blocks(
    replica: &Replica,
    file: &OpenFile,
    blocks: &[(&u32, &StagedBlock)],
) -> Result<u64, StoreError> {
    let mut change = table_digest::EMPTY;
    for run in blocks.chunk_by(|a, b| a.0 + 1 == *b.0) {
        let first = *run[0].0;
        let offset = u64::from(first) * BLOCK_BYTES;
        let parts: Vec<&[u8]> = run.iter().map(|(_, block)| &block.data[..]).collect();
        let written = file
            .file
            .write_parts_at(&parts, offset)
            .and_then(|()| {
                run.iter().try_for_each(|(index, block)| {
                    let before = file.set(**index, block.entry)?;
                    let gone = if block.replaces { entry_hash(**index, before) } else { table_digest::EMPTY };
                    change ^= gone ^ entry_hash(**index, block.entry);
                    Ok(())
                })
            })
            .and_then(|()| file.write_entries(first, first + run.len() as u32));
        written.map_err(|error| {
            replica.state().digest = None;
            write_back_failed(&replica.volume, &error)
        })?;
    }
    Ok(change)
}

/// So many blocks are in a file now, and no longer in memory.
pub(super) fn in_file(volume: &Volume, blocks: usize) {
    volume.space.staged_blocks.fetch_sub(blocks as i64, Ordering::Relaxed);
    volume.space.taken_since.fetch_add(blocks as u64 * BLOCK_BYTES, Ordering::Relaxed);
}

pub(super) fn write_back_failed(volume: &Volume, error: &io::Error) -> StoreError {
    if is_full(error) {
        tracing::warn!(disk = %volume.disk_id, "no room to write the intent journal back");
    }
    volume.write_failed("write back", error)
}
