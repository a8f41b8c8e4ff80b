//! Sizes that formats and protocols share.

/// Bytes of one checksummed block: a page, so that a page-sized write never reads first.
pub const BLOCK_BYTES: u64 = 4096;
/// Most bytes in one chunk.
pub const CHUNK_BYTES: u64 = 64 << 20;
/// Blocks of a full chunk.
pub const BLOCKS_PER_CHUNK: u64 = CHUNK_BYTES / BLOCK_BYTES;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(BLOCK_BYTES));

/// Start of the block that holds `offset`.
pub const fn block_floor(offset: u64) -> u64 {
    offset - offset % BLOCK_BYTES
}

/// First block boundary at or beyond `offset`.
pub const fn block_ceil(offset: u64) -> u64 {
    offset.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

/// Number of blocks that the bytes `offset .. offset + length` touch.
pub const fn blocks_touched(offset: u64, length: u64) -> u64 {
    if length == 0 { 0 } else { (block_ceil(offset + length) - block_floor(offset)) / BLOCK_BYTES }
}
