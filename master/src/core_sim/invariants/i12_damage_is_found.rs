//! I12: a bit that turned in the journal is never taken for the truth: what it holds is compared by I7 and I11; a member calls its
//! journal damaged only if it is.

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

    /// It may stand where nothing is read any more: then the member goes on.
    pub(super) fn started(&mut self, _: u64) {}

    pub(super) fn found(&mut self, seed: u64, id: u64) {
        assert!(self.rotten.remove(&id), "seed {seed}: I12: master {id} finds damage that nobody did");
    }
}
