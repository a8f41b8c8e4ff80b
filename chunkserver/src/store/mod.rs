//! The chunk store: replicas on disks, crash-safe and checksummed.

#![allow(clippy::todo, unused_variables)]

mod error;
mod types;

pub use error::StoreError;
pub use types::{
    BlockSum, DiskConfig, DiskState, DiskStatusReport, OpenReport, ReadBlocks, ReplicaStat, StoreEvent,
    WriteRequest,
};

use cairn_core::ids::{ChunkId, ChunkVersion, ClusterId, NodeId, PartId, Term};
use cairn_env::Env;

/// The replicas of one server. Cheap to clone; all clones are the same store. Needs a tokio runtime.
#[derive(Clone)]
pub struct ChunkStore {}

impl ChunkStore {
    /// Opens (or makes) every disk, recovers it and returns the store. Blocks. A disk that fails to open is reported as
    /// failed and left alone; the others serve.
    ///
    /// # Errors
    /// Only when no disk is configured; a server with only failed disks still starts.
    pub fn open(
        env: &Env,
        cluster: Option<ClusterId>,
        node: NodeId,
        disks: &[DiskConfig],
    ) -> Result<(Self, OpenReport), StoreError> {
        todo!()
    }

    /// Writes the cluster into the superblocks at the first registration; afterwards checks that it is the same. Blocks.
    ///
    /// # Errors
    /// `Io` when a disk belongs to another cluster; the store then serves no data.
    pub fn adopt_cluster(&self, cluster: ClusterId) -> Result<(), StoreError> {
        todo!()
    }

    /// Stores the payload; it reads back at once, and is durable after `sync` (or before returning with `request.sync`).
    /// Writes of one replica are serialised in the order of the first poll. Dropping the future does not tear anything.
    ///
    /// # Errors
    /// See [`StoreError`]; after an error the touched blocks are as they were or as being written, each whole, except that
    /// `WritesLost` then says so to every later sync.
    pub async fn write(&self, request: WriteRequest) -> Result<(), StoreError> {
        todo!()
    }

    /// Makes every write acknowledged before the call durable. Never acknowledges when such a write was lost.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn sync(&self, chunk: ChunkId, part: PartId, version: ChunkVersion) -> Result<(), StoreError> {
        todo!()
    }

    /// The whole blocks that `offset .. offset + length` touches, verified; blocks not stored are zeros.
    ///
    /// # Errors
    /// `Corrupt` when a block does not verify (it has been reported), `NoSuchChunk` below the asked version.
    pub async fn read(
        &self,
        chunk: ChunkId,
        part: PartId,
        version: ChunkVersion,
        offset: u64,
        length: u32,
    ) -> Result<ReadBlocks, StoreError> {
        todo!()
    }

    /// One entry per block up to the end of the last stored one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn block_sums(
        &self,
        chunk: ChunkId,
        part: PartId,
        version: ChunkVersion,
    ) -> Result<Vec<BlockSum>, StoreError> {
        todo!()
    }

    /// What is known of a replica, whatever its version.
    pub fn stat(&self, chunk: ChunkId, part: PartId) -> Option<ReplicaStat> {
        todo!()
    }

    /// From now on refuses everything below `to`; durable before it returns. Idempotent; a replica already at or beyond `to` is
    /// done. Clears `WritesLost`.
    ///
    /// # Errors
    /// `NoSuchChunk` when there is none or it is below `from`.
    pub async fn raise_version(
        &self,
        chunk: ChunkId,
        part: PartId,
        from: ChunkVersion,
        to: ChunkVersion,
    ) -> Result<(), StoreError> {
        todo!()
    }

    /// Deletes the replica when its version is `up_to` or lower; durable before it returns. Absent: done.
    ///
    /// # Errors
    /// `StaleVersion` when the replica is beyond `up_to`.
    pub async fn delete(&self, chunk: ChunkId, part: PartId, up_to: ChunkVersion) -> Result<(), StoreError> {
        todo!()
    }

    /// At most `limit` replicas with `first <= chunk <= last`, in order; the next page begins at the last chunk's successor
    /// (all parts of one chunk stay on one page, which may therefore be slightly longer).
    pub fn list(&self, first: ChunkId, last: ChunkId, limit: usize) -> Vec<ReplicaStat> {
        todo!()
    }

    /// Every replica in order of (chunk, part), for `cairn_core::cluster::digest`.
    pub fn held(&self) -> Vec<(ChunkId, ChunkVersion, PartId)> {
        todo!()
    }

    /// One per configured disk.
    pub fn disks(&self) -> Vec<DiskStatusReport> {
        todo!()
    }

    /// Refuses a command below the highest term ever seen; persists a higher one before it returns.
    ///
    /// # Errors
    /// `StaleTerm`; `DiskFailed` when it cannot be persisted anywhere: do not obey.
    pub async fn fence_term(&self, term: Term) -> Result<(), StoreError> {
        todo!()
    }

    /// Highest term persisted here.
    pub fn highest_term(&self) -> Term {
        todo!()
    }

    /// The receiver of events; `Some` once. A full queue drops events (the state itself is in `list` and `disks`).
    pub fn take_events(&self) -> Option<tokio::sync::mpsc::Receiver<StoreEvent>> {
        todo!()
    }

    /// Clean stop: refuses new work, makes everything durable and in place, writes closing marks.
    pub async fn close(&self) {
        todo!()
    }
}
