//! Notes once an hour how full the cluster is. A row, so that a new leader knows what its predecessors have seen.

use crate::parts::Parts;
use cairn_core::cluster::{ClusterView, ServerHealth};
use cairn_core::explain::capacity::hour_of;
use cairn_core::ids::Term;
use cairn_core::namespace::internal::Internal;
use cairn_core::namespace::work::capacity;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::info;

/// The hour that was noted last, as far as this lead knows.
#[derive(Default)]
pub(crate) struct Noted {
    last: Mutex<Option<(Term, u32)>>,
}

/// Notes it, if nobody has in this hour.
pub(crate) async fn pass(parts: Arc<Parts>, term: Term, noted: Arc<Noted>) {
    let hour = hour_of(parts.env.clock.wall().seconds);
    let known = *noted.last.lock().unwrap_or_else(PoisonError::into_inner);
    if known.is_some_and(|(of, last)| of == term && last >= hour) {
        return;
    }
    let view = parts.servers.view(parts.now());
    // A leader that has just begun has not heard everybody: what it saw would look like a loss of disks.
    let is_settled = view.servers.values().all(|server| server.health != ServerHealth::Down);
    let (total_bytes, used_bytes) = use_of(&view);
    if !is_settled || total_bytes == 0 {
        return;
    }
    let last = match parts.reader.read(capacity).await {
        Ok(samples) => samples.last().map(|sample| sample.hour),
        Err(error) => return info!(%error, "the history of capacity could not be read"),
    };
    if last.is_none_or(|last| last < hour)
        && let Err(error) = parts.sequencer.internal(Internal::NoteCapacity { total_bytes, used_bytes }).await
    {
        return info!(%error, "capacity could not be noted yet");
    }
    *noted.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((term, hour));
}

/// Bytes of all disks of servers that are there, and how many of them are not free.
pub(crate) fn use_of(view: &ClusterView) -> (u64, u64) {
    let there = || view.servers.values().filter(|server| server.health.is_reachable());
    let total = there().map(|server| server.total_bytes).fold(0, u64::saturating_add);
    let free = there().map(|server| server.free_bytes).fold(0, u64::saturating_add);
    (total, total.saturating_sub(free))
}
