//! Looking into the data directory of a master that does not run. Nothing in it is changed.

mod content;
mod journal;
mod state;

#[cfg(test)]
mod offline_test;

pub use content::{Content, content};
pub use journal::{Event, Summary, read_journal};
pub use state::{Examined, examine};

use crate::data_dir::LOCK_FILE;
use cairn_core::ids::{ClusterId, NodeId};
use cairn_core::superblock::{Role, SUPERBLOCK_FILE, Superblock, SuperblockError};
use cairn_env::Env;
use cairn_env::disk::read_small;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Largest superblock that is read.
const SUPERBLOCK_READ_MAX: u64 = 64 * 1024;

/// Why a directory cannot be looked into; shown to the user as it is.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// Its master runs.
    #[error("master data directory {directory} is in use ({lock} is locked): stop that master first")]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// What its process holds.
        lock: PathBuf,
    },
    /// It is no master's.
    #[error("{directory} {reason}")]
    Superblock {
        /// The directory.
        directory: PathBuf,
        /// What it is instead.
        reason: SuperblockError,
    },
    /// The system refused.
    #[error("{path}: {source}: check that it is a master's data directory and readable")]
    Io {
        /// What could not be read.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The journal cannot be laid over the state.
    #[error("journal in {directory}: {detail}: see `cairn admin journal dump`")]
    Journal {
        /// The journal's directory.
        directory: PathBuf,
        /// The first damage.
        detail: String,
    },
    /// The state cannot be read.
    #[error(
        "metadata state in {directory}: {detail}: a master alone is put right from its checkpoints, one of a group is filled"
    )]
    State {
        /// The state's directory.
        directory: PathBuf,
        /// What the store said.
        detail: String,
    },
    /// A copy of the state waits to take its place.
    #[error("{0} is to be installed at the next start: start this master once, then stop it and look again")]
    Filled(PathBuf),
}

/// The data directory of a master that does not run, and cannot start while this lives.
pub struct Stopped {
    /// Where it is.
    pub path: PathBuf,
    /// Whose cluster.
    pub cluster: ClusterId,
    /// Which node.
    pub node: NodeId,
    _lock: Option<Box<dyn Send + Sync>>,
}

impl Stopped {
    /// Opens a data directory. A lock is taken where there is one; a copy of a directory may have none, and gets none.
    ///
    /// # Errors
    /// `InUse` while its master runs; others when it is no master's directory.
    pub fn open(env: &Env, directory: &Path) -> Result<Self, OfflineError> {
        let disk = &*env.disk;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OfflineError::Io { path, source }
        };
        let file = directory.join(SUPERBLOCK_FILE);
        let bytes = read_small(disk, &file, SUPERBLOCK_READ_MAX).map_err(failed(&file))?;
        let superblock = Superblock::decode(&bytes)
            .and_then(|superblock| superblock.check(Role::Master, None).map(|()| superblock))
            .map_err(|reason| OfflineError::Superblock { directory: directory.to_owned(), reason })?;
        let lock = directory.join(LOCK_FILE);
        let held = if disk.exists(&lock).map_err(failed(&lock))? {
            let taken = disk.lock(&lock).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => {
                    OfflineError::InUse { directory: directory.to_owned(), lock: lock.clone() }
                }
                _ => failed(&lock)(error),
            });
            Some(taken?)
        } else {
            None
        };
        let Superblock { cluster, node, .. } = superblock;
        Ok(Self { path: directory.to_owned(), cluster, node, _lock: held })
    }
}
