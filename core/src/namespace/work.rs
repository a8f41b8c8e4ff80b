//! Work to be done, as the state holds it: what a new leader scans. Every function is a page after a cursor.

use super::draft::{Draft, Found};
use super::machine::{Rows, Stop};
use super::name::Name;
use super::rows::capacity::CapacityKey;
use super::rows::chunk::{
    ChunkKey, ChunkRow, DeleteReplicaKey, ReconcileKey, RepairKey, ServerChunkKey, VersionRow,
};
use super::rows::cluster::{
    ClusterKey, CounterKey, NumberRow, ServerKey, ServerNodeKey, ServerNodeRow, ServerRow,
};
use super::rows::disk_drain::{DiskDrainKey, DiskDrainRow};
use super::rows::inode::OrphanKey;
use super::rows::lease::{LeaseKey, SessionChunkKey};
use super::rows::names::BacklinkKey;
use super::rows::rebalance::RebalanceKey;
use super::rows::session::{SessionKey, SessionRow};
use super::rows::{Key, prefix_range};
use crate::cluster::Labels;
use crate::explain::capacity::Sample;
use crate::ids::{
    ChunkId, ChunkVersion, ClusterId, DiskId, InodeId, LeaseNumber, NodeId, PolicyId, ServerId, SessionId,
};
use crate::limits::CAPACITY_SAMPLES_MAX;
use crate::time::Timestamp;

pub use super::rows::chunk::{ReconcileReason, ReconcileRow};
pub use super::rows::cluster::Draining;
pub use super::rows::extent::GarbageKey;
pub use super::rows::policy::PolicyWalkRow;
pub use super::rows::rebalance::{RebalanceRow, RebalanceState};

/// A session as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its number.
    pub session: SessionId,
    /// By which a successor process may re-attach.
    pub secret: [u8; 16],
    /// The client's node.
    pub node: NodeId,
    /// Shown to operators.
    pub description: String,
    /// `EndSession` has begun: nothing is accepted any more; send it until nothing is left.
    pub ending: bool,
}

/// A chunk server as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRecord {
    /// Its number.
    pub server: ServerId,
    /// Its identity.
    pub node: NodeId,
    /// `host:port` of its data plane when it last registered.
    pub data_address: String,
    /// `host:port` of its health pages when it last registered.
    pub http_address: String,
    /// Its labels when it last registered.
    pub labels: Labels,
    /// It is to be emptied.
    pub draining: Option<Draining>,
}

/// A disk that is to be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainedDisk {
    /// Whose disk it is.
    pub server: ServerId,
    /// Which.
    pub disk: DiskId,
    /// Since when, and what it had then.
    pub draining: Draining,
}

/// A chunk as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRecord {
    /// The chunk.
    pub chunk: ChunkId,
    /// Version of the replica set.
    pub version: ChunkVersion,
    /// The highest version ever begun; equal to `version` when no raise is under way.
    pub raising: ChunkVersion,
    /// Fewest replicas that a write must reach.
    pub minimum: u8,
    /// How many replicas it is to have.
    pub wanted: u8,
    /// By which policy.
    pub policy: PolicyId,
    /// The set, in chain order.
    pub servers: Vec<ServerId>,
    /// Extents that name it.
    pub references: u64,
    /// The session that it is allocated to, until it is attached.
    pub owner: Option<SessionId>,
    /// The file that it was allocated for.
    pub inode: InodeId,
    /// It waits for reconciliation: refuse writers.
    pub reconciling: bool,
}

/// The cluster's identity as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRecord {
    /// Identity.
    pub cluster: ClusterId,
    /// Replicas of a new chunk.
    pub default_replicas: u8,
    /// Which rows a leader may write.
    pub feature_level: u32,
}

/// Numbers for `admin status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Inodes in use, orphans included.
    pub inodes: u64,
    /// Chunks in the state.
    pub chunks: u64,
}

/// The lease on a file, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who holds it.
    pub session: SessionId,
    /// Its number.
    pub lease: LeaseNumber,
}

/// Disks that are to be emptied, after one.
///
/// # Errors
/// See [`Stop`].
pub fn drained_disks(
    rows: &dyn Rows,
    after: Option<(ServerId, DiskId)>,
    limit: usize,
) -> Result<Vec<DrainedDisk>, Stop> {
    let found = page(rows, after.map(|(server, disk)| DiskDrainKey { server, disk }), limit)?;
    let record =
        |(DiskDrainKey { server, disk }, DiskDrainRow(draining))| DrainedDisk { server, disk, draining };
    Ok(found.into_iter().map(record).collect())
}

/// The holder of the write lease on `inode`: whom to recall when an operation was refused with `LeaseHeld`.
///
/// # Errors
/// See [`Stop`].
pub fn lease_of(rows: &dyn Rows, inode: InodeId) -> Result<Option<LeaseRecord>, Stop> {
    let row = Draft::new(rows).get(&LeaseKey(inode))?;
    Ok(row.map(|row| LeaseRecord { session: row.session, lease: row.lease }))
}

/// One page of a table, after a cursor.
fn page<K: Key>(rows: &dyn Rows, after: Option<K>, limit: usize) -> Result<Vec<Found<K>>, Stop> {
    let (mut from, to) = prefix_range::<K>(&[]);
    if let Some(after) = after {
        // The least key behind another is that key with one more byte, zero.
        let mut next = after.encode().to_vec();
        next.push(0);
        from = next.into();
    }
    Draft::new(rows).scan::<K>(&(from, to), limit)
}

/// The cluster's identity; `None` before it is formatted.
///
/// # Errors
/// See [`Stop`].
pub fn cluster(rows: &dyn Rows) -> Result<Option<ClusterRecord>, Stop> {
    let row = Draft::new(rows).get(&ClusterKey)?;
    Ok(row.map(|row| ClusterRecord {
        cluster: row.cluster,
        default_replicas: row.default_replicas,
        feature_level: row.feature_level,
    }))
}

/// Inodes and chunks in the state.
///
/// # Errors
/// See [`Stop`].
pub fn totals(rows: &dyn Rows) -> Result<Totals, Stop> {
    totals_in(&Draft::new(rows))
}

pub(super) fn totals_in(draft: &Draft<'_>) -> Result<Totals, Stop> {
    let number = |counter| Ok::<u64, Stop>(draft.get(&counter)?.map_or(0, |NumberRow(number)| number));
    let inodes =
        number(CounterKey::NextInode)?.saturating_sub(1).saturating_sub(number(CounterKey::InodesGone)?);
    let chunks =
        number(CounterKey::NextChunk)?.saturating_sub(1).saturating_sub(number(CounterKey::ChunksGone)?);
    Ok(Totals { inodes, chunks })
}

/// Every chunk that there is, or was, has an id below.
///
/// # Errors
/// See [`Stop`].
pub fn chunks_given(rows: &dyn Rows) -> Result<u64, Stop> {
    Ok(Draft::new(rows).get(&CounterKey::NextChunk)?.map_or(0, |NumberRow(number)| number))
}

/// One session.
///
/// # Errors
/// See [`Stop`].
pub fn session(rows: &dyn Rows, session: SessionId) -> Result<Option<SessionRecord>, Stop> {
    Ok(Draft::new(rows).get(&SessionKey(session))?.map(|row| session_record(session, row)))
}

/// Sessions after a number.
///
/// # Errors
/// See [`Stop`].
pub fn sessions(rows: &dyn Rows, after: Option<SessionId>, limit: usize) -> Result<Vec<SessionRecord>, Stop> {
    let found = page(rows, after.map(SessionKey), limit)?;
    Ok(found.into_iter().map(|(key, row)| session_record(key.0, row)).collect())
}

fn session_record(session: SessionId, row: SessionRow) -> SessionRecord {
    let SessionRow { ending, secret, node, description, opened: _ } = row;
    SessionRecord { session, secret, node, description, ending }
}

/// Chunk servers after a number.
///
/// # Errors
/// See [`Stop`].
pub fn servers(rows: &dyn Rows, after: Option<ServerId>, limit: usize) -> Result<Vec<ServerRecord>, Stop> {
    let found = page(rows, after.map(ServerKey), limit)?;
    Ok(found.into_iter().map(|(ServerKey(server), row)| server_record(server, row)).collect())
}

/// The last rebalancing that was asked for.
///
/// # Errors
/// See [`Stop`].
pub fn rebalance(rows: &dyn Rows) -> Result<Option<RebalanceRow>, Stop> {
    Draft::new(rows).get(&RebalanceKey)
}

/// One chunk server.
///
/// # Errors
/// See [`Stop`].
pub fn server(rows: &dyn Rows, server: ServerId) -> Result<Option<ServerRecord>, Stop> {
    Ok(Draft::new(rows).get(&ServerKey(server))?.map(|row| server_record(server, row)))
}

fn server_record(server: ServerId, row: ServerRow) -> ServerRecord {
    let ServerRow { node, data_address, http_address, labels, draining } = row;
    ServerRecord { server, node, data_address, http_address, labels, draining }
}

/// One chunk.
///
/// # Errors
/// See [`Stop`].
pub fn chunk(rows: &dyn Rows, chunk: ChunkId) -> Result<Option<ChunkRecord>, Stop> {
    Ok(Draft::new(rows).get(&ChunkKey(chunk))?.map(|row| chunk_record(chunk, row)))
}

/// Several chunks; those that are gone are left out.
///
/// # Errors
/// See [`Stop`].
pub fn chunks_named(rows: &dyn Rows, chunks: &[ChunkId]) -> Result<Vec<ChunkRecord>, Stop> {
    let keys: Vec<ChunkKey> = chunks.iter().map(|&chunk| ChunkKey(chunk)).collect();
    let found = Draft::new(rows).multi_get(&keys)?;
    let there = chunks.iter().zip(found).filter_map(|(&chunk, row)| row.map(|row| chunk_record(chunk, row)));
    Ok(there.collect())
}

/// Chunks whose set is not of the size that is wanted, after one of them: first those with the fewest replicas.
///
/// # Errors
/// See [`Stop`].
pub fn repairs(
    rows: &dyn Rows,
    after: Option<(u8, ChunkId)>,
    limit: usize,
) -> Result<Vec<(u8, ChunkId)>, Stop> {
    let found = page(rows, after.map(|(copies, chunk)| RepairKey { copies, chunk }), limit)?;
    Ok(found.into_iter().map(|(key, _)| (key.copies, key.chunk)).collect())
}

/// Which of these servers still hold a replica of `chunk` that is to be deleted.
///
/// # Errors
/// See [`Stop`].
pub fn deleting_at(rows: &dyn Rows, chunk: ChunkId, servers: &[ServerId]) -> Result<Vec<ServerId>, Stop> {
    let keys: Vec<_> = servers.iter().map(|&server| DeleteReplicaKey { server, chunk }).collect();
    let found = Draft::new(rows).multi_get(&keys)?;
    Ok(servers.iter().zip(found).filter(|(_, row)| row.is_some()).map(|(&server, _)| server).collect())
}

/// The chunk server of a node.
///
/// # Errors
/// See [`Stop`].
pub fn server_of(rows: &dyn Rows, node: NodeId) -> Result<Option<ServerRecord>, Stop> {
    let draft = Draft::new(rows);
    let Some(ServerNodeRow(server)) = draft.get(&ServerNodeKey(node))? else { return Ok(None) };
    Ok(draft.get(&ServerKey(server))?.map(|row| server_record(server, row)))
}

/// Chunks after an id.
///
/// # Errors
/// See [`Stop`].
pub fn chunks(rows: &dyn Rows, after: Option<ChunkId>, limit: usize) -> Result<Vec<ChunkRecord>, Stop> {
    let found = page(rows, after.map(ChunkKey), limit)?;
    Ok(found.into_iter().map(|(key, row)| chunk_record(key.0, row)).collect())
}

pub(super) fn chunk_record(chunk: ChunkId, row: ChunkRow) -> ChunkRecord {
    ChunkRecord {
        chunk,
        version: row.version,
        raising: row.raising,
        minimum: row.minimum,
        wanted: row.wanted,
        policy: row.policy,
        servers: row.servers,
        references: row.references,
        owner: Some(row.owner).filter(|owner| owner.get() != 0),
        inode: row.inode,
        reconciling: row.reconciling,
    }
}

/// Replicas that the master counts on at `server`, from chunk `from` to `to` inclusive, in order: what an inventory is
/// compared with.
///
/// # Errors
/// See [`Stop`].
pub fn replicas_on(
    rows: &dyn Rows,
    server: ServerId,
    from: ChunkId,
    to: ChunkId,
    limit: usize,
) -> Result<Vec<(ChunkId, ChunkVersion)>, Stop> {
    let first = ServerChunkKey { server, chunk: from }.encode();
    let mut behind = ServerChunkKey { server, chunk: to }.encode().to_vec();
    behind.push(0);
    let found = Draft::new(rows).scan::<ServerChunkKey>(&(first, behind.into()), limit)?;
    Ok(found.into_iter().map(|(key, VersionRow(version))| (key.chunk, version)).collect())
}

/// Whether the master counts on a replica of `chunk` at `server`, and at which version.
///
/// # Errors
/// See [`Stop`].
pub fn replica_on(rows: &dyn Rows, server: ServerId, chunk: ChunkId) -> Result<Option<ChunkVersion>, Stop> {
    Ok(Draft::new(rows).get(&ServerChunkKey { server, chunk })?.map(|VersionRow(version)| version))
}

/// Orphans after an inode.
///
/// # Errors
/// See [`Stop`].
pub fn orphans(rows: &dyn Rows, after: Option<InodeId>, limit: usize) -> Result<Vec<InodeId>, Stop> {
    Ok(page(rows, after.map(OrphanKey), limit)?.into_iter().map(|(key, _)| key.0).collect())
}

/// A replica to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Where.
    pub server: ServerId,
    /// Of which chunk.
    pub chunk: ChunkId,
    /// Up to which version.
    pub version: ChunkVersion,
}

/// Replicas to be deleted, after one of them.
///
/// # Errors
/// See [`Stop`].
pub fn deletions(
    rows: &dyn Rows,
    after: Option<(ServerId, ChunkId)>,
    limit: usize,
) -> Result<Vec<Deletion>, Stop> {
    let found = page(rows, after.map(|(server, chunk)| DeleteReplicaKey { server, chunk }), limit)?;
    let deletion = |(key, VersionRow(version)): (DeleteReplicaKey, VersionRow)| Deletion {
        server: key.server,
        chunk: key.chunk,
        version,
    };
    Ok(found.into_iter().map(deletion).collect())
}

/// Chunks to be reconciled, after one of them.
///
/// # Errors
/// See [`Stop`].
pub fn reconciliations(
    rows: &dyn Rows,
    after: Option<ChunkId>,
    limit: usize,
) -> Result<Vec<(ChunkId, ReconcileRow)>, Stop> {
    Ok(page(rows, after.map(ReconcileKey), limit)?.into_iter().map(|(key, row)| (key.0, row)).collect())
}

/// Garbage ranges, after one of them: what `Internal::DropGarbage` is sent for.
///
/// # Errors
/// See [`Stop`].
pub fn garbage(rows: &dyn Rows, after: Option<GarbageKey>, limit: usize) -> Result<Vec<GarbageKey>, Stop> {
    Ok(page(rows, after, limit)?.into_iter().map(|(key, _)| key).collect())
}

/// Chunks that `session` has allocated and not attached: at most `limit`.
///
/// # Errors
/// See [`Stop`].
pub fn unattached(rows: &dyn Rows, session: SessionId, limit: usize) -> Result<Vec<ChunkId>, Stop> {
    let range = prefix_range::<SessionChunkKey>(&session.get().to_be_bytes());
    let found = Draft::new(rows).scan::<SessionChunkKey>(&range, limit)?;
    Ok(found.into_iter().map(|(key, _)| key.chunk).collect())
}

/// Since when these chunks wait for their reconciliation; those that do not are left out.
///
/// # Errors
/// See [`Stop`].
pub fn reconciling_since(rows: &dyn Rows, chunks: &[ChunkId]) -> Result<Vec<(ChunkId, Timestamp)>, Stop> {
    let keys: Vec<ReconcileKey> = chunks.iter().map(|&chunk| ReconcileKey(chunk)).collect();
    let found = Draft::new(rows).multi_get(&keys)?;
    Ok(chunks.iter().zip(found).filter_map(|(&chunk, row)| row.map(|row| (chunk, row.since))).collect())
}

/// How full the cluster was, oldest first.
///
/// # Errors
/// See [`Stop`].
pub fn capacity(rows: &dyn Rows) -> Result<Vec<Sample>, Stop> {
    let found =
        Draft::new(rows).scan::<CapacityKey>(&prefix_range::<CapacityKey>(&[]), CAPACITY_SAMPLES_MAX)?;
    let sample = |(CapacityKey(hour), row): Found<CapacityKey>| Sample {
        hour,
        total_bytes: row.total_bytes,
        used_bytes: row.used_bytes,
        chunks: row.chunks,
        inodes: row.inodes,
    };
    Ok(found.into_iter().map(sample).collect())
}

/// Where an inode is named: at most `limit` of (directory, name).
///
/// # Errors
/// See [`Stop`].
pub fn names_of(rows: &dyn Rows, inode: InodeId, limit: usize) -> Result<Vec<(InodeId, Name)>, Stop> {
    let range = prefix_range::<BacklinkKey>(&inode.get().to_be_bytes());
    let found = Draft::new(rows).scan::<BacklinkKey>(&range, limit)?;
    Ok(found.into_iter().map(|(key, _)| (key.parent, key.name)).collect())
}
