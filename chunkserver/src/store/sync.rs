//! A sync: what was written in place by one fdatasync of the file, what was journaled by one of the journal.

use super::error::StoreError;
use super::files::OpenFile;
use super::journal::{Reservation, journal_bytes};
use super::replica::{Lane, Replica, ReplicaState};
use super::volume::Queue;
use super::write::append;
use bytes::Bytes;
use cairn_core::chunk::intent::{INTENT_HEADER_BYTES, Intent};
use cairn_core::chunk::replica_file::{FileHeader, HEADER_AT, file_name};
use cairn_core::chunk::{BlockSet, table_digest};
use cairn_core::ids::ChunkVersion;
use cairn_core::seeded::{Bug, is_planted};
use std::io;
use std::sync::Arc;

/// Makes every acknowledged write of the replica durable.
pub(super) async fn sync(replica: &Arc<Replica>, version: ChunkVersion) -> Result<(), StoreError> {
    let volume = &replica.volume;
    let mut runs = replica.state().unsynced.runs().len();
    loop {
        volume.check_alive()?;
        let bytes = journal_bytes(INTENT_HEADER_BYTES + runs * 8);
        let mut reservation = volume.journal.reserve(bytes, false).await?;
        let lane = replica.lane().await;
        let journaled_only = {
            let mut state = replica.state();
            state.check_version(version)?;
            if state.writes_lost {
                return Err(StoreError::WritesLost);
            }
            let needed = state.unsynced.runs().len();
            if needed > runs {
                runs = needed;
                continue;
            }
            if state.unsynced.is_empty() && state.mark.take().is_some() {
                let cleared = Intent::<Bytes>::Synced { blocks: BlockSet::default(), clears_mark: true };
                append(replica, &mut state, cleared, &mut reservation);
            }
            state.unsynced.is_empty().then_some(state.last)
        };
        if let Some(last) = journaled_only {
            drop(lane);
            return volume.durable(last).await;
        }
        let job = Arc::clone(replica);
        let ticket = volume.call(Queue::Write, move || sync_file(&job, reservation, &lane)).await??;
        return volume.durable(ticket).await;
    }
}

/// fdatasync with the table entries of the unsynced blocks; then they are declared. Blocks.
fn sync_file(replica: &Arc<Replica>, mut reservation: Reservation, _lane: &Lane) -> Result<u64, StoreError> {
    let volume = &replica.volume;
    let (unsynced, new) = {
        let state = replica.state();
        (state.unsynced.clone(), !state.name_durable)
    };
    let file = volume.open_to_write(replica.key)?;
    let mut added = table_digest::EMPTY;
    for &(first, end) in unsynced.runs() {
        let entries = file
            .write_entries(first, end)
            .map_err(|error| volume.write_failed("write checksum table", &error))?;
        added ^= table_digest::digest((first..end).zip(entries));
    }
    if new {
        write_header(replica, &file).map_err(|error| volume.write_failed("write replica header", &error))?;
    }
    sync_or_fail(replica, &file, new)?;
    let mut state = replica.state();
    state.name_durable = true;
    state.mark = None;
    state.stored.extend(&unsynced);
    state.unsynced = BlockSet::default();
    state.digest = state.digest.map(|digest| digest ^ added);
    file.pin(false);
    Ok(declare(replica, &mut state, unsynced, &mut reservation))
}

fn declare(
    replica: &Arc<Replica>,
    state: &mut ReplicaState,
    blocks: BlockSet,
    reservation: &mut Reservation,
) -> u64 {
    append(replica, state, Intent::<Bytes>::Synced { blocks, clears_mark: true }, reservation)
}

/// Writes the header as the replica is now.
pub(super) fn write_header(replica: &Replica, file: &OpenFile) -> io::Result<()> {
    let version = replica.state().version;
    let header = FileHeader {
        chunk: replica.key.chunk,
        version,
        part: replica.key.part,
        disk: replica.volume.disk_id,
    };
    file.file.write_all_at(&header.encode(), HEADER_AT)
}

/// fdatasync, and the folder of a new file. Any failure, a full disk included, fails the disk: what reached it is unknown (I3).
pub(super) fn sync_or_fail(replica: &Replica, file: &OpenFile, new: bool) -> Result<(), StoreError> {
    let volume = &replica.volume;
    if is_planted(Bug::SkipReplicaFileSync) {
        return Ok(());
    }
    let synced = file.file.sync_data().and_then(|()| {
        if new {
            volume.disk().sync_dir(&volume.folder(&file_name(replica.key.chunk, replica.key.part).0))
        } else {
            Ok(())
        }
    });
    synced.map_err(|error| {
        volume.fail(&format!("sync of a replica file: {error}"));
        StoreError::DiskFailed
    })
}
