//! I12: a bit that turned in synced bytes of the journal is found by the next start, and a member calls its journal damaged only if
//! it is.

use std::collections::BTreeSet;

/// Whose journals have been damaged on purpose.
#[derive(Default)]
pub(in crate::core_sim) struct Damage {
    rotten: BTreeSet<u64>,
}

impl Damage {
    pub(super) fn done(&mut self, id: u64) {
        self.rotten.insert(id);
    }

    pub(super) fn is_done(&self, id: u64) -> bool {
        self.rotten.contains(&id)
    }

    pub(super) fn gone(&mut self, id: u64) {
        self.rotten.remove(&id);
    }

    /// A member goes on with what its disk has.
    pub(super) fn started(&self, seed: u64, id: u64) {
        assert!(!self.rotten.contains(&id), "seed {seed}: I12: master {id} goes on with a damaged journal");
    }

    pub(super) fn found(&mut self, seed: u64, id: u64) {
        assert!(self.rotten.remove(&id), "seed {seed}: I12: master {id} finds damage that nobody did");
    }
}
