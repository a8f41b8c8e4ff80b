//! What the cluster has acknowledged, and whether it keeps it.
//!
//! Each life of a client owns a directory: it alone changes it, so what must be there is known exactly, but for the one operation
//! that never answered. Registers and names in a shared directory are used by all; their histories must be linearizable.

use super::hosts::WorldClock;
use super::invariants::{i08_no_stale_read, i16_names_have_one_history};
use super::linear::{NameCall, RegisterCall, Span};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a name of an own directory leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Dir,
    File(Vec<u8>),
}

/// Names and what they lead to.
pub(crate) type Names = BTreeMap<String, Kept>;

/// An own directory: as acknowledged, and as it is if what is under way has been done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Own {
    pub(crate) path: String,
    pub(crate) before: Names,
    pub(crate) after: Names,
    /// Its making was acknowledged.
    pub(crate) made: bool,
    /// The operation under way has failed for want of the servers that had its unsynced bytes: these read as zeros.
    pub(crate) has_holes: bool,
}

/// A call on something shared.
#[derive(Clone, Debug)]
pub(crate) enum Shared {
    Register(u64, RegisterCall),
    Name(u64, NameCall),
}

/// One call of the history; times in microseconds.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) call: Shared,
    pub(crate) begun: u64,
    pub(crate) ended: Option<u64>,
}

/// Everything that was asked and acknowledged.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) own: Vec<Own>,
    pub(crate) history: Vec<Event>,
    /// Operations acknowledged, in all and since the faults have ended, by client.
    pub(crate) acknowledged: u64,
    pub(crate) calm: BTreeMap<u64, u64>,
    /// Operations that came to an error which says nothing of whether they were done.
    pub(crate) open: u64,
    pub(crate) broken: Vec<String>,
    pub(crate) trace: u64,
}

/// The oracle; clones share it.
#[derive(Clone)]
pub(crate) struct Oracle {
    record: Arc<Mutex<Record>>,
    clock: WorldClock,
}

impl Oracle {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// One that reads this clock.
    pub(crate) fn new(clock: WorldClock) -> Self {
        Self { record: Arc::default(), clock }
    }

    /// Microseconds since the beginning. Two things of one tick are taken to overlap.
    pub(crate) fn now(&self) -> u64 {
        self.clock.micros()
    }

    /// Something must never be, and is.
    pub(crate) fn break_with(&self, what: String) {
        tracing::error!(what, "an invariant is broken");
        self.lock().broken.push(what);
    }

    /// What happened when, for the comparison of two runs.
    pub(crate) fn trace(&self, what: &str) {
        let at = self.now();
        let mut record = self.lock();
        let word = u64::from(crc32fast::hash(what.as_bytes())) ^ at;
        record.trace = (record.trace ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
    }

    /// What all clients saw of the registers and of the names has one order.
    pub(crate) fn judge_histories(&self) {
        let history = self.lock().history.clone();
        let (mut registers, mut names) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for Event { call, begun, ended, .. } in history {
            match call {
                Shared::Register(key, call) => {
                    registers.entry(key).or_default().push(Span { call, begun, ended });
                }
                Shared::Name(key, call) => names.entry(key).or_default().push(Span { call, begun, ended }),
            }
        }
        let registers = registers.iter().filter_map(|(key, spans)| i08_no_stale_read::check(*key, spans));
        let names = names.iter().filter_map(|(key, spans)| i16_names_have_one_history::check(*key, spans));
        registers.chain(names).for_each(|wrong| self.break_with(wrong));
    }
}
