//! The one writer of each chunk.
//!
//! A writer knows in which run of each server bytes were stored that no sync has covered yet. Another writer of the same chunk
//! would not, and its sync would succeed although they are lost: so whoever goes on with a chunk goes on with its writer,
//! as long as anything of that is left.

use crate::write::ChunkWriter;
use cairn_core::ids::{ChunkId, ChunkVersion};
use cairn_core::namespace::answer::ChunkLocation;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Writers that have sent something, until nobody needs them any more.
#[derive(Default)]
pub(super) struct Writers(BTreeMap<ChunkId, Arc<ChunkWriter>>);

impl Writers {
    /// Something is about to be sent by it.
    pub(super) fn note(&mut self, writer: &Arc<ChunkWriter>) {
        if !self.has(writer) {
            self.0.insert(writer.chunk, writer.clone());
        }
    }

    /// Whether it is the writer of its chunk.
    pub(super) fn has(&self, writer: &Arc<ChunkWriter>) -> bool {
        self.0.get(&writer.chunk).is_some_and(|known| Arc::ptr_eq(known, writer))
    }

    /// The writer of a chunk, if there is one.
    pub(super) fn of(&self, chunk: ChunkId) -> Option<Arc<ChunkWriter>> {
        self.0.get(&chunk).cloned()
    }

    /// Where their chunks are, if `is_news` says so of chunk and version.
    pub(super) fn news(&self, is_news: impl Fn(ChunkId, ChunkVersion) -> bool) -> Vec<ChunkLocation> {
        let news = self.0.values().filter(|writer| is_news(writer.chunk, writer.version()));
        news.map(|writer| writer.location()).collect()
    }

    /// These chunks belong to the file now. `pending`: chunks whose bytes do not yet.
    pub(super) fn attached(&mut self, chunks: &BTreeSet<ChunkId>, pending: &BTreeSet<ChunkId>) {
        chunks.iter().filter_map(|chunk| self.0.get(chunk)).for_each(|writer| writer.set_attached());
        // One that nobody else holds has nothing under way and nothing to sync.
        self.0.retain(|chunk, writer| Arc::strong_count(writer) > 1 || pending.contains(chunk));
    }

    /// What it has not made durable is lost, and that was told: the chunk may have another writer.
    pub(super) fn forget(&mut self, chunk: ChunkId) {
        self.0.remove(&chunk);
    }

    /// The lease under which they wrote is gone.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(chunk: u64) -> Arc<ChunkWriter> {
        Arc::new(ChunkWriter::fresh(ChunkLocation {
            chunk: ChunkId(chunk),
            version: ChunkVersion(1),
            replicas: Vec::new(),
            minimum: 1,
            write_leased: false,
        }))
    }

    #[test]
    fn a_chunk_has_one_writer_while_anything_of_it_is_left() {
        let mut writers = Writers::default();
        let first = writer(7);
        writers.note(&first);
        writers.note(&writer(8));
        writers.attached(&BTreeSet::new(), &BTreeSet::from([ChunkId(8)]));
        assert!(writers.has(&first), "somebody holds it");
        assert!(writers.of(ChunkId(8)).is_some(), "bytes of its chunk are not recorded");
        writers.attached(&BTreeSet::from([ChunkId(7), ChunkId(8)]), &BTreeSet::new());
        assert!(first.is_attached());
        assert!(writers.of(ChunkId(8)).is_none(), "nobody needs it");
        writers.forget(ChunkId(7));
        assert!(!writers.has(&first), "what it sends and does not sync must be sent again");
        let second = writer(7);
        writers.note(&second);
        assert!(writers.has(&second) && !writers.has(&first));
    }
}
