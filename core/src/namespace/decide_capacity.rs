//! The master's own command that notes how full the cluster is, and drops samples that are outdated.

use super::act::Act;
use super::machine::Stop;
use super::rows::capacity::{CapacityKey, CapacityRow};
use super::rows::prefix_range;
use super::work::totals_in;
use crate::explain::capacity::{hour_of, outdated};
use crate::limits::CAPACITY_SAMPLES_MAX;

/// `Internal::NoteCapacity`: the first sample of an hour stays.
pub(super) fn note(act: &mut Act<'_>, total_bytes: u64, used_bytes: u64) -> Result<(), Stop> {
    let now = hour_of(act.now().seconds);
    let found = act.draft.scan::<CapacityKey>(&prefix_range::<CapacityKey>(&[]), CAPACITY_SAMPLES_MAX)?;
    let hours: Vec<u32> = found.into_iter().map(|(CapacityKey(hour), _)| hour).collect();
    for hour in outdated(&hours, now) {
        act.draft.delete(&CapacityKey(hour));
    }
    if !hours.contains(&now) {
        let totals = totals_in(&act.draft)?;
        let row = CapacityRow {
            total_bytes,
            used_bytes: used_bytes.min(total_bytes),
            chunks: totals.chunks,
            inodes: totals.inodes,
        };
        act.draft.put(&CapacityKey(now), &row);
    }
    Ok(())
}
