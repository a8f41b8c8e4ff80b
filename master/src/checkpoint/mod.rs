//! Checkpoints: durable copies of the state by hard links, after which older journal is no longer needed.
//!
//! Made on a thread that may wait, never by the sequencer's owner (the flush takes 1 ms to 0.2 s). How far a checkpoint
//! reaches is read from inside it. The newest one stays: a damaged state is restored from it and the journal.

use crate::sequencer::StateStore;
use cairn_core::journal::applied::{APPLIED_KEY, Applied};
use cairn_env::Env;
use cairn_env::kv::{Kv, KvError, Wait};
use std::io;
use std::path::Path;
use thiserror::Error;

/// Name of a checkpoint in the making.
const NEW: &str = "new";

/// Why there is no new checkpoint; the journal stays, and another one is tried later.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] KvError),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The copy does not say how far it reaches.
    #[error("the checkpoint does not say how far it reaches")]
    Unreadable,
}

/// Makes a checkpoint in `directory` and removes older ones. Returns how far it reaches.
///
/// # Errors
/// See [`CheckpointError`]; older checkpoints are then still there.
pub fn make(env: &Env, kv: &dyn Kv, store: StateStore, directory: &Path) -> Result<Applied, CheckpointError> {
    let disk = &*env.disk;
    disk.create_dir_all(directory)?;
    let new = directory.join(NEW);
    if disk.exists(&new)? {
        disk.remove_dir_all(&new)?;
    }
    let applied = copy(env, kv, store, &new)?;
    let name = format!("{:016x}", applied.last.index.get());
    let path = directory.join(&name);
    if disk.exists(&path)? {
        disk.remove_dir_all(&path)?;
    }
    disk.rename(&new, &path)?;
    disk.sync_dir(directory)?;
    for item in disk.list(directory)? {
        if item.is_dir && item.name != *name {
            disk.remove_dir_all(&directory.join(&item.name))?;
        }
    }
    Ok(applied)
}

/// Makes a copy at `path`, which is absent. Returns how far it reaches.
///
/// # Errors
/// See [`CheckpointError`].
pub fn copy(env: &Env, kv: &dyn Kv, store: StateStore, path: &Path) -> Result<Applied, CheckpointError> {
    kv.checkpoint(path)?;
    reaches(env, store, path)
}

/// How far a copy reaches.
///
/// # Errors
/// See [`CheckpointError`].
pub fn reaches(env: &Env, store: StateStore, path: &Path) -> Result<Applied, CheckpointError> {
    let value = store.open_copy(env, path)?.get(&APPLIED_KEY, Wait::ForDisk)?;
    value.and_then(|value| Applied::decode(&value)).ok_or(CheckpointError::Unreadable)
}
