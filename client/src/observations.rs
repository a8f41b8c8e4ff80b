//! What this client meets at chunk servers, for the master: told with the next renewal, hence every half second at most.

use cairn_core::ids::ChunkId;
use cairn_core::limits::OBSERVATIONS_PER_RENEWAL_MAX;
use cairn_proto::v1::{Observation, ObservationKind};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What waits to be told.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    /// By server and kind; of damage the chunk as well. The latest word is enough.
    seen: Mutex<BTreeSet<(String, i32, u64)>>,
}

impl Observations {
    /// Notes what was met at the server at `address`. When there is no room it is dropped: it will be met again.
    pub(crate) fn note(&self, address: &str, kind: ObservationKind, chunk: ChunkId) {
        let chunk = if kind == ObservationKind::ObservedCorrupt { chunk.get() } else { 0 };
        let mut seen = self.seen();
        if seen.len() < OBSERVATIONS_PER_RENEWAL_MAX {
            seen.insert((address.to_owned(), kind.into(), chunk));
        }
    }

    /// Takes what is to be told.
    pub(crate) fn take(&self) -> Vec<Observation> {
        let seen = std::mem::take(&mut *self.seen());
        seen.into_iter().map(|(address, kind, chunk)| Observation { address, kind, chunk }).collect()
    }

    fn seen(&self) -> MutexGuard<'_, BTreeSet<(String, i32, u64)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_and_no_more_than_fits() {
        let observations = Observations::default();
        for chunk in 0..100 {
            observations.note("host:1", ObservationKind::ObservedSlow, ChunkId(chunk));
        }
        assert_eq!(observations.take().len(), 1);
        for chunk in 0..100 {
            observations.note("host:1", ObservationKind::ObservedCorrupt, ChunkId(chunk));
        }
        assert_eq!(observations.take().len(), OBSERVATIONS_PER_RENEWAL_MAX);
        assert_eq!(observations.take(), []);
    }
}
