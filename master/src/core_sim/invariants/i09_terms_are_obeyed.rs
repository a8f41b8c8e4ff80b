//! I9: a chunk server that has obeyed a term never obeys a lower one, whatever crashes in between.

use cairn_core::ids::Term;
use std::collections::BTreeMap;

/// The highest term that each server has obeyed.
#[derive(Default)]
pub(in crate::core_sim) struct Terms {
    obeyed: BTreeMap<u64, Term>,
}

impl Terms {
    pub(super) fn check(&mut self, seed: u64, server: u64, term: Term) {
        let before = self.obeyed.insert(server, term).unwrap_or_default();
        assert!(term >= before, "seed {seed}: I9: chunk server {server} obeys {term} after {before}");
    }
}
