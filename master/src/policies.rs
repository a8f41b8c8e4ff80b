//! Storage policies on the leader: what they say at present, and what was found out of place.

use crate::parts::Parts;
use cairn_core::cluster::Policies;
use cairn_core::cluster::repair::Replicas;
use cairn_core::error::FsError;
use cairn_core::ids::{ChunkId, ServerId};
use cairn_core::limits::MISPLACED_MAX;
use cairn_core::namespace::policies::policies;
use cairn_core::namespace::work::ChunkRecord;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the policies say.
///
/// # Errors
/// This master does not lead, or its state cannot be read.
pub(crate) async fn current(parts: &Parts) -> Result<Policies, FsError> {
    let default_replicas = parts.config.default_replicas;
    parts.reader.read(move |rows| policies(rows, default_replicas)).await
}

/// A chunk as the planner sees it: whose replica is bad, and whose must leave its disk.
pub(crate) fn replicas<'a>(
    record: &'a ChunkRecord,
    (bad, leaving): (&'a [ServerId], &'a [ServerId]),
    policies: &'a Policies,
) -> Replicas<'a> {
    let required = policies.required(record.policy);
    Replicas { set: &record.servers, bad, leaving, wanted: record.wanted, required }
}

/// Chunks that the walk has found out of place, until repair looks at them. In memory only: a new leader's walk finds them again.
#[derive(Default)]
pub(crate) struct Misplaced {
    found: Mutex<BTreeSet<ChunkId>>,
}

impl Misplaced {
    /// Notes chunks, as far as there is room.
    pub(crate) fn note(&self, chunks: impl IntoIterator<Item = ChunkId>) {
        let mut found = self.found();
        let room = MISPLACED_MAX.saturating_sub(found.len());
        found.extend(chunks.into_iter().take(room));
    }

    /// Whether a page of them would not fit any more.
    pub(crate) fn is_full(&self, page: usize) -> bool {
        self.found().len() + page > MISPLACED_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.found().is_empty()
    }

    /// Takes them all.
    pub(crate) fn take(&self) -> Vec<ChunkId> {
        std::mem::take(&mut *self.found()).into_iter().collect()
    }

    fn found(&self) -> MutexGuard<'_, BTreeSet<ChunkId>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
