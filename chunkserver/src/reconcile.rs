//! Making the replicas of a chunk equal after a writer ended badly, or a new one equal to the others: this server's replica is
//! the source.
//!
//! Whatever was acknowledged is equal on all replicas already; what differs was never acknowledged, so any one replica may
//! win. The master has raised the version on all of them first, so no writer interferes. A block that is not stored equals
//! a block of zeros: readers cannot tell them apart, and the copy must not make peers that differ from the source.

use crate::hops::{Hops, Purpose};
use crate::read_path::parse_block_sums;
use crate::store::{BlockSum, ChunkStore, StoreError};
use cairn_core::checksum::block_crc;
use cairn_core::cluster::pace::Haste;
use cairn_core::ids::{ChunkId, ChunkVersion, PartId, RequestId};
use cairn_core::limits::{COPY_WINDOW, FRAME_PAYLOAD_BYTES_MAX, HOP_WAIT_MAX, REPLICAS_MAX};
use cairn_core::units::BLOCK_BYTES;
use cairn_proto::data_conn::{ConnError, DataConnection};
use cairn_proto::frame::{Frame, Header, Op, Status, flags, gives_way};
use cairn_proto::v1::{CommandOutcome, CopyHaste, Reconcile};
use futures::StreamExt;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;
use tracing::info;

const ZERO_BLOCK: [u8; BLOCK_BYTES as usize] = [0; BLOCK_BYTES as usize];
const BLOCKS_PER_FRAME: u64 = FRAME_PAYLOAD_BYTES_MAX as u64 / BLOCK_BYTES;

/// Why replicas could not be made equal. The command may be sent again: what was copied stays copied.
#[derive(Debug, Error)]
pub(crate) enum ReconcileError {
    /// The source itself failed or is damaged.
    #[error("source: {0}")]
    Source(#[from] StoreError),
    /// A peer cannot be reached.
    #[error("peer {peer}: {source}")]
    Connection {
        /// Its address.
        peer: String,
        /// How.
        source: ConnError,
    },
    /// A peer refused.
    #[error("peer {peer} refused to {what}: {status:?}")]
    Peer {
        /// Its address.
        peer: String,
        /// The step.
        what: &'static str,
        /// Its answer.
        status: Status,
    },
    /// A peer did not answer in time.
    #[error("peer {peer} did not {what} in time")]
    Slow {
        /// Its address.
        peer: String,
        /// The step.
        what: &'static str,
    },
    /// The peer's replica still differs.
    #[error("peer {peer} still differs after the copy")]
    StillDifferent {
        /// Its address.
        peer: String,
    },
    /// More peers than a chunk can have.
    #[error("too many peers")]
    TooManyPeers,
}

impl ReconcileError {
    /// What the master is told.
    pub(crate) fn outcome(self) -> (CommandOutcome, String) {
        match self {
            Self::Source(error) => crate::commands::outcome(Err(error)),
            error => (CommandOutcome::OutcomeFailed, error.to_string()),
        }
    }
}

/// How a reconciliation is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Care {
    /// Ahead of a raise: what differs at the end is no fault.
    ahead: bool,
    /// The source is verified first.
    verify: bool,
    /// How far it gives way to programs; `None`: somebody waits for it.
    haste: Option<Haste>,
}

impl Care {
    pub(crate) fn of(command: &Reconcile) -> Self {
        let haste = match command.haste() {
            CopyHaste::HasteFull => None,
            CopyHaste::HasteLast => Some(Haste::Last),
            CopyHaste::HasteShort => Some(Haste::Short),
            CopyHaste::HasteMove => Some(Haste::Move),
        };
        // Once the version is raised its writers wait.
        Self { ahead: command.ahead, verify: command.verify, haste: haste.filter(|_| command.ahead) }
    }
}

/// Compares and copies.
pub(crate) struct Reconciler {
    store: ChunkStore,
    hops: Arc<Hops>,
}

/// One reconciliation towards one peer.
struct Copy<'a> {
    store: &'a ChunkStore,
    connection: DataConnection,
    peer: &'a str,
    chunk: ChunkId,
    version: ChunkVersion,
    haste: Option<Haste>,
}

const PART: PartId = PartId(0);

impl Reconciler {
    pub(crate) fn new(store: ChunkStore, hops: Arc<Hops>) -> Self {
        Self { store, hops }
    }

    /// Makes all peers equal to the replica here, durably everywhere. Every peer is tried, then the first failure told. What
    /// is copied `ahead` of a raise may differ again by then: whoever raises compares once more.
    pub(crate) async fn run(
        &self,
        (chunk, version): (ChunkId, ChunkVersion),
        peers: &[String],
        care: Care,
    ) -> Result<(), ReconcileError> {
        if peers.len() > REPLICAS_MAX {
            return Err(ReconcileError::TooManyPeers);
        }
        let sums = async {
            self.store.sync(chunk, PART, version).await?;
            self.store.source_sums(chunk, PART, version).await
        };
        let sums = self.store.portion((chunk, PART), care.haste, 0, sums).await?;
        if care.verify {
            self.verify((chunk, version), sums.len() as u64, care.haste).await?;
        }
        let copies = peers.iter().map(|peer| self.equalise(chunk, version, peer, &sums, care));
        futures::future::join_all(copies).await.into_iter().collect()
    }

    /// Reads every block, which verifies it.
    async fn verify(
        &self,
        (chunk, version): (ChunkId, ChunkVersion),
        blocks: u64,
        haste: Option<Haste>,
    ) -> Result<(), ReconcileError> {
        for first in (0..blocks).step_by(BLOCKS_PER_FRAME as usize) {
            let length = (blocks - first).min(BLOCKS_PER_FRAME) * BLOCK_BYTES;
            let read = self.store.read(chunk, PART, version, first * BLOCK_BYTES, length as u32);
            self.store.portion((chunk, PART), haste, length as usize, read).await?;
        }
        Ok(())
    }

    async fn equalise(
        &self,
        chunk: ChunkId,
        version: ChunkVersion,
        peer: &str,
        ours: &[BlockSum],
        care: Care,
    ) -> Result<(), ReconcileError> {
        let connection = self
            .hops
            .get(peer, Purpose::Repair, chunk)
            .await
            .map_err(|source| ReconcileError::Connection { peer: peer.to_owned(), source })?;
        let copy = Copy { store: &self.store, connection, peer, chunk, version, haste: care.haste };
        let theirs = copy.peer_sums().await?;
        let mut runs = differing_runs(chunk, ours, &theirs);
        if theirs.is_empty() && runs.is_empty() {
            // All zeros, as a peer without a replica reads as well: a block of them makes it one.
            runs.push(0..1);
        }
        let blocks: u64 = runs.iter().map(|run| run.end - run.start).sum();
        if blocks > 0 || theirs.is_empty() {
            info!(%chunk, %version, peer, blocks, "copying what differs");
        }
        let mut copied =
            futures::stream::iter(runs.into_iter().map(|run| copy.copy(run))).buffer_unordered(COPY_WINDOW);
        while let Some(result) = copied.next().await {
            result?;
        }
        drop(copied);
        copy.sync().await?;
        if care.ahead {
            return Ok(());
        }
        match differing_runs(chunk, ours, &copy.peer_sums().await?) {
            rest if rest.is_empty() => Ok(()),
            _ => Err(ReconcileError::StillDifferent { peer: peer.to_owned() }),
        }
    }
}

impl Copy<'_> {
    async fn peer_sums(&self) -> Result<Vec<BlockSum>, ReconcileError> {
        let reply = self.ask("list its block sums", Frame::bare(self.header(Op::BlockSums))).await?;
        match reply.header.status {
            Status::Ok => parse_block_sums(&reply)
                .ok_or_else(|| self.refused("list its block sums", Status::BadRequest)),
            // It may lack the replica altogether; the first copied block makes it.
            Status::NoSuchChunk => Ok(Vec::new()),
            status => Err(self.refused("list its block sums", status)),
        }
    }

    async fn copy(&self, run: Range<u64>) -> Result<(), ReconcileError> {
        let (offset, length) = (run.start * BLOCK_BYTES, (run.end - run.start) * BLOCK_BYTES);
        let read = self.store.read(self.chunk, PART, self.version, offset, length as u32);
        let blocks = self.store.portion((self.chunk, PART), self.haste, length as usize, read).await?;
        let mut header = self.header(Op::Write);
        header.flags |= flags::CREATE;
        header.offset = blocks.offset;
        let frame = Frame { header, hops: Vec::new(), sums: blocks.sums, payload: blocks.payload };
        let reply = self.ask("store a block", frame).await?;
        match reply.header.status {
            Status::Ok => Ok(()),
            status => Err(self.refused("store a block", status)),
        }
    }

    async fn sync(&self) -> Result<(), ReconcileError> {
        let reply = self.ask("sync", Frame::bare(self.header(Op::Sync))).await?;
        match reply.header.status {
            Status::Ok => Ok(()),
            status => Err(self.refused("sync", status)),
        }
    }

    async fn ask(&self, what: &'static str, frame: Frame) -> Result<Frame, ReconcileError> {
        let peer = || self.peer.to_owned();
        match tokio::time::timeout(HOP_WAIT_MAX, self.connection.call(frame)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(source)) => Err(ReconcileError::Connection { peer: peer(), source }),
            Err(_) => Err(ReconcileError::Slow { peer: peer(), what }),
        }
    }

    fn header(&self, op: Op) -> Header {
        let mut header = Header::request(op, RequestId(0));
        (header.chunk, header.version, header.part) = (self.chunk, self.version, PART);
        header.flags = flags::REPAIR | gives_way(self.haste);
        header
    }

    fn refused(&self, what: &'static str, status: Status) -> ReconcileError {
        ReconcileError::Peer { peer: self.peer.to_owned(), what, status }
    }
}

/// Runs of blocks that read differently, each at most one frame long.
fn differing_runs(chunk: ChunkId, ours: &[BlockSum], theirs: &[BlockSum]) -> Vec<Range<u64>> {
    let mut zero_crcs = BTreeMap::new();
    let mut effective = |sums: &[BlockSum], index: u64| match sums.get(index as usize) {
        Some(sum) if sum.generation != 0 => sum.crc,
        _ => *zero_crcs.entry(index).or_insert_with(|| block_crc(chunk, index, &ZERO_BLOCK)),
    };
    let mut runs: Vec<Range<u64>> = Vec::new();
    for index in 0..ours.len().max(theirs.len()) as u64 {
        if effective(ours, index) == effective(theirs, index) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == index && index - run.start < BLOCKS_PER_FRAME => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: ChunkId = ChunkId(7);

    fn stored(crc: u32) -> BlockSum {
        BlockSum { crc, generation: 1 }
    }

    fn runs(ours: &[BlockSum], theirs: &[BlockSum]) -> Vec<(u64, u64)> {
        differing_runs(CHUNK, ours, theirs).into_iter().map(|run| (run.start, run.end)).collect()
    }

    #[test]
    fn only_what_reads_differently_is_copied() {
        let hole = BlockSum { crc: 0, generation: 0 };
        let zeros = stored(block_crc(CHUNK, 1, &ZERO_BLOCK));
        assert_eq!(runs(&[stored(1), hole], &[stored(1), zeros]), []);
        assert_eq!(runs(&[stored(1), stored(2), stored(3)], &[stored(9), stored(8), stored(3)]), [(0, 2)]);
        assert_eq!(runs(&[stored(1)], &[stored(1), stored(5)]), [(1, 2)], "a longer peer is cut");
        assert_eq!(runs(&[stored(1), stored(2)], &[]), [(0, 2)], "an absent peer gets all");
    }

    #[test]
    fn runs_fit_a_frame() {
        let ours: Vec<_> = (0..150).map(stored).collect();
        assert_eq!(runs(&ours, &[]), [(0, 64), (64, 128), (128, 150)]);
    }
}
