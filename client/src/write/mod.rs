//! Writing to chunks: a chunk's replicas as one thing that stores and syncs, and the chunks held ready for new data.

mod chunk;
mod pool;
mod unsynced;

pub(crate) use chunk::{ChunkWriter, StoreError};
pub(crate) use pool::ChunkPool;
