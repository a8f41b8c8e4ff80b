//! The master's own commands about the cluster: its first rows, its chunk servers, replicas to be deleted.

use super::act::{Act, require};
use super::attr::NodeKind;
use super::machine::Stop;
use super::rows::chunk::{DeleteReplicaKey, ServerChunkKey, VersionRow};
use super::rows::cluster::{
    ClusterKey, ClusterRow, CounterKey, Draining, NumberRow, ServerKey, ServerNodeKey, ServerNodeRow,
    ServerRow,
};
use super::rows::disk_drain::{DiskDrainKey, DiskDrainRow};
use super::rows::inode::{FIRST_COOKIE, InodeRow};
use super::rows::prefix_range;
use crate::cluster::Labels;
use crate::error::FsError;
use crate::ids::{ChunkId, ChunkVersion, ClusterId, DiskId, InodeId, NodeId, ServerId};
use crate::limits::{DELETIONS_AT_ONCE, DESCRIPTION_BYTES_MAX, REPLICAS_MAX, SERVER_DISKS_MAX};
use bytes::Bytes;

/// `Internal::Format`.
pub(super) fn format(
    act: &mut Act<'_>,
    cluster: ClusterId,
    replicas: u8,
    feature_level: u32,
) -> Result<(), Stop> {
    require(!act.draft.has(&ClusterKey)?, FsError::Exists)?;
    require((1..=REPLICAS_MAX as u8).contains(&replicas), FsError::InvalidArgument)?;
    let formatted = act.now();
    let row = ClusterRow { cluster, default_replicas: replicas, feature_level, formatted };
    act.draft.put(&ClusterKey, &row);
    act.draft.put(&CounterKey::NextInode, &NumberRow(InodeId::ROOT.get() + 1));
    use CounterKey::{NextChunk, NextPolicy, NextServer, NextSession};
    for counter in [NextChunk, NextSession, NextServer, NextPolicy] {
        act.draft.put(&counter, &NumberRow(1));
    }
    for counter in [CounterKey::InodesGone, CounterKey::ChunksGone] {
        act.draft.put(&counter, &NumberRow(0));
    }
    let mut root = InodeRow::new(InodeId::ROOT, NodeKind::Directory, 0o755, formatted);
    root.links = 2;
    root.parent = InodeId::ROOT;
    root.next_cookie = FIRST_COOKIE;
    act.put_inode(&root);
    Ok(())
}

/// `Internal::RegisterServer`: the same node gets the same number for ever.
pub(super) fn register(
    act: &mut Act<'_>,
    node: NodeId,
    (data, http): (&str, &str),
    labels: &Labels,
) -> Result<ServerId, Stop> {
    let fits = data.len() <= DESCRIPTION_BYTES_MAX && http.len() <= DESCRIPTION_BYTES_MAX;
    require(fits, FsError::InvalidArgument)?;
    let known = act.draft.get(&ServerNodeKey(node))?;
    let server = match known {
        Some(ServerNodeRow(server)) => server,
        None => {
            let number = act.next_number(CounterKey::NextServer)?;
            ServerId(u32::try_from(number).map_err(|_| Stop::Failed("server numbers have run out".into()))?)
        }
    };
    act.draft.put(&ServerNodeKey(node), &ServerNodeRow(server));
    let draining = act.draft.get(&ServerKey(server))?.and_then(|before| before.draining);
    let (data_address, http_address, labels) = (data.to_owned(), http.to_owned(), labels.clone());
    let row = ServerRow { node, data_address, http_address, labels, draining };
    act.draft.put(&ServerKey(server), &row);
    Ok(server)
}

/// `Internal::DrainServer`.
pub(super) fn drain(act: &mut Act<'_>, server: ServerId, replicas: Option<u64>) -> Result<(), Stop> {
    let mut row = act.draft.get(&ServerKey(server))?.ok_or(FsError::NotFound)?;
    if row.draining.is_some() != replicas.is_some() {
        row.draining = replicas.map(|replicas| Draining { since: act.now(), replicas });
        act.draft.put(&ServerKey(server), &row);
    }
    Ok(())
}

/// `Internal::DrainDisk`.
pub(super) fn drain_disk(
    act: &mut Act<'_>,
    server: ServerId,
    disk: DiskId,
    replicas: Option<u64>,
) -> Result<(), Stop> {
    require(act.draft.has(&ServerKey(server))?, FsError::NotFound)?;
    let key = DiskDrainKey { server, disk };
    match (act.draft.has(&key)?, replicas) {
        (false, Some(replicas)) => {
            let drained = act.draft.scan::<DiskDrainKey>(&disks_of(server), SERVER_DISKS_MAX)?;
            require(drained.len() < SERVER_DISKS_MAX, FsError::Overloaded)?;
            let row = DiskDrainRow(Draining { since: act.now(), replicas });
            act.draft.put(&key, &row);
        }
        (true, None) => act.draft.delete(&key),
        (true, Some(_)) | (false, None) => {}
    }
    Ok(())
}

fn disks_of(server: ServerId) -> (Bytes, Bytes) {
    prefix_range::<DiskDrainKey>(&server.get().to_be_bytes())
}

/// `Internal::RemoveServer`. Its number is never given again, and its node is a stranger from now on.
pub(super) fn remove(act: &mut Act<'_>, server: ServerId) -> Result<bool, Stop> {
    let Some(row) = act.draft.get(&ServerKey(server))? else { return Ok(false) };
    require(!act.context.view.health(server).is_reachable(), FsError::Busy)?;
    let number = server.get().to_be_bytes();
    let counted = act.draft.scan::<ServerChunkKey>(&prefix_range::<ServerChunkKey>(&number), 1)?;
    require(counted.is_empty(), FsError::Busy)?;
    let deletions =
        act.draft.scan::<DeleteReplicaKey>(&prefix_range::<DeleteReplicaKey>(&number), DELETIONS_AT_ONCE)?;
    deletions.iter().for_each(|(key, _)| act.draft.delete(key));
    if deletions.len() == DELETIONS_AT_ONCE {
        return Ok(true);
    }
    let drained = act.draft.scan::<DiskDrainKey>(&disks_of(server), SERVER_DISKS_MAX)?;
    drained.iter().for_each(|(key, _)| act.draft.delete(key));
    act.draft.delete(&ServerNodeKey(row.node));
    act.draft.delete(&ServerKey(server));
    Ok(false)
}

/// `Internal::ForgetDeletions`.
pub(super) fn forget_deletions(
    act: &mut Act<'_>,
    server: ServerId,
    chunks: &[(ChunkId, ChunkVersion)],
) -> Result<(), Stop> {
    for &(chunk, version) in chunks {
        let key = DeleteReplicaKey { server, chunk };
        if act.draft.get(&key)?.is_some_and(|VersionRow(planned)| planned <= version) {
            act.draft.delete(&key);
        }
    }
    Ok(())
}

/// `Internal::DeleteStray`. A replica below the version that the master counts on is of no use, but deleting "up to" a
/// version could reach the good one: so never while the server is in the chunk's set.
pub(super) fn delete_stray(
    act: &mut Act<'_>,
    server: ServerId,
    chunk: ChunkId,
    version: ChunkVersion,
) -> Result<(), Stop> {
    require(!act.draft.has(&ServerChunkKey { server, chunk })?, FsError::Busy)?;
    let key = DeleteReplicaKey { server, chunk };
    let planned = act.draft.get(&key)?.map_or(ChunkVersion(0), |VersionRow(planned)| planned);
    act.draft.put(&key, &VersionRow(version.max(planned)));
    Ok(())
}
