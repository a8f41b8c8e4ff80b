//! How a read is put together: from memory, from chunks, from nothing.

use crate::ids::ChunkId;
use crate::io::extent_map::{ExtentMap, Stretch};
use crate::limits::FRAME_PAYLOAD_BYTES_MAX;
use crate::units::block_floor;
use bytes::Bytes;

/// One piece of a read, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes that are here: written and not yet acknowledged.
    Memory(Bytes),
    /// Bytes to fetch in one frame: the blocks that they touch fit a frame's payload.
    Chunk {
        /// The chunk.
        chunk: ChunkId,
        /// First byte within it.
        offset: u64,
        /// Bytes.
        length: u32,
    },
    /// That many zeros.
    Hole(u64),
}

/// Plans the read of `from .. to`. `overlay` holds bytes in memory by file offset, in order, not overlapping, within the range.
pub fn plan(from: u64, to: u64, overlay: &[(u64, Bytes)], map: &ExtentMap) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut at = from;
    for (offset, bytes) in overlay {
        below_memory(at, *offset, map, &mut out);
        out.push(Piece::Memory(bytes.clone()));
        at = offset + bytes.len() as u64;
    }
    below_memory(at, to, map, &mut out);
    out
}

fn below_memory(from: u64, to: u64, map: &ExtentMap, out: &mut Vec<Piece>) {
    if from >= to {
        return;
    }
    for stretch in map.stretches(from, to) {
        match stretch {
            Stretch::Hole { length, .. } => out.push(Piece::Hole(length)),
            Stretch::Mapped(extent) => {
                let stop = extent.chunk_offset + extent.length;
                let mut offset = extent.chunk_offset;
                while offset < stop {
                    let room = block_floor(offset) + FRAME_PAYLOAD_BYTES_MAX as u64 - offset;
                    let length = room.min(stop - offset);
                    out.push(Piece::Chunk { chunk: extent.chunk, offset, length: length as u32 });
                    offset += length;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::request::Extent;

    #[test]
    fn memory_wins_and_frames_are_cut_at_blocks() {
        let mut map = ExtentMap::default();
        map.insert(Extent { offset: 0, length: 600_000, chunk: ChunkId(9), chunk_offset: 0 });
        let overlay = vec![(10u64, Bytes::from_static(b"abc"))];
        let pieces = plan(5, 700_000, &overlay, &map);
        assert_eq!(pieces[0], Piece::Chunk { chunk: ChunkId(9), offset: 5, length: 5 });
        assert_eq!(pieces[1], Piece::Memory(Bytes::from_static(b"abc")));
        assert_eq!(pieces[2], Piece::Chunk { chunk: ChunkId(9), offset: 13, length: 262_144 - 13 });
        assert_eq!(pieces[3], Piece::Chunk { chunk: ChunkId(9), offset: 262_144, length: 262_144 });
        assert_eq!(pieces.last(), Some(&Piece::Hole(100_000)));
        let total: u64 = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Memory(bytes) => bytes.len() as u64,
                Piece::Chunk { length, .. } => u64::from(*length),
                Piece::Hole(length) => *length,
            })
            .sum();
        assert_eq!(total, 700_000 - 5);
    }
}
