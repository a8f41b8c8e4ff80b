//! The sequencer's counters; the shell gives them names for Prometheus.

use cairn_env::metrics::Spans;
use std::sync::atomic::AtomicU64;

/// Monotonic counters and present values, written by the owner thread with relaxed ordering.
#[derive(Debug, Default)]
pub struct SequencerMetrics {
    /// Records proposed to the journal.
    pub proposals: AtomicU64,
    /// Requests refused without writing.
    pub refusals: AtomicU64,
    /// Retries answered from their slot.
    pub replays: AtomicU64,
    /// Journal batches written.
    pub batches: AtomicU64,
    /// Calls of fdatasync on the journal.
    pub fdatasyncs: AtomicU64,
    /// Nanoseconds spent in write and fdatasync of the journal.
    pub journal_nanos: AtomicU64,
    /// Each batch of the journal: its write and fdatasync.
    pub journal_spans: Spans,
    /// Bytes appended to the journal, padding included.
    pub journal_bytes: AtomicU64,
    /// Records applied to the state.
    pub applied: AtomicU64,
    /// Nanoseconds spent applying.
    pub apply_nanos: AtomicU64,
    /// Present length of the queue.
    pub queue_length: AtomicU64,
    /// Requests refused because the queue was full.
    pub overloads: AtomicU64,
    /// Decisions that had to wait for rows to be loaded from the disk.
    pub loads: AtomicU64,
    /// Checkpoints made.
    pub checkpoints: AtomicU64,
    /// 1 while the disk of the data directory is nearly full and operations that grow the state are refused.
    pub disk_low: AtomicU64,
    /// Highest index known to be committed.
    pub commit_index: AtomicU64,
    /// Highest index applied.
    pub applied_index: AtomicU64,
}
