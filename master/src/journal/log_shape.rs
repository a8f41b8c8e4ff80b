//! What the journal holds, as Raft asks for it: first and last entry, terms, and the newest entries themselves.

use super::LogEntry;
use cairn_core::ids::{LogIndex, Term};
use cairn_core::journal::frame::LogId;
use std::collections::VecDeque;

/// Bytes that an entry is reckoned at beside its data.
const ENTRY_OVERHEAD: usize = 64;

#[derive(Debug)]
pub(super) struct LogShape {
    /// The entry before the first one held.
    before: LogId,
    last: LogId,
    /// (first index, term), ascending, starting after `before`.
    runs: Vec<(LogIndex, Term)>,
    cache: VecDeque<LogEntry>,
    cached_bytes: usize,
    cache_limit: usize,
}

impl LogShape {
    pub(super) fn new(before: LogId, cache_limit: usize) -> Self {
        Self { before, last: before, runs: Vec::new(), cache: VecDeque::new(), cached_bytes: 0, cache_limit }
    }

    pub(super) fn before(&self) -> LogId {
        self.before
    }

    pub(super) fn last(&self) -> LogId {
        self.last
    }

    /// The term of an entry held, or of the one before the first.
    pub(super) fn term(&self, index: LogIndex) -> Option<Term> {
        if index == self.before.index {
            return Some(self.before.term);
        }
        if index < self.before.index || index > self.last.index {
            return None;
        }
        self.runs.partition_point(|&(first, _)| first <= index).checked_sub(1).map(|at| self.runs[at].1)
    }

    /// Notes an entry that follows the last one, without keeping it.
    pub(super) fn note(&mut self, id: LogId) {
        debug_assert_eq!(id.index.get(), self.last.index.get() + 1, "entries follow each other");
        if self.runs.last().is_none_or(|&(_, term)| term != id.term) {
            self.runs.push((id.index, id.term));
        }
        self.last = id;
    }

    /// Adds an entry that follows the last one.
    pub(super) fn push(&mut self, entry: LogEntry) {
        self.note(entry.id);
        self.cached_bytes += entry.data.len() + ENTRY_OVERHEAD;
        self.cache.push_back(entry);
        while self.cached_bytes > self.cache_limit && self.cache.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Entries after `last` are void.
    pub(super) fn truncate(&mut self, last: LogIndex) {
        if last >= self.last.index {
            return;
        }
        let term = self.term(last).unwrap_or(self.before.term);
        while self.cache.back().is_some_and(|entry| entry.id.index > last) {
            let entry = self.cache.pop_back();
            self.cached_bytes -= entry.map_or(0, |entry| entry.data.len() + ENTRY_OVERHEAD);
        }
        while self.runs.last().is_some_and(|&(first, _)| first > last) {
            self.runs.pop();
        }
        self.last = LogId { index: last, term };
    }

    /// All entries are void; the log goes on after `last`.
    pub(super) fn reset(&mut self, last: LogId) {
        *self = Self::new(last, self.cache_limit);
    }

    /// Entries up to `before` are no longer held.
    pub(super) fn trim(&mut self, before: LogId) {
        if before.index <= self.before.index {
            return;
        }
        let term_after = self.term(LogIndex(before.index.get() + 1));
        let kept = self.runs.partition_point(|&(first, _)| first <= before.index);
        self.runs.drain(..kept);
        if let Some(term) = term_after {
            let first = LogIndex(before.index.get() + 1);
            if self.runs.first().is_none_or(|&(at, _)| at > first) {
                self.runs.insert(0, (first, term));
            }
        }
        while self.cache.front().is_some_and(|entry| entry.id.index <= before.index) {
            self.drop_oldest();
        }
        self.before = before;
    }

    /// Cached entries from `low` on; empty when `low` is older than the cache.
    pub(super) fn cached_from(&self, low: LogIndex) -> impl Iterator<Item = &LogEntry> {
        let first = self.cache.front().map_or(u64::MAX, |entry| entry.id.index.get());
        let skip = low.get().checked_sub(first).map_or(self.cache.len(), |skip| skip as usize);
        self.cache.iter().skip(skip)
    }

    /// Index of the oldest cached entry.
    pub(super) fn first_cached(&self) -> Option<LogIndex> {
        self.cache.front().map(|entry| entry.id.index)
    }

    fn drop_oldest(&mut self) {
        if let Some(entry) = self.cache.pop_front() {
            self.cached_bytes -= entry.data.len() + ENTRY_OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use cairn_core::journal::frame::EntryKind;

    fn id(index: u64, term: u64) -> LogId {
        LogId { index: LogIndex(index), term: Term(term) }
    }

    fn entry(index: u64, term: u64) -> LogEntry {
        LogEntry { id: id(index, term), kind: EntryKind::Normal, data: Bytes::from(vec![0; 36]) }
    }

    fn shape() -> LogShape {
        let mut shape = LogShape::new(id(4, 1), 1000);
        [(5, 1), (6, 2), (7, 2), (8, 4)].into_iter().for_each(|(index, term)| shape.push(entry(index, term)));
        shape
    }

    #[test]
    fn terms_are_known_from_the_one_before_the_first_to_the_last() {
        let terms: Vec<_> = (3..=9).map(|index| shape().term(LogIndex(index)).map(Term::get)).collect();
        assert_eq!(terms, [None, Some(1), Some(1), Some(2), Some(2), Some(4), None]);
    }

    #[test]
    fn truncation_and_trim_keep_the_terms_of_what_stays() {
        let mut shape = shape();
        shape.truncate(LogIndex(6));
        assert_eq!((shape.last(), shape.term(LogIndex(7))), (id(6, 2), None));
        shape.push(entry(7, 5));
        shape.trim(id(6, 2));
        let terms: Vec<_> = (5..=8).map(|index| shape.term(LogIndex(index)).map(Term::get)).collect();
        assert_eq!(terms, [None, Some(2), Some(5), None]);
        assert_eq!(shape.cached_from(LogIndex(7)).count(), 1);
    }

    #[test]
    fn the_cache_is_bounded_and_holds_the_newest() {
        let mut shape = LogShape::new(id(0, 0), 1000);
        (1..=100).for_each(|index| shape.push(entry(index, 1)));
        assert_eq!(shape.first_cached(), Some(LogIndex(91)));
        assert_eq!(shape.cached_from(LogIndex(99)).count(), 2);
        assert_eq!(shape.cached_from(LogIndex(50)).count(), 0);
    }
}
