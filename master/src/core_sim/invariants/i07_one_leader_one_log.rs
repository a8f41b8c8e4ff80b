//! I7: one leader a term; what is committed is the same on every member, now and after every start.

use crate::core_sim::canon::Canon;
use crate::core_sim::member::Member;
use crate::sequencer::stepped::Stepped;
use cairn_core::ids::LogIndex;
use cairn_core::journal::entry::EntryData;
use std::collections::BTreeMap;

/// Who led each term.
#[derive(Default)]
pub(in crate::core_sim) struct Leaders {
    of_term: BTreeMap<u64, u64>,
}

impl Leaders {
    pub(super) fn check(&mut self, seed: u64, members: &[Member]) {
        for member in members {
            let Some(process) = &member.process else { continue };
            let group = process.stepped.group();
            if group.leads() {
                let known = *self.of_term.entry(group.term().get()).or_insert(member.id);
                assert_eq!(known, member.id, "seed {seed}: I7: two leaders in {}", group.term());
            }
        }
    }
}

/// What a member has applied is what the first to apply it has, entry by entry; what nobody applied before becomes the truth.
pub(super) fn check_log(
    seed: u64,
    id: u64,
    stepped: &Stepped,
    canon: &mut Canon,
    mut extended: impl FnMut(&EntryData, &Canon),
) {
    let applied = stepped.applied();
    let last = applied.last.index.get();
    if last > canon.last() {
        let (low, high) = (LogIndex(canon.last() + 1), LogIndex(last + 1));
        let entries = stepped.group().journal().entries(low, high, u64::MAX);
        let entries =
            entries.unwrap_or_else(|error| panic!("seed {seed}: master {id} lacks what it applied: {error}"));
        for entry in &entries {
            match canon.extend(entry) {
                Ok(Some(data)) => extended(&data, canon),
                Ok(None) => {}
                Err(error) => panic!("seed {seed}: entry {}: {error}", entry.id.index.get()),
            }
        }
    }
    let hash = canon.hash_at(last);
    assert_eq!(hash, Some(applied.hash), "seed {seed}: I7: master {id} has applied another entry {last}");
}

/// What a member has applied before its start is still what was committed.
pub(super) fn check_start(seed: u64, id: u64, stepped: &Stepped, canon: &Canon) {
    let applied = stepped.applied();
    if let Some(hash) = canon.hash_at(applied.last.index.get()) {
        assert_eq!(hash, applied.hash, "seed {seed}: I7: master {id} comes back with another history");
    }
}
