//! What is committed and not yet applied. A leader applies at once: its answers and its next decision wait for that. A follower
//! gathers, since of the rows that entries write again and again only the last version is stored; nobody waits for it, and it
//! never has more than one tick of the group to catch up when it is elected.

use crate::journal::LogEntry;
use cairn_core::limits::{BACKLOG_ENTRIES_MAX, SEQUENCER_BATCH_BYTES_MAX};

/// Entries in the order of the log.
#[derive(Default)]
pub(super) struct Backlog {
    entries: Vec<LogEntry>,
    bytes: usize,
}

impl Backlog {
    pub(super) fn add(&mut self, committed: Vec<LogEntry>) {
        self.bytes += committed.iter().map(|entry| entry.data.len()).sum::<usize>();
        self.entries.extend(committed);
    }

    /// It is worth a batch of its own.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= BACKLOG_ENTRIES_MAX || self.bytes >= SEQUENCER_BATCH_BYTES_MAX
    }

    pub(super) fn take(&mut self) -> Vec<LogEntry> {
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }
}
