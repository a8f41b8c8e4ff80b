//! Deleted rows that scans step over.
//!
//! RocksDB keeps a deleted row as a mark until a compaction drops it. Where thousands of rows came and went (extents of a
//! file written at random offsets, names of a spool directory) each scan pays for every mark, on the sequencer's thread.
//! A scan that stepped over many therefore asks for a flush, and tables dense with marks are compacted at once.

use rocksdb::perf::{PerfContext, PerfMetric, PerfStatsLevel, set_perf_stats};
use rocksdb::{DB, FlushOptions, Options};

/// A scan over more rows than these that are not there any more (some 0.1 ms) asks for a flush, if at least as many
/// deletions would leave memory by it: hence at most one flush in that many deletions.
pub(super) const HIDDEN_ROWS_MAX: u64 = 2048;
/// A table with this many deletions among as many consecutive rows is compacted without waiting for others.
const DENSE: (usize, usize) = (1024, 2048);

/// Counts what one scan of this thread steps over.
pub(super) struct Hidden {
    context: PerfContext,
    before: u64,
}

fn stepped_over(context: &PerfContext) -> u64 {
    context.metric(PerfMetric::InternalDeleteSkippedCount)
        + context.metric(PerfMetric::InternalKeySkippedCount)
}

impl Hidden {
    pub(super) fn watch() -> Self {
        // Per thread, and nothing but a store to thread-local memory.
        set_perf_stats(PerfStatsLevel::EnableCount);
        let context = PerfContext::default();
        let before = stepped_over(&context);
        Self { context, before }
    }

    /// Rows stepped over since.
    pub(super) fn rows(&self) -> u64 {
        stepped_over(&self.context).saturating_sub(self.before)
    }

    /// The scan is over.
    pub(super) fn settle(&self, db: &DB) {
        if self.rows() <= HIDDEN_ROWS_MAX {
            return;
        }
        let property = |name: &str| db.property_int_value(name).ok().flatten().unwrap_or(0);
        let under_way = property("rocksdb.num-immutable-mem-table") > 0;
        if under_way || property("rocksdb.num-deletes-active-mem-table") <= HIDDEN_ROWS_MAX {
            return;
        }
        let mut options = FlushOptions::default();
        options.set_wait(false);
        // A failed flush is found by the next write; a store opened for reading only has nothing to flush.
        if let Err(error) = db.flush_opt(&options) {
            tracing::debug!(%error, "a flush asked for by a scan was refused");
        }
    }
}

/// Tables dense with marks are compacted at once.
pub(super) fn compact_dense(options: &mut Options) {
    let (deletions, rows) = DENSE;
    options.add_compact_on_deletion_collector_factory(rows, deletions, 0.0);
}
