//! Sizes that tests shrink; everybody else takes the limits.

use cairn_core::limits::{
    INTENT_BATCH_BYTES_MAX, INTENT_RESERVE_BYTES, INTENT_SEGMENT_BYTES, INTENT_SEGMENTS, OPEN_REPLICAS_MAX,
    WRITE_BACK_PORTION,
};

/// Sizes of a store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Bytes of a journal segment.
    pub(super) segment_bytes: u64,
    /// Segments.
    pub(super) segments: u64,
    /// Bytes of a batch; a record must fit.
    pub(super) batch_bytes: usize,
    /// Journal bytes kept for commands.
    pub(super) reserve_bytes: u64,
    /// Replica files open at once.
    pub(super) open_replicas: usize,
    /// Blocks of a replica that a write-back writes in one go.
    pub(super) portion_blocks: usize,
    /// Whether time-driven work runs by itself.
    pub(super) upkeep: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment_bytes: INTENT_SEGMENT_BYTES,
            segments: INTENT_SEGMENTS,
            batch_bytes: INTENT_BATCH_BYTES_MAX,
            reserve_bytes: INTENT_RESERVE_BYTES,
            open_replicas: OPEN_REPLICAS_MAX,
            portion_blocks: WRITE_BACK_PORTION,
            upkeep: true,
        }
    }
}
