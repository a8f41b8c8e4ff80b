//! Bytes of a chunk that are perhaps stored, and not known to be durable: which runs of its servers have taken them.
//!
//! Invariant: as long as a byte that was acknowledged waits for a sync, the run in which each server took it is known, so that a
//! server that has begun another one since is not believed when it says that it has synced.

use cairn_core::ids::ServerId;
use std::collections::{BTreeMap, BTreeSet};

/// See above.
#[derive(Default)]
pub(super) struct Unsynced {
    /// The run of each replica's server that has taken them.
    pub(super) runs: BTreeMap<ServerId, u64>,
    /// Servers that have begun another run since: their replicas may lack some of the bytes, for good.
    pub(super) restarted: BTreeSet<ServerId>,
    /// Only a sync makes them durable.
    wants_sync: bool,
    /// Writes begun so far.
    begun: u64,
    /// Writes under way.
    under_way: usize,
    /// Of these, the ones that make their own bytes durable.
    durable_writes: usize,
}

/// What a sync covers: the writes that had ended when it began.
pub(super) struct Covered {
    begun: u64,
    all_had_ended: bool,
}

impl Unsynced {
    /// A write is about to be sent. `is_durable`: its answer says that its bytes are.
    pub(super) fn write_begins(&mut self, is_durable: bool) {
        self.begun += 1;
        self.under_way += 1;
        self.durable_writes += usize::from(is_durable);
        self.wants_sync |= !is_durable;
    }

    /// It has ended, well or not.
    pub(super) fn write_ends(&mut self, is_durable: bool, is_stored: bool) {
        self.under_way -= 1;
        if is_durable {
            self.durable_writes -= 1;
            self.wants_sync |= !is_stored;
            if self.durable_writes == 0 && !self.wants_sync {
                self.forget();
            }
        }
    }

    /// A sync is about to be sent.
    pub(super) fn sync_begins(&self) -> Covered {
        Covered { begun: self.begun, all_had_ended: self.under_way == 0 }
    }

    /// It has succeeded. What was written meanwhile is not covered: the runs that took it must stay known.
    pub(super) fn synced(&mut self, covered: &Covered) {
        if covered.all_had_ended && covered.begun == self.begun {
            self.forget();
            self.wants_sync = false;
        }
    }

    /// Everything is durable.
    fn forget(&mut self) {
        self.runs.clear();
        self.restarted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerId = ServerId(1);

    fn written() -> Unsynced {
        let mut unsynced = Unsynced::default();
        unsynced.write_begins(false);
        unsynced.runs.insert(SERVER, 7);
        unsynced.write_ends(false, true);
        unsynced
    }

    #[test]
    fn a_sync_covers_what_had_ended_before_it() {
        let mut unsynced = written();
        let covered = unsynced.sync_begins();
        unsynced.synced(&covered);
        assert!(unsynced.runs.is_empty());
    }

    #[test]
    fn what_is_written_during_a_sync_is_not_covered_by_it() {
        let mut unsynced = written();
        let covered = unsynced.sync_begins();
        unsynced.write_begins(false);
        unsynced.write_ends(false, true);
        unsynced.synced(&covered);
        assert_eq!(unsynced.runs.get(&SERVER), Some(&7), "a server that restarts now is to be found out");
        let covered = unsynced.sync_begins();
        unsynced.synced(&covered);
        assert!(unsynced.runs.is_empty(), "the next one covers it");
    }

    #[test]
    fn what_is_under_way_when_a_sync_begins_is_not_covered_by_it() {
        let mut unsynced = written();
        unsynced.write_begins(false);
        let covered = unsynced.sync_begins();
        unsynced.write_ends(false, true);
        unsynced.synced(&covered);
        assert!(!unsynced.runs.is_empty());
        // A durable write does not cover it either.
        unsynced.write_begins(true);
        unsynced.write_ends(true, true);
        assert!(!unsynced.runs.is_empty());
    }

    #[test]
    fn durable_writes_alone_need_no_sync() {
        let mut unsynced = Unsynced::default();
        unsynced.write_begins(true);
        unsynced.runs.insert(SERVER, 7);
        unsynced.write_ends(true, true);
        assert!(unsynced.runs.is_empty());
        unsynced.write_begins(true);
        unsynced.runs.insert(SERVER, 7);
        unsynced.write_ends(true, false);
        assert!(!unsynced.runs.is_empty(), "it may be stored all the same");
    }
}
