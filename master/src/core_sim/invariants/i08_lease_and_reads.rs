//! I8: who holds the read lease is not led by another; what is read is not older than what was acknowledged before.

use crate::core_sim::canon::Canon;
use crate::core_sim::member::Member;
use bytes::Bytes;
use cairn_core::error::FsError;
use cairn_core::ids::InodeId;
use cairn_core::namespace::answer::Answer;
use cairn_core::namespace::attr::Attr;
use cairn_core::namespace::request::QueryKind;
use cairn_core::namespace::rows::inode::{InodeKey, InodeRow};
use cairn_core::namespace::rows::names::{DentryKey, DentryRow};
use cairn_core::namespace::rows::{Key, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// Returns how many leases were looked at.
pub(super) fn check_leases(seed: u64, members: &[Member]) -> u64 {
    let mut seen = 0;
    for member in members {
        let Some(process) = &member.process else { continue };
        let group = process.stepped.group();
        if !group.leads() || !process.stepped.holds_lease(member.now()) {
            continue;
        }
        seen += 1;
        for other in members {
            let Some(process) = &other.process else { continue };
            let later = process.stepped.group();
            assert!(
                !(later.leads() && later.term() > group.term()),
                "seed {seed}: I8: master {} holds the read lease of {} while {} leads in {}",
                member.id,
                group.term(),
                other.id,
                later.term()
            );
        }
    }
    seen
}

/// What clients have heard of each row, and when: the last entry that wrote it and was acknowledged to somebody, or read.
///
/// It is counted row by row, not along the log: of two changes the later one may be acknowledged first, if somebody who believes
/// what was before the other one has yet to be told.
#[derive(Default)]
pub(in crate::core_sim) struct Heard {
    rows: BTreeMap<Bytes, Vec<(Duration, u64)>>,
}

impl Heard {
    pub(super) fn note(&mut self, key: Bytes, index: u64, now: Duration) {
        let heard = self.rows.entry(key).or_default();
        if heard.last().is_none_or(|(_, before)| *before < index) {
            heard.push((now, index));
        }
    }

    /// The entry of which somebody had heard at `then`.
    fn at(&self, key: &[u8], then: Duration) -> u64 {
        let heard = self.rows.get(key).map_or(&[][..], Vec::as_slice);
        let known = heard.partition_point(|(when, _)| *when <= then);
        known.checked_sub(1).map_or(0, |last| heard[last].1)
    }

    /// What was read is what stood at some moment since the last entry of which anybody had heard when it was asked, `then`.
    /// Nobody may read anything older from now on.
    pub(super) fn check_read(
        &mut self,
        seed: u64,
        (asked, outcome): (&QueryKind, &Result<Answer, FsError>),
        (then, now): (Duration, Duration),
        canon: &Canon,
    ) {
        let mut check = |key: Bytes, is_it: &dyn Fn(Option<&Bytes>) -> bool| {
            let known = self.at(&key, then);
            let versions = canon.versions_since(&key, known);
            let Some((index, _)) = versions.iter().find(|(_, value)| is_it(value.as_ref())) else {
                panic!("seed {seed}: I8: {asked:?} is answered {outcome:?}: that was before entry {known}")
            };
            self.note(key, *index, now);
        };
        if let (QueryKind::Lookup { parent, name }, Ok(_) | Err(FsError::NotFound)) = (asked, outcome) {
            let (key, leads_to) = (DentryKey { parent: *parent, name: name.clone() }, entry_inode(outcome));
            let inode_in = |value: Option<&Bytes>| value.map(|value| DentryRow::decode(value).unwrap().inode);
            check(key.encode(), &|value| inode_in(value) == leads_to);
        }
        if let Ok(Answer::Entry { attr, .. } | Answer::Attr(attr)) = outcome {
            let key = InodeKey(attr.inode);
            check(key.encode(), &|value| attr_in(key, value).as_ref() == Some(attr));
        }
    }
}

fn entry_inode(outcome: &Result<Answer, FsError>) -> Option<InodeId> {
    match outcome {
        Ok(Answer::Entry { attr, .. }) => Some(attr.inode),
        _ => None,
    }
}

fn attr_in(key: InodeKey, value: Option<&Bytes>) -> Option<Attr> {
    let mut row = InodeRow::decode(value?).ok()?;
    key.complete(&mut row);
    Some(row.attr())
}
