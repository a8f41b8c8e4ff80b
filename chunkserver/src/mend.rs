//! Mending a damaged replica when nobody has a whole one: what does not verify here is taken from peers, block by block.

use crate::hops::{Hops, Purpose};
use crate::store::{BadBlock, ChunkStore, StoreError};
use bytes::Bytes;
use cairn_core::checksum::block_crc;
use cairn_core::cluster::pace::Haste;
use cairn_core::ids::{ChunkId, ChunkVersion, PartId, RequestId};
use cairn_core::limits::{HOP_WAIT_MAX, REPLICAS_MAX};
use cairn_core::units::BLOCK_BYTES;
use cairn_proto::frame::{Frame, Header, Op, Status};
use std::sync::Arc;
use tracing::info;

const PART: PartId = PartId(0);

/// Mends replicas of this server.
pub(crate) struct Mender {
    store: ChunkStore,
    hops: Arc<Hops>,
}

impl Mender {
    pub(crate) fn new(store: ChunkStore, hops: Arc<Hops>) -> Self {
        Self { store, hops }
    }

    /// Makes every block verify again; what could be mended stays mended when another could not.
    ///
    /// # Errors
    /// `Corrupt` when nobody has some block, or the replica's own table is lost.
    pub(crate) async fn run(
        &self,
        chunk: ChunkId,
        version: ChunkVersion,
        peers: &[String],
    ) -> Result<(), StoreError> {
        if peers.len() > REPLICAS_MAX {
            return Err(StoreError::BadRequest("too many peers"));
        }
        let look = self.store.bad_blocks(chunk, PART, version);
        let bad = self.store.portion((chunk, PART), Some(Haste::Last), 0, look).await?;
        info!(%chunk, %version, blocks = bad.len(), "mending what does not verify");
        for one in bad {
            if let Some(bytes) = self.fetch((chunk, version), one, peers).await {
                self.store.mend_block(chunk, PART, version, (one.block, bytes)).await?;
            }
        }
        self.store.declare_sound(chunk, PART, version).await
    }

    /// The block as it should be: memory may still have it, or a peer.
    async fn fetch(&self, at: (ChunkId, ChunkVersion), bad: BadBlock, peers: &[String]) -> Option<Bytes> {
        let (chunk, version) = at;
        let offset = u64::from(bad.block) * BLOCK_BYTES;
        let is_it = |bytes: &Bytes| block_crc(chunk, u64::from(bad.block), bytes) == bad.crc;
        let own = self.store.read(chunk, PART, version, offset, BLOCK_BYTES as u32).await;
        if let Some(bytes) = own.ok().map(|blocks| blocks.payload).filter(is_it) {
            return Some(bytes);
        }
        for peer in peers {
            if let Some(bytes) = self.ask(peer, at, offset).await.filter(is_it) {
                return Some(bytes);
            }
        }
        None
    }

    async fn ask(&self, peer: &str, (chunk, version): (ChunkId, ChunkVersion), offset: u64) -> Option<Bytes> {
        let connection = self.hops.get(peer, Purpose::Repair, chunk).await.ok()?;
        let mut header = Header::request(Op::Read, RequestId(0));
        (header.chunk, header.version, header.part) = (chunk, version, PART);
        (header.offset, header.length) = (offset, BLOCK_BYTES as u32);
        let reply = tokio::time::timeout(HOP_WAIT_MAX, connection.call(Frame::bare(header))).await;
        let reply = reply.ok()?.ok()?;
        (reply.header.status == Status::Ok && reply.payload.len() as u64 == BLOCK_BYTES)
            .then_some(reply.payload)
    }
}
