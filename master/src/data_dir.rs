//! The data directory: locked by one process, stamped with cluster, node and format before anything else is read.

use crate::config::MasterConfig;
use cairn_core::ids::{ClusterId, NodeId};
use cairn_core::superblock::{Role, SUPERBLOCK_FILE, Superblock, SuperblockError};
use cairn_env::Env;
use cairn_env::disk::{read_small, replace_durably};
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Name of the lock file.
pub(crate) const LOCK_FILE: &str = "lock";
/// Largest superblock that is read; a later format may be longer than ours.
const SUPERBLOCK_READ_MAX: u64 = 64 * 1024;

/// An opened data directory. Dropping it releases the lock.
pub(crate) struct DataDir {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Whose cluster.
    pub(crate) cluster: ClusterId,
    /// Which node.
    pub(crate) node: NodeId,
    _lock: Box<dyn Send + Sync>,
}

/// Why a data directory cannot be used; shown to the user as it is.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error(
        "master: data directory {0} is in use by another process: stop that one, or point data_dir elsewhere"
    )]
    Locked(PathBuf),
    /// It is not ours, or not readable for this release.
    #[error("master: data directory {path} {reason}")]
    Superblock {
        /// The directory.
        path: PathBuf,
        /// What is wrong, and the way out.
        reason: SuperblockError,
    },
    /// There are files, but no superblock.
    #[error(
        "master: data directory {0} is not empty and has no superblock: point data_dir at an empty directory, \
         or restore the file `superblock`"
    )]
    NotEmpty(PathBuf),
    /// The system refused.
    #[error("master: data directory {path}: {error}: check that it exists, is writable and has room")]
    Io {
        /// The directory.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

/// Opens, or founds, the data directory of the configuration. Blocks on the disk.
pub(crate) fn open(
    env: &Env,
    config: &MasterConfig,
    wanted: Option<ClusterId>,
) -> Result<DataDir, DataDirError> {
    let path = config.data_dir.clone();
    let failed = |error: io::Error| DataDirError::Io { path: path.clone(), error };
    let disk = &*env.disk;
    disk.create_dir_all(&path).map_err(failed)?;
    let lock = disk.lock(&path.join(LOCK_FILE)).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => DataDirError::Locked(path.clone()),
        _ => failed(error),
    })?;
    let file = path.join(SUPERBLOCK_FILE);
    let superblock = if disk.exists(&file).map_err(failed)? {
        let bytes = read_small(disk, &file, SUPERBLOCK_READ_MAX).map_err(failed)?;
        Superblock::decode(&bytes)
            .and_then(|superblock| superblock.check(Role::Master, wanted).map(|()| superblock))
            .map_err(|reason| DataDirError::Superblock { path: path.clone(), reason })?
    } else {
        // A crash while founding leaves the lock and perhaps the superblock under its temporary name.
        let is_ours = |name: &str| name == LOCK_FILE || name.starts_with(SUPERBLOCK_FILE);
        let items = disk.list(&path).map_err(failed)?;
        if items.iter().any(|item| !item.name.to_str().is_some_and(is_ours)) {
            return Err(DataDirError::NotEmpty(path));
        }
        let cluster = wanted.unwrap_or_else(|| ClusterId(env.random.uuid()));
        let superblock = Superblock::new(cluster, NodeId(env.random.uuid()), Role::Master, None);
        replace_durably(disk, &file, &superblock.encode()).map_err(failed)?;
        superblock
    };
    Ok(DataDir { path, cluster: superblock.cluster, node: superblock.node, _lock: lock })
}
