//! CHUNK, SERVER_CHUNK, DELETE_REPLICA, RECONCILE and REPAIR rows.
//!
//! ```text
//! CHUNK           key  8 | tree 0 | chunk u64 BE
//!   +0  format u8 = 3   +1  layout u8 (1 copies)  +2  minimum u8   +3 flags u8 (bit 0 reconciling)
//!   +4  version u64     +12 raising u64           +20 references u64
//!   +28 owner session u64 (0 once attached)       +36 inode u64
//!   +44 wanted u8       +45 policy u32                +49 servers: u32* in chain order
//! SERVER_CHUNK    key  9 | tree 0 | server u32 BE | chunk u64 BE   +0 format u8 = 1   +1 version u64
//! DELETE_REPLICA  key 16 | tree 0 | server u32 BE | chunk u64 BE   +0 format u8 = 1   +1 version u64: delete up to it
//! RECONCILE       key 17 | tree 0 | chunk u64 BE                   +0 format u8 = 1   +1 reason u8   +2 since (i64, u32)
//!                 reason 1: a writer ended badly   2: a version was begun, and whoever began it has not finished
//! REPAIR          key 24 | tree 0 | copies u8 | chunk u64 BE       +0 format u8 = 1   +1 since (i64, u32)
//! ```
//! `version <= raising`, equal while no raise is under way. `references` counts the EXTENT rows that name the chunk; a
//! chunk has an owner exactly while nothing has ever referred to it. REPAIR rows are exactly the chunks whose set is not of
//! the size `wanted`, by the size that it has: what is in the greatest danger comes first.

use super::codec::{Reader, Writer};
use super::{CLUSTER_TREE, Damaged, Key, Table, Value};
use crate::ids::{ChunkId, ChunkVersion, InodeId, PolicyId, ServerId, SessionId, TreeId};
use crate::limits::REPLICAS_MAX;
use crate::time::Timestamp;

const LAYOUT_COPIES: u8 = 1;
const FLAG_RECONCILING: u8 = 1;

/// Key of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkKey(pub ChunkId);

/// A chunk as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRow {
    /// Fewest replicas that a write must reach.
    pub minimum: u8,
    /// How many replicas it is to have.
    pub wanted: u8,
    /// By which policy.
    pub policy: PolicyId,
    /// To be reconciled.
    pub reconciling: bool,
    /// Version of the set.
    pub version: ChunkVersion,
    /// Highest version ever begun.
    pub raising: ChunkVersion,
    /// EXTENT rows that name it.
    pub references: u64,
    /// Whose it is until it is attached; 0 then.
    pub owner: SessionId,
    /// The file that it was allocated for.
    pub inode: InodeId,
    /// The set, in chain order.
    pub servers: Vec<ServerId>,
}

/// Key of a replica on a server, as the master counts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerChunkKey {
    /// The server.
    pub server: ServerId,
    /// The chunk.
    pub chunk: ChunkId,
}

/// Key of a replica to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteReplicaKey {
    /// The server.
    pub server: ServerId,
    /// The chunk.
    pub chunk: ChunkId,
}

/// A version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRow(pub ChunkVersion);

/// Key of a chunk to be reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReconcileKey(pub ChunkId);

/// Why a chunk is to be reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ReconcileReason {
    /// A writer ended badly: its replicas may differ.
    Writer = 1,
    /// A version was begun and not yet finished. Whoever began it is probably at it: leave it for some seconds.
    Raise = 2,
}

/// A chunk to be reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReconcileRow {
    /// Why.
    pub reason: ReconcileReason,
    /// Since when.
    pub since: Timestamp,
}

/// Key of a chunk that has too few replicas, or too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairKey {
    /// How many it has.
    pub copies: u8,
    /// The chunk.
    pub chunk: ChunkId,
}

/// Since when it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairRow {
    /// When its set came to this size.
    pub since: Timestamp,
}

impl Key for ChunkKey {
    const TABLE: Table = Table::Chunk;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = ChunkRow;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.0.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(ChunkId(input.u64_be()?)))
    }
}

impl Value for ChunkRow {
    const FORMAT: u8 = 3;

    fn write(&self, out: &mut Writer) {
        debug_assert!(self.servers.len() <= REPLICAS_MAX && self.version <= self.raising);
        out.u8(LAYOUT_COPIES);
        out.u8(self.minimum);
        out.u8(if self.reconciling { FLAG_RECONCILING } else { 0 });
        out.u64(self.version.get());
        out.u64(self.raising.get());
        out.u64(self.references);
        out.u64(self.owner.get());
        out.u64(self.inode.get());
        out.u8(self.wanted);
        out.u32(self.policy.get());
        for server in &self.servers {
            out.u32(server.get());
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let (layout, minimum, flags) = (input.u8()?, input.u8()?, input.u8()?);
        let mut row = Self {
            minimum,
            wanted: 0,
            policy: PolicyId::DEFAULT,
            reconciling: flags & FLAG_RECONCILING != 0,
            version: ChunkVersion(input.u64()?),
            raising: ChunkVersion(input.u64()?),
            references: input.u64()?,
            owner: SessionId(input.u64()?),
            inode: InodeId(input.u64()?),
            servers: Vec::new(),
        };
        row.wanted = input.u8()?;
        row.policy = PolicyId(input.u32()?);
        while !input.is_empty() {
            row.servers.push(ServerId(input.u32()?));
        }
        let whole = (1..=REPLICAS_MAX).contains(&usize::from(row.wanted));
        let known = whole && layout == LAYOUT_COPIES && flags & !FLAG_RECONCILING == 0;
        let sound = row.servers.len() <= REPLICAS_MAX && row.version <= row.raising;
        if known && sound { Ok(row) } else { Err(Damaged) }
    }
}

impl Key for ServerChunkKey {
    const TABLE: Table = Table::ServerChunk;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = VersionRow;

    fn write(&self, out: &mut Writer) {
        out.u32_be(self.server.get());
        out.u64_be(self.chunk.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { server: ServerId(input.u32_be()?), chunk: ChunkId(input.u64_be()?) })
    }
}

impl Key for DeleteReplicaKey {
    const TABLE: Table = Table::DeleteReplica;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = VersionRow;

    fn write(&self, out: &mut Writer) {
        out.u32_be(self.server.get());
        out.u64_be(self.chunk.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { server: ServerId(input.u32_be()?), chunk: ChunkId(input.u64_be()?) })
    }
}

impl Value for VersionRow {
    fn write(&self, out: &mut Writer) {
        out.u64(self.0.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(ChunkVersion(input.u64()?)))
    }
}

impl Key for ReconcileKey {
    const TABLE: Table = Table::Reconcile;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = ReconcileRow;

    fn write(&self, out: &mut Writer) {
        out.u64_be(self.0.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self(ChunkId(input.u64_be()?)))
    }
}

impl Value for ReconcileRow {
    fn write(&self, out: &mut Writer) {
        out.u8(self.reason as u8);
        out.time(self.since);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        let reason = match input.u8()? {
            1 => ReconcileReason::Writer,
            2 => ReconcileReason::Raise,
            _ => return Err(Damaged),
        };
        Ok(Self { reason, since: input.time()? })
    }
}

impl Key for RepairKey {
    const TABLE: Table = Table::Repair;
    const TREE: TreeId = CLUSTER_TREE;
    type Value = RepairRow;

    fn write(&self, out: &mut Writer) {
        out.u8(self.copies);
        out.u64_be(self.chunk.get());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { copies: input.u8()?, chunk: ChunkId(input.u64_be()?) })
    }
}

impl Value for RepairRow {
    fn write(&self, out: &mut Writer) {
        out.time(self.since);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, Damaged> {
        Ok(Self { since: input.time()? })
    }
}
