//! What the cluster has acknowledged, and whether it keeps it.
//!
//! Each life of a client owns a directory: it alone changes it, so what must be there is known exactly, but for the one operation
//! that never answered. Registers and names in a shared directory are used by all; their histories must be linearizable.

use super::hosts::WorldClock;
use super::linear::{NameCall, NameState, Register, RegisterCall, Span, is_linearizable};
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
}

impl Own {
    /// What is wrong with `found`, if anything.
    pub(crate) fn judge(&self, found: &Names) -> Option<String> {
        let all: std::collections::BTreeSet<&String> =
            self.before.keys().chain(self.after.keys()).chain(found.keys()).collect();
        all.into_iter().find_map(|name| {
            let allowed = [self.before.get(name), self.after.get(name)];
            let fits = match found.get(name) {
                None => allowed.contains(&None),
                Some(Kept::Dir) => allowed.contains(&Some(&Kept::Dir)),
                Some(Kept::File(contents)) => file_fits(contents, allowed),
            };
            (!fits).then(|| {
                let show = |kept: Option<&Kept>| match kept {
                    None => "nothing".to_owned(),
                    Some(Kept::Dir) => "a directory".to_owned(),
                    Some(Kept::File(bytes)) => {
                        format!("{} bytes, crc {:08x}", bytes.len(), crc32fast::hash(bytes))
                    }
                };
                format!(
                    "{}/{name}: found {}, acknowledged {}, under way {}",
                    self.path,
                    show(found.get(name)),
                    show(allowed[0]),
                    show(allowed[1])
                )
            })
        })
    }
}

/// Exactly what was acknowledged; or, where something is under way, every byte as before or as after.
fn file_fits(contents: &[u8], allowed: [Option<&Kept>; 2]) -> bool {
    let files: Vec<&[u8]> = allowed
        .iter()
        .filter_map(|kept| match kept {
            Some(Kept::File(bytes)) => Some(&bytes[..]),
            _ => None,
        })
        .collect();
    if files.contains(&contents) {
        return true;
    }
    if allowed[0] == allowed[1] || files.is_empty() {
        return false;
    }
    let longest = files.iter().map(|file| file.len()).max().unwrap_or(0);
    contents.len() <= longest
        && contents.iter().enumerate().all(|(at, byte)| files.iter().any(|file| file.get(at) == Some(byte)))
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
        self.lock().broken.push(what);
    }

    /// What happened when, for the comparison of two runs.
    pub(crate) fn trace(&self, what: &str) {
        let at = self.now();
        let mut record = self.lock();
        let word = u64::from(crc32fast::hash(what.as_bytes())) ^ at;
        record.trace = (record.trace ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
    }

    /// I8 and I16: what all clients saw of the registers and of the names has one order.
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
        for (key, spans) in registers {
            if !is_linearizable(Register(None), &spans) {
                self.break_with(format!("I8: the history of register {key} has no order: {}", show(&spans)));
            }
        }
        for (key, spans) in names {
            if !is_linearizable(NameState(false), &spans) {
                self.break_with(format!("I16: the history of name {key} has no order: {}", show(&spans)));
            }
        }
    }
}

fn show<C: std::fmt::Debug>(spans: &[Span<C>]) -> String {
    let one = |span: &Span<C>| format!("{}..{} {:?}", span.begun, span.ended.unwrap_or(0), span.call);
    spans.iter().map(one).collect::<Vec<_>>().join(", ")
}
