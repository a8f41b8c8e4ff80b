//! Which node and cluster the data directories belong to, read before the store opens them.
//!
//! A directory that is somebody else's, or in use, stops the server with a message; one that merely cannot be read is a
//! failed disk, which is the store's to report, and the others serve.

use crate::error::ChunkServerError;
use crate::store::DiskConfig;
use cairn_core::ids::{ClusterId, NodeId};
use cairn_core::superblock::{Role, SUPERBLOCK_BYTES, SUPERBLOCK_FILE, Superblock, SuperblockError};
use cairn_env::Env;
use cairn_env::disk::read_small;
use std::io;
use std::path::Path;
use tracing::warn;

/// Name of the lock file in a data directory (`docs/FORMATS.md`).
const LOCK_FILE: &str = "lock";

/// Who this server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    /// `None` before the first registration.
    pub(crate) cluster: Option<ClusterId>,
}

/// Reads the superblocks of all directories; draws a node id when all are new.
///
/// # Errors
/// `Directory` when one is of another role, cluster, node or newer format, or is in use.
pub(crate) fn identify(env: &Env, disks: &[DiskConfig]) -> Result<Identity, ChunkServerError> {
    let mut node: Option<NodeId> = None;
    let mut cluster: Option<ClusterId> = None;
    for disk in disks {
        let Some(superblock) = read_superblock(env, &disk.path)? else { continue };
        let refuse = |reason: String| Err(ChunkServerError::Directory { path: disk.path.clone(), reason });
        if let Err(error) = superblock.check(Role::ChunkServer, cluster) {
            return refuse(error.to_string());
        }
        if let Some(expected) = node.filter(|&expected| expected != superblock.node) {
            return refuse(format!(
                "belongs to chunk server {}, the directories before it to {expected}: \
                 name only the directories of one chunk server in `disks`",
                superblock.node
            ));
        }
        refuse_if_locked(env, &disk.path)?;
        node = Some(superblock.node);
        if !superblock.cluster.0.is_nil() {
            cluster = Some(superblock.cluster);
        }
    }
    Ok(Identity { node: node.unwrap_or_else(|| NodeId(env.random.uuid())), cluster })
}

fn read_superblock(env: &Env, directory: &Path) -> Result<Option<Superblock>, ChunkServerError> {
    let path = directory.join(SUPERBLOCK_FILE);
    let bytes = match read_small(env.disk.as_ref(), &path, 16 * SUPERBLOCK_BYTES as u64) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            warn!(path = %path.display(), %error, "superblock cannot be read");
            return Ok(None);
        }
    };
    match Superblock::decode(&bytes) {
        Ok(superblock) => Ok(Some(superblock)),
        // One damaged disk must not keep the others from serving.
        Err(error @ SuperblockError::Damaged) => {
            warn!(path = %path.display(), %error, "data directory is left alone");
            Ok(None)
        }
        Err(error) => {
            Err(ChunkServerError::Directory { path: directory.to_owned(), reason: error.to_string() })
        }
    }
}

/// The store takes the lock for good; this look only turns "in use" into a message.
fn refuse_if_locked(env: &Env, directory: &Path) -> Result<(), ChunkServerError> {
    match env.disk.lock(&directory.join(LOCK_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(ChunkServerError::Directory {
            path: directory.to_owned(),
            reason: "is in use by another chunk server process: stop that one first (`cairn dev ps` lists those of \
                     a development cluster)"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::ids::DiskId;
    use uuid::Uuid;

    fn disk(path: &Path) -> DiskConfig {
        DiskConfig { path: path.to_owned(), capacity_bytes: None, reserve_bytes: 0 }
    }

    fn made(env: &Env, path: &Path, superblock: &Superblock) -> DiskConfig {
        env.disk.create_dir_all(path).unwrap();
        cairn_env::disk::replace_durably(
            env.disk.as_ref(),
            &path.join(SUPERBLOCK_FILE),
            &superblock.encode(),
        )
        .unwrap();
        disk(path)
    }

    fn superblock(cluster: u128, node: u128) -> Superblock {
        let disk = Some(DiskId(Uuid::from_u128(9)));
        let (cluster, node) = (ClusterId(Uuid::from_u128(cluster)), NodeId(Uuid::from_u128(node)));
        Superblock::new(cluster, node, Role::ChunkServer, disk)
    }

    #[test]
    fn new_directories_get_a_new_node_and_old_ones_keep_theirs() {
        let (env, root) = (Env::real(), tempfile::tempdir().unwrap());
        let fresh = disk(&root.path().join("fresh"));
        let identity = identify(&env, std::slice::from_ref(&fresh)).unwrap();
        assert_eq!(identity.cluster, None);
        let old = made(&env, &root.path().join("old"), &superblock(3, 4));
        let identity = identify(&env, &[fresh, old]).unwrap();
        assert_eq!(identity.node, NodeId(Uuid::from_u128(4)));
        assert_eq!(identity.cluster, Some(ClusterId(Uuid::from_u128(3))));
    }

    #[test]
    fn what_is_not_ours_is_refused_with_the_way_out() {
        let (env, root) = (Env::real(), tempfile::tempdir().unwrap());
        let refusal = |disks: &[DiskConfig]| identify(&env, disks).unwrap_err().to_string();
        let ours = made(&env, &root.path().join("ours"), &superblock(3, 4));
        let other_cluster = made(&env, &root.path().join("cluster"), &superblock(5, 4));
        assert!(refusal(&[ours.clone(), other_cluster]).contains("belongs to cluster"));
        let other_node = made(&env, &root.path().join("node"), &superblock(3, 6));
        assert!(refusal(&[ours.clone(), other_node]).contains("of one chunk server"));
        let master = Superblock { role: Role::Master, disk: None, ..superblock(3, 4) };
        let master = made(&env, &root.path().join("master"), &master);
        assert!(refusal(&[master]).contains("belongs to a master"));
        let newer = made(&env, &root.path().join("newer"), &Superblock { format: 99, ..superblock(3, 4) });
        assert!(refusal(&[newer]).contains("newer"));
        let _held = env.disk.lock(&ours.path.join(LOCK_FILE)).unwrap();
        assert!(refusal(&[ours]).contains("in use"));
    }
}
