//! Where the chunks of a file are, as far as was told.
//!
//! Invariant: what is believed of a chunk never goes back to an older version. A map that was asked for before its set was
//! replaced may arrive, or be remembered, after bytes were acknowledged by the new set. A server that has left the set and
//! not yet deleted its replica would still answer a read of the old version, and for these bytes with zeros.

use cairn_core::ids::ChunkId;
use cairn_core::namespace::answer::ChunkLocation;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See above.
#[derive(Default)]
pub(super) struct Places {
    known: BTreeMap<ChunkId, Arc<ChunkLocation>>,
}

impl Places {
    /// Where a chunk is.
    pub(super) fn get(&self, chunk: &ChunkId) -> Option<&Arc<ChunkLocation>> {
        self.known.get(chunk)
    }

    /// Takes over what was told, unless more is known.
    pub(super) fn learn(&mut self, told: ChunkLocation) {
        if self.known.get(&told.chunk).is_none_or(|known| known.version <= told.version) {
            self.known.insert(told.chunk, Arc::new(told));
        }
    }

    /// Nothing is known any more.
    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_core::ids::ChunkVersion;

    fn location(version: u64, minimum: u8) -> ChunkLocation {
        let version = ChunkVersion(version);
        ChunkLocation { chunk: ChunkId(7), version, minimum, write_leased: false, replicas: Vec::new() }
    }

    #[test]
    fn a_place_never_goes_back_to_an_older_version() {
        let mut places = Places::default();
        places.learn(location(1, 2));
        places.learn(location(2, 2));
        places.learn(location(1, 2));
        assert_eq!(**places.get(&ChunkId(7)).unwrap(), location(2, 2));
        places.learn(location(2, 1));
        assert_eq!(places.get(&ChunkId(7)).unwrap().minimum, 1, "the same version may be told anew");
        places.clear();
        places.learn(location(1, 2));
        assert_eq!(**places.get(&ChunkId(7)).unwrap(), location(1, 2));
    }
}
