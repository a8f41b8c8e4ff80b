//! Commands of the master, each a journal record: create, raise a version, delete, obey a term.

use super::error::StoreError;
use super::journal::Reservation;
use super::replica::{Lane, Replica, ReplicaState};
use super::types::WriteRequest;
use super::volume::{Queue, Volume};
use super::write::{COMMAND_BYTES, append};
use bytes::Bytes;
use cairn_core::chunk::intent::{Intent, IntentRecord};
use cairn_core::chunk::{BlockSet, ReplicaKey, table_digest};
use cairn_core::ids::{ChunkVersion, LeaseNumber, Term};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

type Command = Intent<Bytes>;

/// Makes the old replica an empty one of the request's version: a copy begins anew, in a file of its own, whatever is wrong with
/// the old one.
pub(super) async fn remake(replica: &Arc<Replica>, request: &WriteRequest) -> Result<(), StoreError> {
    let volume = &replica.volume;
    let mut reservation = volume.journal.reserve(COMMAND_BYTES, false).await?;
    let lane = replica.lane().await;
    let ticket = {
        let mut state = replica.state();
        if state.deleted || state.version >= request.version {
            return Ok(());
        }
        forget_blocks(replica, &mut state);
        *state = ReplicaState {
            version: request.version,
            lease: request.lease,
            digest: Some(table_digest::EMPTY),
            files: state.files + 1,
            ..ReplicaState::default()
        };
        if let Some(file) = volume.files.get(volume.index, replica.key) {
            file.pin(false);
        }
        append(replica, &mut state, Command::Create, &mut reservation)
    };
    // The old blocks are given up only when that is on record.
    volume.durable(ticket).await?;
    let job = Arc::clone(replica);
    volume.call(Queue::Write, move || remove_old_file(&job, lane)).await
}

fn remove_old_file(replica: &Replica, _lane: Lane) {
    let volume = &replica.volume;
    volume.files.forget(volume.index, replica.key);
    match volume.disk().remove_file(&volume.replica_path(replica.key)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // It is written over, then.
        Err(error) => {
            tracing::warn!(chunk = %replica.key.chunk, %error, "cannot remove the file of an old replica")
        }
    }
}

pub(super) fn forget_blocks(replica: &Replica, state: &mut ReplicaState) {
    let space = &replica.volume.space;
    space
        .stored_blocks
        .fetch_sub(i64::from(state.stored.count() + state.unsynced.count()), Ordering::Relaxed);
    space.staged_blocks.fetch_sub(state.staged.len() as i64, Ordering::Relaxed);
    state.staged.clear();
    state.stored = BlockSet::default();
    state.unsynced = BlockSet::default();
    state.digest = Some(table_digest::EMPTY);
}

/// See [`ChunkStore::raise_version`](super::ChunkStore::raise_version) and `raise_whole`.
pub(super) async fn raise(
    replica: &Arc<Replica>,
    (from, to): (ChunkVersion, ChunkVersion),
    whole: bool,
) -> Result<(), StoreError> {
    replica.volume.check_alive()?;
    let mut reservation = replica.volume.journal.reserve(COMMAND_BYTES, false).await?;
    let ticket = {
        let _lane = replica.lane().await;
        let mut state = replica.state();
        if state.deleted || state.version < from {
            return Err(StoreError::NoSuchChunk);
        }
        if state.version < to {
            if whole && state.writes_lost {
                return Err(StoreError::WritesLost);
            }
            state.version = to;
            // Lost writes are dealt with now; those still to be synced are not.
            let clears_mark = state.writes_lost && state.unsynced.is_empty();
            state.writes_lost = false;
            if clears_mark {
                state.mark = None;
            }
            append(replica, &mut state, Command::Raise { clears_mark }, &mut reservation);
        }
        state.last
    };
    replica.volume.durable(ticket).await
}

/// Deletes the replica. It stays in the store's map until its file is gone, so that a new one cannot meet the old file.
pub(super) async fn delete(replica: &Arc<Replica>, up_to: ChunkVersion) -> Result<(), StoreError> {
    let volume = &replica.volume;
    volume.check_alive()?;
    let mut reservation = volume.journal.reserve(COMMAND_BYTES, false).await?;
    let lane = replica.lane().await;
    let (ticket, first) = {
        let mut state = replica.state();
        if state.moved {
            return Err(StoreError::NoSuchChunk);
        }
        if !state.deleted && state.version > up_to {
            return Err(StoreError::StaleVersion { stored: state.version });
        }
        if std::mem::replace(&mut state.deleted, true) {
            (state.last, false)
        } else {
            forget_blocks(replica, &mut state);
            (append(replica, &mut state, Command::Delete, &mut reservation), true)
        }
    };
    volume.durable(ticket).await?;
    if first {
        let job = Arc::clone(replica);
        volume.call(Queue::Write, move || remove_file(&job, lane)).await?;
    }
    Ok(())
}

fn remove_file(replica: &Arc<Replica>, _lane: Lane) {
    unlink(replica);
    replica.volume.space.replicas.fetch_sub(1, Ordering::Relaxed);
    replica.volume.look_at_space();
}

/// Removes the file of a deleted replica, whose lane the caller holds. Blocks.
pub(super) fn unlink(replica: &Replica) {
    let volume = &replica.volume;
    volume.files.forget(volume.index, replica.key);
    match volume.disk().remove_file(&volume.replica_path(replica.key)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        // An orphan, removed at the next start.
        Err(error) => {
            tracing::warn!(chunk = %replica.key.chunk, %error, "cannot remove the file of a deleted replica")
        }
    }
    // A reader may have opened it again meanwhile.
    volume.files.forget(volume.index, replica.key);
}

/// Journals that a replica is corrupt, when there is room and no need to wait.
pub(super) fn remember_corrupt(replica: &Arc<Replica>, state: &mut ReplicaState) {
    if let Some(mut reservation) = replica.volume.journal.try_reserve(COMMAND_BYTES) {
        append(replica, state, Command::Corrupt, &mut reservation);
    }
}

/// Journals a term on one disk.
pub(super) async fn obey_term(volume: &Arc<Volume>, term: Term) -> Result<(), StoreError> {
    volume.check_alive()?;
    let mut reservation = volume.journal.reserve(COMMAND_BYTES, false).await?;
    let record = IntentRecord {
        key: ReplicaKey::default(),
        version: ChunkVersion(term.get()),
        lease: LeaseNumber(0),
        intent: Command::Term(term),
    };
    volume.term.fetch_max(term.get(), Ordering::Relaxed);
    let ticket = volume.journal.append(&mut reservation, &record, None);
    volume.durable(ticket).await
}

/// Journals a replica that is about to enter the map.
pub(super) fn create(replica: &Arc<Replica>, reservation: &mut Reservation) {
    append(replica, &mut replica.state(), Command::Create, reservation);
    replica.volume.space.replicas.fetch_add(1, Ordering::Relaxed);
}
