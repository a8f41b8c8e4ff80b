//! Work to be done, as the state holds it: what a new leader scans. Every function is a page after a cursor.

use crate::error::FsError;
use crate::ids::{ChunkId, ChunkVersion, ClusterId, InodeId, LeaseNumber, NodeId, ServerId, SessionId};
use crate::namespace::machine::{Rows, Stop};

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

/// The holder of the write lease on `inode`: whom to recall when an operation was refused with `LeaseHeld`.
///
/// # Errors
/// See [`Stop`].
pub fn lease_of(_rows: &dyn Rows, _inode: InodeId) -> Result<Option<LeaseRecord>, Stop> {
    Err(FsError::Unsupported.into())
}
