//! The block checksum, made at the client, verified at every hop, at rest and at the reader (I17).
//!
//! CRC-32 (IEEE 802.3, as crc32fast computes it), seeded with chunk id and block index so that bytes stored at, or read
//! from, the wrong place never verify (misdirected writes).

use crate::ids::ChunkId;
use crate::units::BLOCK_BYTES;

/// CRC of `piece`, which lies in block `block_index` of `chunk`. A partial block has a checksum of its own piece.
pub fn block_crc(chunk: ChunkId, block_index: u64, piece: &[u8]) -> u32 {
    debug_assert!(piece.len() as u64 <= BLOCK_BYTES);
    let mut seed = [0u8; 16];
    seed[..8].copy_from_slice(&chunk.get().to_le_bytes());
    seed[8..].copy_from_slice(&block_index.to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seed);
    hasher.update(piece);
    hasher.finalize()
}

/// Checksums of every block piece of `payload`, which starts at `offset` of `chunk`: one entry per touched block.
pub fn payload_crcs(chunk: ChunkId, offset: u64, payload: &[u8]) -> Vec<u32> {
    pieces(offset, payload).map(|(index, piece)| block_crc(chunk, index, piece)).collect()
}

/// Splits `payload` at block boundaries into (block index, piece).
pub fn pieces(offset: u64, payload: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut at = offset;
    let mut rest = payload;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let room = (BLOCK_BYTES - at % BLOCK_BYTES) as usize;
        let (piece, tail) = rest.split_at(room.min(rest.len()));
        let index = at / BLOCK_BYTES;
        at += piece.len() as u64;
        rest = tail;
        Some((index, piece))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_split_at_block_boundaries() {
        let payload = vec![7u8; 9000];
        let cut: Vec<_> = pieces(4000, &payload).map(|(i, p)| (i, p.len())).collect();
        assert_eq!(cut, vec![(0, 96), (1, 4096), (2, 4096), (3, 712)]);
    }

    #[test]
    fn a_block_read_from_the_wrong_place_does_not_verify() {
        let block = [1u8; 4096];
        assert_ne!(block_crc(ChunkId(1), 0, &block), block_crc(ChunkId(2), 0, &block));
        assert_ne!(block_crc(ChunkId(1), 0, &block), block_crc(ChunkId(1), 1, &block));
    }
}
